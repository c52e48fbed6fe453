"""What stands in the two event topics and what the source holds in, every fault in what was published out. Pure.

The proof of exactly once. It shares no code with the producer, so that an error of the producer is not made twice.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from consumers.event import TrekkpaaleggVersjon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


FAULTS_SHOWN_MAX = 20
"""How many faults a message names."""


class Published(msgspec.Struct, frozen=True):
    """One event as it stands in a topic, in the order of its partition."""

    partition: int
    offset: int
    key: str
    event: TrekkpaaleggVersjon
    ce_id: str
    late: bool = False
    correction: int | None = None
    origin: str = "poll"

    @property
    def identity(self) -> tuple[str, int]:
        """(trekkid, trekkversjon)."""
        return self.event.trekkid, self.event.trekkversjon


def faults_of(
    versjoner: Sequence[Published],
    gjeldende: Sequence[Published],
    source: Mapping[tuple[str, int], TrekkpaaleggVersjon],
) -> list[str]:
    """Everything that is not as promised, a sentence each; none when each version of `source` stands exactly once.

    1. `…-versjoner` holds every version of the source once and no other, save corrections, which are numbered 1, 2, …
    2. Versions of an order rise, save those marked late, and each order is in one partition.
    3. `…-gjeldende` never steps back, and ends at the newest version.
    4. Content, of the last correction where there are any, is the source's; keys and `ce_id` name the event.
    """
    return [
        *_once_each(versjoner, source),
        *_in_order(versjoner),
        *_newest_last(versjoner, gjeldende),
        *_as_in_source(versjoner, "versjoner", source),
        *_as_in_source(gjeldende, "gjeldende", source),
    ]


def _once_each(versjoner: Sequence[Published], source: Mapping[tuple[str, int], object]) -> Iterator[str]:
    counts = Counter(each.identity for each in versjoner if each.correction is None)
    for identity, count in counts.items():
        if count > 1:
            yield f"{_named(identity)} stands {count} times in versjoner"
        if identity not in source:
            yield f"{_named(identity)} is in versjoner and not in the source"
    for identity in source.keys() - counts.keys():
        yield f"{_named(identity)} is missing from versjoner"
    corrections: dict[tuple[str, int], list[int]] = {}
    for each in versjoner:
        if each.correction is not None:
            corrections.setdefault(each.identity, []).append(each.correction)
    for identity, numbers in corrections.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"corrections of {_named(identity)} are numbered {numbers}"


def _in_order(versjoner: Sequence[Published]) -> Iterator[str]:
    newest: dict[str, int] = {}
    partitions: dict[str, int] = {}
    for each in versjoner:
        trekkid, trekkversjon = each.identity
        if partitions.setdefault(trekkid, each.partition) != each.partition:
            yield f"{trekkid} is in more than one partition of versjoner"
        if each.late or each.correction is not None:
            continue
        if trekkversjon <= newest.get(trekkid, 0):
            yield f"{_named(each.identity)} comes after version {newest[trekkid]} in versjoner"
        newest[trekkid] = max(newest.get(trekkid, 0), trekkversjon)


def _newest_last(versjoner: Sequence[Published], gjeldende: Sequence[Published]) -> Iterator[str]:
    newest: dict[str, int] = {}
    for each in versjoner:
        newest[each.event.trekkid] = max(newest.get(each.event.trekkid, 0), each.event.trekkversjon)
    last: dict[str, Published] = {}
    for each in gjeldende:
        before = last.get(each.key)
        step = each.event.trekkversjon - before.event.trekkversjon if before else 1
        if step < 0 or (step == 0 and each.correction is None):
            yield f"{_named(each.identity)} comes after version {before and before.event.trekkversjon} in gjeldende"
        if each.late:
            yield f"{_named(each.identity)} is late and yet in gjeldende"
        last[each.key] = each
    for trekkid, trekkversjon in newest.items():
        found = last.get(trekkid)
        if found is None or found.event.trekkversjon != trekkversjon:
            yield f"{trekkid} ends at {found and found.event.trekkversjon} in gjeldende, at {trekkversjon} in versjoner"
    for trekkid in last.keys() - newest.keys():
        yield f"{trekkid} is in gjeldende and not in versjoner"


def _as_in_source(
    published: Sequence[Published], topic: str, source: Mapping[tuple[str, int], TrekkpaaleggVersjon]
) -> Iterator[str]:
    final: dict[tuple[str, int], Published] = {}
    for each in published:
        final[each.identity] = each
        number = "" if each.correction is None else f"/{each.correction}"
        if each.key != each.event.trekkid or each.ce_id != f"{each.key}/{each.event.trekkversjon}{number}":
            yield f"{_named(each.identity)} stands under the key {each.key} and the ce_id {each.ce_id} in {topic}"
    for identity, each in final.items():
        wanted = source.get(identity)
        if wanted is None:
            continue
        fields = [name for name in wanted.__struct_fields__ if getattr(wanted, name) != getattr(each.event, name)]
        if fields:
            yield f"{_named(identity)} in {topic} is otherwise than in the source: {', '.join(fields)}"


def _named(identity: tuple[str, int]) -> str:
    return f"{identity[0]}/{identity[1]}"
