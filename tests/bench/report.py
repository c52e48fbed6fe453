"""Figures of the cases in, a table or JSON out."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from figures import Figures

RAW, RAW_COMPILED = "raw", "raw-compiled"
GROWTH = ("backfill", "backfill-large")
_MEGA = 1_000_000


def print_table(told: list[Figures], load_before: float) -> None:
    """For people."""
    table = Table(
        "case",
        *("versions", "versions/s\nwall", "CPU s per\n100 000", "versions/\nCPU second", "of raw\nloop"),
        *("of raw,\ncompiled", "peak\nMB", "grown\nMB", "grown B\nan order"),
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for each in told:
        row = _row(each, told)
        table.add_row(
            each.case,
            f"{each.versions:,}".replace(",", " "),
            f"{row['versions_a_second']:,.0f}".replace(",", " "),
            f"{row['cpu_seconds_a_100_000']:.2f}",
            f"{row['versions_a_cpu_second']:,.0f}".replace(",", " "),
            *(_percent(row["of_raw"]), _percent(row["of_raw_compiled"])),
            *(_number(row["peak_mb"]), _number(row["grown_mb"]), _number(row["grown_bytes_an_order"])),
        )
    console = Console(highlight=False)
    console.print(Table.grid()) if not told else Console(highlight=False, width=max(console.width, 120)).print(table)
    growth = growth_bytes_an_order(told)
    if growth is not None:
        console.print(f"Memory from {GROWTH[0]} to {GROWTH[1]}: {growth:.0f} bytes for each further order.")
    machine = _machine(load_before)
    console.print(
        f"{machine['cores']} cores, load {machine['load_before']:.1f} before and {machine['load_after']:.1f} after, "
        f"Python {machine['python']}. CPU is the producer's process with librdkafka's threads; Kafka and the "
        "simulated API run beside it."
    )


def as_json(told: list[Figures], load_before: float) -> str:
    """For programs."""
    return json.dumps(
        {
            "machine": _machine(load_before),
            "cases": [_row(each, told) for each in told],
            "growth_bytes_an_order": growth_bytes_an_order(told),
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


def _row(figures: Figures, told: list[Figures]) -> dict[str, Any]:
    grown = None if figures.grown_bytes_an_order is None else figures.grown_bytes_an_order * figures.orders
    return {
        "case": figures.case,
        "versions": figures.versions,
        "orders": figures.orders,
        "wall_seconds": figures.wall_seconds,
        "cpu_seconds": figures.cpu_seconds,
        "versions_a_second": figures.versions_a_second,
        "cpu_seconds_a_100_000": figures.cpu_seconds_a_100_000,
        "versions_a_cpu_second": figures.versions_a_cpu_second,
        "of_raw": _ratio(figures, told, RAW),
        "of_raw_compiled": _ratio(figures, told, RAW_COMPILED),
        "peak_mb": None if figures.peak_bytes is None else figures.peak_bytes / _MEGA,
        "grown_mb": None if grown is None else grown / _MEGA,
        "grown_bytes_an_order": figures.grown_bytes_an_order,
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
