"""`doctor`: print the diagnosis of every dependency."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

from producer import bootstrap
from producer.admin.doctor import examine
from producer.cli import example, output
from producer.settings.model import read_settings
from trekkpaalegg.cli import AsJson, EnvFile
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    import typer

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


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    program.command(epilog=example("doctor --env-file production.env"))(doctor)


def doctor(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Check every dependency in turn: what was tried, what was found, what to do."""
    # The findings report every failure; log entries would repeat them.
    logging.getLogger().setLevel(logging.CRITICAL)
    settings, faults = read_settings(env_file, os.environ)
    run_doctor(settings, faults, output(as_json=as_json))
