"""`doctor`: print the diagnosis of every dependency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

from producer import bootstrap
from producer.admin.doctor import examine
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output


def run_doctor(settings: Settings, faults: list[str], output: Output) -> None:
    """Check every dependency and print the findings. Raises `FatalError` if a check failed.

    `settings` are those that can be used, `faults` what is wrong with the others.
    """
    with bootstrap.doctor_adapters(settings) as adapters:
        findings = examine(settings, faults, adapters)
    if output.as_json:
        output.json([msgspec.to_builtins(each) for each in findings])
    else:
        table = Table("", "check", "tried", "found", "what to do", show_lines=True)
        for each in findings:
            mark = {"ok": "✓", "failed": "✗", "skipped": "-"}[each.verdict]
            table.add_row(mark, each.name, each.tried, each.found, each.todo)
        output.table(table)
    failed = [each.name for each in findings if each.verdict == "failed"]
    if failed:
        raise FatalError(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}; see what to do beside each"
        )
