"""Numbers, durations and tables as text for people."""

from __future__ import annotations

import statistics
import textwrap
from typing import TYPE_CHECKING, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FRAME = ("┏", "┡", "├", "└")
_BYTES_PER_MEGABYTE = 1_000_000


def grouped(number: int) -> str:
    """12345 as `12 345`."""
    return f"{number:,}".replace(",", " ")


def counted(number: int, one: str, several: str | None = None) -> str:
    """`1 order`, `2 orders`."""
    return f"{grouped(number)} {one if number == 1 else several or f'{one}s'}"


def seconds_text(seconds: float) -> str:
    """`0.8 s`, `12 s`."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - one digit before the point


def latency_text(seconds: float) -> str:
    """`0.64 s`, `41 ms`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s"  # noqa: PLR2004 - a tenth of a second


def megabytes_text(size_bytes: int) -> str:
    """`85 MB`, of a million bytes each."""
    return f"{size_bytes / _BYTES_PER_MEGABYTE:.0f} MB"


def cut(line: str, width: int) -> str:
    """The line, its end cut off where it is longer than `width`."""
    return line if len(line) <= width else f"{line[: width - 1]}…"


def wrapped(text: str, width: int, *, first: str = "", rest: str | None = None) -> list[str]:
    """The text in lines of at most `width`, the first beginning with `first`, the others with `rest`, or as far in."""
    rest = " " * len(first) if rest is None else rest
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def unframed(text: str) -> str:
    """A table as the programs print it, without the lines around and between its cells."""
    lines = [line.strip("│┃ ") for line in text.splitlines() if not line.startswith(_FRAME)]
    return "\n".join(line.replace("│", " ").replace("┃", " ").rstrip() for line in lines)


def shown_lines(text: str, width: int, lines_max: int) -> list[str]:
    """The first lines of a program's output, cut to `width`, and how many more there are."""
    lines = [line for line in text.splitlines() if line.strip()]
    shown = [cut(line, width) for line in lines[:lines_max]]
    more = len(lines) - len(shown)
    return [*shown, f"… and {counted(more, 'line')} more"] if more else shown


def named(identities: Iterable[tuple[str, int]], at_most: int = 3) -> str:
    """`10001/2, 10001/3 and 5 more`, of (trekkid, trekkversjon)."""
    ordered = sorted(identities)
    text = ", ".join(f"{trekkid}/{trekkversjon}" for trekkid, trekkversjon in ordered[:at_most])
    more = len(ordered) - at_most
    return f"{text} and {grouped(more)} more" if more > 0 else text


class Latencies(msgspec.Struct, frozen=True):
    """How long several took, in seconds."""

    fastest: float
    median: float
    slowest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Of one at least."""
        return cls(min(seconds), statistics.median(seconds), max(seconds))


def latencies_table(rows: Sequence[tuple[str, Latencies]]) -> str:
    """Ways and how long each took, a line each below their headings."""
    cells = [("", ["fastest", "median", "slowest"])]
    cells += [(way, [latency_text(each) for each in msgspec.structs.astuple(took)]) for way, took in rows]
    return "\n".join(f"  {name:24}" + "".join(f"{each:>10}" for each in rest) for name, rest in cells)


class Figures(msgspec.Struct):
    """What was measured in one run. Times in seconds, memory in bytes."""

    employers: int = 0
    orders: int = 0
    versions: int = 0
    seconds: float = 0.0
    backfill_versions: int = 0
    backfill_seconds: float = 0.0
    down_seconds: float = 0.0
    restart_seconds: list[float] = []
    polled_seconds: float = 0.0
    notified_seconds: float = 0.0
    quarantined: int = 0
    gaps_filled: int = 0
    lost: int = 0
    doubled: int = 0
    memory_bytes: int = 0
    stop_seconds: float = 0.0
    ledger_seconds: float = 0.0
    verify_seconds: float = 0.0

    @property
    def kills(self) -> int:
        """How often the producer was killed."""
        return len(self.restart_seconds)


def summary_rows(figures: Figures) -> list[tuple[str, str]]:
    """Name and value of every figure, as the demo ends with them."""
    ran_seconds = max(figures.backfill_seconds - figures.down_seconds, 0.001)
    rate = round(figures.backfill_versions / ran_seconds)
    restarts = " and ".join(seconds_text(each) for each in figures.restart_seconds)
    backfill = counted(figures.backfill_versions, "version")
    notified, polled = latency_text(figures.notified_seconds), latency_text(figures.polled_seconds)
    return [
        ("employers", grouped(figures.employers)),
        ("orders", grouped(figures.orders)),
        ("versions", grouped(figures.versions)),
        ("  lost", grouped(figures.lost)),
        ("  doubled", grouped(figures.doubled)),
        ("  gaps filled", f"{grouped(figures.gaps_filled)}, in no list, fetched by number"),
        ("quarantined", grouped(figures.quarantined)),
        ("kills", f"{figures.kills}, publishing again {restarts} after the restart"),
        ("back-fill", f"{backfill} in {seconds_text(figures.backfill_seconds)}, {grouped(rate)}/s while it lived"),
        ("swap", f"{notified} to Kafka when notified, {polled} when polled each second"),
        ("clean stop", seconds_text(figures.stop_seconds)),
        (
            "ledger",
            f"{grouped(figures.versions)} events in {seconds_text(figures.ledger_seconds)}, killed once in it",
        ),
        ("proof", f"topics, ledger and source compared in {seconds_text(figures.verify_seconds)}"),
        ("memory", f"{megabytes_text(figures.memory_bytes)}, the producer at its largest"),
        ("all of this", seconds_text(figures.seconds)),
    ]
