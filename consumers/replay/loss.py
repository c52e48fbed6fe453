"""What a topic still holds and how far two ledgers have come in, what a replay would lose out. Pure.

A topic that has lost messages gives a ledger without their orders, and nobody would be withheld for them any more: the
most dangerous thing that a replay can do. So it is found before anything is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.ledger.port import Partition
    from consumers.stream.whole_topic import Extent


def missing_of(extent: Extent, next_offsets: Mapping[int, int]) -> dict[int, int]:
    """By partition, the first offset that is still there, where reading was to begin before it."""
    return {partition: begin for partition, begin in extent.begins.items() if next_offsets.get(partition, 0) < begin}


def losses_of(
    read_topic: str,
    extents: Mapping[str, Extent],
    next_offsets: Mapping[int, int],
    live: Mapping[Partition, int],
    *,
    copied: bool,
) -> list[str]:
    """Every loss, a line each.

    `extents` are those of the topics that the ledger can have been filled from, taken after `live`, its offsets.
    `next_offsets` say where `read_topic` is going to be read. With `copied` what the live ledger has is kept, whatever
    has become of the topic since.
    """
    found = [
        f"{read_topic}/{partition} begins at offset {begin}, and is to be read from {next_offsets.get(partition, 0)}:"
        " messages were deleted"
        for partition, begin in sorted(missing_of(extents[read_topic], next_offsets).items())
    ]
    others = sorted({topic for topic, _ in live} - extents.keys())
    if others and len(others) == len({topic for topic, _ in live}):
        found.append(f"the live ledger was filled from {', '.join(others)}, and not from {read_topic}")
    for (topic, partition), offset in sorted(live.items()):
        if copied or topic not in extents:
            continue
        end = extents[topic].ends.get(partition, 0)
        if offset > end:
            found.append(
                f"the live ledger has come to offset {offset} of {topic}/{partition}, which ends at {end}: the topic"
                " was made anew, or has lost its last messages"
            )
    return found
