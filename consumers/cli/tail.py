"""`tail`: show events as they arrive, with national ids masked."""

from __future__ import annotations

import os
import re
from enum import Enum
from typing import Annotated

import typer

from consumers.bootstrap import decoding
from consumers.cli import PROGRAM, note, write
from consumers.settings.model import load_settings
from consumers.tail.tail import LineScreen, Selection, TailOptions, TailTally
from consumers.tail.tail import tail as follow_topic
from trekkpaalegg.cli import EnvFile, ExitCode, terminal_width
from trekkpaalegg.errors import SettingsError, StoppedError

_ORGANISASJONSNUMMER = re.compile(r"[0-9]{9}")


class StatusOption(Enum):
    """The values of `--status`."""

    AKTIV = "aktiv"
    AVSLUTTET = "avsluttet"
    UKJENT = "ukjent"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=f"Example: {PROGRAM} tail --from-beginning --trekkpliktig 314159265 --status aktiv")(tail)


def tail(  # noqa: PLR0913 - one parameter for each option
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this employer; may be repeated.")] = None,
    trekkid: Annotated[list[str] | None, typer.Option(help="Only this order; may be repeated.")] = None,
    status: Annotated[list[StatusOption] | None, typer.Option(help="Only this status; may be repeated.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Show all events, not only new ones.")
    ] = False,
    events_max: Annotated[int | None, typer.Option("--max", min=1, help="End after N events.", metavar="N")] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="End at the current end of the topic.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    env_file: EnvFile = None,
) -> int:
    """Show events as they arrive, one line each, with national ids masked. Ctrl-C ends it."""
    faults = _option_faults(trekkpliktig or [])
    try:
        settings = load_settings(env_file, os.environ)
    except SettingsError as error:
        raise SettingsError([*faults, *error.faults]) from error
    if faults:
        raise SettingsError(faults)
    selection = Selection(
        frozenset(trekkpliktig or []), frozenset(trekkid or []), frozenset(each.value for each in status or [])
    )
    options = TailOptions(selection, from_beginning, events_max, until_end)
    screen = LineScreen(write, note, as_json=as_json, width=terminal_width())
    tally = TailTally()
    try:
        with decoding(settings) as decoder:
            follow_topic(settings, decoder, options, screen, tally)
    except (KeyboardInterrupt, StoppedError):
        # Without --max and --until-end a signal is the normal end.
        note(str(tally))
        if options.has_goal:
            raise StoppedError from None
        return ExitCode.DONE
    except BrokenPipeError:
        return ExitCode.DONE  # the reader of the pipe has ended
    note(str(tally))
    return ExitCode.DONE


def _option_faults(trekkpliktig: list[str]) -> list[str]:
    """The faults of the options. No text quotes a value, which may be a national id given by mistake."""
    wrong = [number for number, each in enumerate(trekkpliktig, start=1) if not _ORGANISASJONSNUMMER.fullmatch(each)]
    return [f"--trekkpliktig: number {number} is not an organisation number of nine digits" for number in wrong]
