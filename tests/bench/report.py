"""Print the figures of the cases as tables or JSON."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

from consumer_cases import CONSUMER_CASES
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from figures import Figures
    from many_cases import Measures

RAW, RAW_COMPILED = "raw", "raw-compiled"
GROWTH = ("backfill", "backfill-large")
_AGAINST = {case.name: case.against for case in CONSUMER_CASES}
_WIDTH_MIN = 120
_MEGA = 1_000_000


def print_tables(produced: list[Figures], many: list[Measures], consumed: list[Figures], load_before: float) -> None:
    """For people."""
    console = Console(highlight=False)
    if console.width < _WIDTH_MIN:
        console = Console(highlight=False, width=_WIDTH_MIN)
    if produced:
        console.print(_producer_table(produced))
    growth = growth_bytes_an_order(produced)
    if growth is not None:
        console.print(f"Memory from {GROWTH[0]} to {GROWTH[1]}: {growth:.0f} bytes for each further order.")
    if many:
        console.print(_many_table(many))
    if consumed:
        console.print(_consumer_table(consumed))
    machine = _machine(load_before)
    console.print(
        f"{machine['cores']} cores, load {machine['load_before']:.1f} before and {machine['load_after']:.1f} after, "
        f"Python {machine['python']}. CPU is the producer's or consumer's process with librdkafka's threads; Kafka, "
        "PostgreSQL and the simulated API run beside it."
    )


def as_json(produced: list[Figures], many: list[Measures], consumed: list[Figures], load_before: float) -> str:
    """For programs."""
    return json.dumps(
        {
            "machine": _machine(load_before),
            "cases": [*(_producer_row(each, produced) for each in produced), *consumer_rows(consumed)],
            "many": [{"case": each.case, "size": each.size, **each.measures} for each in many],
            "growth_bytes_an_order": growth_bytes_an_order(produced),
        },
        indent=2,
    )


def growth_bytes_an_order(told: list[Figures]) -> float | None:
    """How much more memory the larger back-fill has grown by than the smaller, for each order that it had more."""
    small, large = (next((each for each in told if each.case == name), None) for name in GROWTH)
    if small is None or large is None or large.orders <= small.orders:
        return None
    if None in (small.before_bytes, small.after_bytes, large.before_bytes, large.after_bytes):
        return None
    grown_small, grown_large = small.after_bytes - small.before_bytes, large.after_bytes - large.before_bytes
    return (grown_large - grown_small) / (large.orders - small.orders)


def consumer_rows(told: list[Figures]) -> list[dict[str, Any]]:
    """A row for each, with its shares of the raw loop: by CPU seconds, and by the wall clock."""
    by_name = {each.case: each for each in told}
    rows = []
    for each in told:
        raw = by_name.get(_AGAINST[each.case] or "")
        of_raw = raw and each.versions_a_cpu_second / raw.versions_a_cpu_second
        of_raw_wall = raw and each.versions_a_second / raw.versions_a_second
        rows.append(_row(each) | {"of_raw": of_raw, "of_raw_wall": of_raw_wall, "rows_digest": each.rows_digest})
    return rows


def _producer_table(told: list[Figures]) -> Table:
    table = _table(
        *("case", "versions", "versions/s\nwall", "CPU s per\n100 000", "versions/\nCPU second", "of raw\nloop"),
        *("of raw,\ncompiled", "peak\nMB", "grown\nMB", "grown B\nan order"),
    )
    for each in told:
        row = _producer_row(each, told)
        table.add_row(
            *_measures(row),
            *(_percent(row["of_raw"]), _percent(row["of_raw_compiled"])),
            *(_number(row["peak_mb"]), _number(row["grown_mb"]), _number(row["grown_bytes_an_order"])),
        )
    return table


def _many_table(told: list[Measures]) -> Table:
    table = _table("case", "size", "measure", "value")
    for each in told:
        for name, value in each.measures.items():
            table.add_row(each.case, _number(each.size), name.replace("_", " "), f"{value:,.2f}".replace(",", " "))
    return table


def _consumer_table(told: list[Figures]) -> Table:
    table = _table(
        *("case", "events", "events/s\nwall", "CPU s per\n100 000", "events/\nCPU second"),
        *("of raw loop,\nCPU", "of raw loop,\nwall", "wall\ns", "peak\nMB"),
    )
    for row in consumer_rows(told):
        shares = (_percent(row["of_raw"]), _percent(row["of_raw_wall"]))
        table.add_row(*_measures(row), *shares, f"{row['wall_seconds']:.1f}", _number(row["peak_mb"]))
    return table


def _table(*columns: str) -> Table:
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _measures(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["case"],
        _number(row["versions"]),
        _number(row["versions_a_second"]),
        f"{row['cpu_seconds_a_100_000']:.2f}",
        _number(row["versions_a_cpu_second"]),
    )


def _producer_row(figures: Figures, told: list[Figures]) -> dict[str, Any]:
    grown = None if figures.grown_bytes_an_order is None else figures.grown_bytes_an_order * figures.orders
    return _row(figures) | {
        "of_raw": _ratio(figures, told, RAW),
        "of_raw_compiled": _ratio(figures, told, RAW_COMPILED),
        "grown_mb": None if grown is None else grown / _MEGA,
        "grown_bytes_an_order": figures.grown_bytes_an_order,
    }


def _row(figures: Figures) -> dict[str, Any]:
    return {
        "case": figures.case,
        "versions": figures.versions,
        "orders": figures.orders,
        "wall_seconds": figures.wall_seconds,
        "cpu_seconds": figures.cpu_seconds,
        "versions_a_second": figures.versions_a_second,
        "cpu_seconds_a_100_000": figures.cpu_seconds_a_100_000,
        "versions_a_cpu_second": figures.versions_a_cpu_second,
        "peak_mb": None if figures.peak_bytes is None else figures.peak_bytes / _MEGA,
    }


def _ratio(figures: Figures, told: list[Figures], name: str) -> float | None:
    against = next((each for each in told if each.case == name), None)
    return against and figures.versions_a_cpu_second / against.versions_a_cpu_second


def _machine(load_before: float) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}".replace(",", " ")
