"""`verify`: check topics, ledger and source against each other, and print the differences."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers.cli import PROGRAM, write
from consumers.settings.model import load_settings
from consumers.verify.findings import PROMISES, Check, Difference, Proof
from consumers.verify.proof import ProofOptions, prove
from trekkpaalegg.cli import EnvFile, ExitCode, extra_hint, progress_bar, rare_garbage_collection, terminal_width
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from consumers.settings.model import Settings
    from consumers.verify.source import SourceAccess

DIFFERENCES_SHOWN_MAX = 20
_WIDTH_DEFAULT = 120


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=f"Example: {PROGRAM} verify --ledger sqlite:///ledger.db --json")(verify)


def verify(
    *,
    ledger: Annotated[
        str | None,
        typer.Option(
            help="Compare this ledger too: postgresql://… or sqlite:///…; default: TREKKPAALEGG_LEDGER.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    topics_only: Annotated[bool, typer.Option("--topics-only", help="Compare no ledger, even if one is set.")] = False,
    api: Annotated[bool, typer.Option("--api", help="Compare the newest versions with the source too.")] = False,
    every_version: Annotated[
        bool, typer.Option("--every-version", help="With --api: compare every version by number; slow.")
    ] = False,
    headers: Annotated[
        bool,
        typer.Option("--headers/--no-headers", help="Compare every header with its value; takes half of the time."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every difference.")] = False,
    env_file: EnvFile = None,
) -> int:
    """Check that every version is in the topic exactly once and in order, and that gjeldende, ledger and source agree.

    Exit code 0 if all checks hold, else 1 with the exact differences.
    """
    if topics_only and (ledger is not None or api):
        raise SettingsError(["--topics-only: give it without --ledger and --api"])
    if every_version and not api:
        raise SettingsError(["--every-version: give it with --api"])
    settings, source = _settings(env_file, with_source=api)
    if ledger is None and settings.ledger is not None and not topics_only:
        ledger = settings.ledger.get_secret_value()
    options = ProofOptions(ledger, source, every_version, headers)
    with rare_garbage_collection(), _ProofProgress() as progress:
        proof = prove(settings, options, progress)
    if as_json:
        write(msgspec.json.encode(document_of(proof)).decode() + "\n")
    else:
        _print(proof)
    return ExitCode.DONE if proof.ok else ExitCode.FAILED


def _settings(env_file: Path | None, *, with_source: bool) -> tuple[Settings, SourceAccess | None]:
    """The settings, and those of the source if wanted. Raises `SettingsError` with the faults of both, each once."""
    faults: list[str] = []
    settings = source = None
    try:
        settings = load_settings(env_file, os.environ)
    except SettingsError as error:
        faults += error.faults
    try:
        source = _load_source_access(env_file) if with_source else None
    except SettingsError as error:
        faults += [fault for fault in error.faults if fault not in faults]
    if settings is None or faults:
        raise SettingsError(faults)
    return settings, source


def _load_source_access(env_file: Path | None) -> SourceAccess:
    """What `--api` needs. Raises `SettingsError`, and `FatalError` when the packages of its extra are not installed."""
    try:
        from consumers.verify.source import load_source_access  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise FatalError(extra_hint("verify --api", error.name or "a package", "verify-api")) from error
    return load_source_access(env_file, os.environ)


def document_of(proof: Proof) -> dict[str, Any]:
    """The document that `--json` prints. Pure."""
    return {
        "ok": proof.ok,
        "events": proof.events,
        "seconds": proof.seconds,
        "checks": [
            {
                "name": check.name,
                "promise": PROMISES[check.name],
                "ok": check.ok,
                "examined": check.examined,
                "unit": check.unit,
                "notes": check.notes,
                "differences": check.differences,
            }
            for check in proof.checks
        ],
    }


def line_of(difference: Difference) -> str:
    """A difference for people: version, text, fields and place. Pure."""
    named = difference.trekkid or ""
    if difference.trekkversjon is not None:
        named += f"/{difference.trekkversjon}"
    if difference.correction is not None:
        named += f"/{difference.correction}"
    parts = [named, difference.what]
    if difference.fields:
        parts.append(f"({', '.join(difference.fields)})")
    if difference.place:
        parts.append(f"at {difference.place}")
    return " ".join(part for part in parts if part)


def _print(proof: Proof) -> None:
    console = Console(width=terminal_width() or _WIDTH_DEFAULT, highlight=False, soft_wrap=False)
    table = Table("check", "holds", "examined", "differences", "what is promised")
    for check in proof.checks:
        table.add_row(
            check.name,
            Text("yes", style="green") if check.ok else Text("NO", style="bold red"),
            f"{check.examined} {check.unit}",
            str(len(check.differences)),
            "; ".join([PROMISES[check.name], *check.notes]),
        )
    console.print(table)
    for check in proof.checks:
        _print_differences(console, check)
    verdict = "all checks hold" if proof.ok else "NOT all checks hold"
    console.print(f"{verdict}; {proof.events} messages read in {proof.seconds:.1f} s", markup=False)


def _print_differences(console: Console, check: Check) -> None:
    if check.ok:
        return
    console.print(f"\n{check.name}: {len(check.differences)} differences", style="bold", markup=False)
    for difference in check.differences[:DIFFERENCES_SHOWN_MAX]:
        console.print(f"  {line_of(difference)}", markup=False, soft_wrap=True)
    more = len(check.differences) - DIFFERENCES_SHOWN_MAX
    if more > 0:
        console.print(f"  and {more} more; --json gives all", markup=False)


class _ProofProgress:
    """The progress bar of a proof."""

    def __init__(self) -> None:
        self._bar = progress_bar()
        self._task = self._bar.add_task("reading", total=0)
        self._total = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def expect(self, messages: int) -> None:
        """See `Progress`."""
        self._total += messages
        self._bar.update(self._task, total=self._total)

    def advance(self, messages: int) -> None:
        """See `Progress`."""
        self._bar.advance(self._task, messages)
