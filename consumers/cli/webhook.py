"""`webhook`: forward events to an HTTP address; list, release and drop parked events."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumers.cli import PROGRAM, note, write
from consumers.settings.model import load_settings
from consumers.webhook.delivery import new_secret
from consumers.webhook.forward import Limits
from consumers.webhook.opening import open_store, state_address
from consumers.webhook.schedule import RetryPolicy
from consumers.webhook.service import Options, observing
from consumers.webhook.service import forward as forward_events
from trekkpaalegg.cli import EnvFile, ExitCode, Yes, confirm, stopped_by_signals
from trekkpaalegg.errors import SettingsError, StoppedError
from trekkpaalegg.identifiers import mask_for_display

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.webhook.store import ForwarderStore, Parked
    from trekkpaalegg.incoming import Coordinates

_EXAMPLE = f"Example: {PROGRAM} webhook"
_State = Annotated[
    str | None,
    typer.Option("--state", help="Database for the position and undelivered events: sqlite:///FILE or postgresql://…"),
]
_Orders = Annotated[list[str] | None, typer.Option("--trekkid", help="Only this order; may be repeated.")]
_Places = Annotated[
    list[str] | None,
    typer.Option("--at", help="Only the event at PARTITION/OFFSET; may be repeated.", metavar="PARTITION/OFFSET"),
]
_webhook = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(_webhook, name="webhook")


@_webhook.callback(
    invoke_without_command=True,
    epilog=f"{_EXAMPLE} --to https://payroll.example/trekk --state sqlite:///webhook.db",
)
def forward(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    *,
    to: Annotated[str | None, typer.Option("--to", help="Address, or TREKKPAALEGG_FORWARD_URL.", metavar="URL")] = None,
    state: _State = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Maximum deliveries at a time.")] = 4,
    attempts_max: Annotated[int, typer.Option("--attempts-max", min=1, help="Failures until an event is parked.")] = 12,
    first_pause: Annotated[float, typer.Option(min=0.01, help="Seconds after the first failure; then doubled.")] = 5.0,
    longest_pause: Annotated[float, typer.Option(min=0.01, help="The longest pause, in seconds.")] = 3600.0,
    answer_within: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 30.0,
    parked_max: Annotated[int, typer.Option("--parked-max", min=0, help="Stop when more events are parked.")] = 100,
    backlog_max: Annotated[int, typer.Option("--backlog-max", min=1, help="Pause reading at this many.")] = 1000,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="Permit http:// to other machines, for bodies with national ids.")
    ] = False,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="End when every event is delivered or parked.")
    ] = False,
    env_file: EnvFile = None,
) -> int:
    """Forward each event as a signed CloudEvent to a payroll system's HTTP address. SIGTERM or Ctrl-C ends it."""
    if context.invoked_subcommand is not None:
        return ExitCode.DONE
    given = {"TREKKPAALEGG_FORWARD_URL": to} if to else {}
    settings = load_settings(env_file, {**os.environ, **given})
    options = Options(
        state,
        allow_plain_http=allow_plain_http,
        until_end=until_end,
        answer_seconds=answer_within,
        limits=Limits(concurrency, backlog_max, parked_max, RetryPolicy(attempts_max, first_pause, longest_pause)),
    )
    with stopped_by_signals(second_interrupts=True) as stopping:
        try:
            with observing(settings, note) as observer:
                forward_events(settings, options, note, stopping, observer)
        except (KeyboardInterrupt, StoppedError):
            stopping.set()
    # Without --until-end a signal is how the command is meant to end.
    if stopping.is_set() and until_end:
        raise StoppedError
    return ExitCode.DONE


@_webhook.command(epilog=f"{_EXAMPLE} secret")
def secret() -> int:
    """Print a new secret for TREKKPAALEGG_FORWARD_SECRET, which the receiver checks signatures with."""
    write(f"{new_secret()}\n")
    return ExitCode.DONE


@_webhook.command(epilog=f"{_EXAMPLE} parked --state sqlite:///webhook.db")
def parked(
    *,
    state: _State = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """List parked events, with the number of events queued behind each."""
    with _opened(state) as store:
        found = store.parked()
    for each in found:
        document = _document(each)
        write(f"{json.dumps(document, ensure_ascii=False) if as_json else _line(document)}\n")
    note(f"{len(found)} parked, {sum(each.queued for each in found)} behind them")
    return ExitCode.DONE


@_webhook.command(epilog=f"{_EXAMPLE} release --state sqlite:///webhook.db --trekkid 10001")
def release(*, state: _State = None, trekkid: _Orders = None, at: _Places = None) -> int:
    """Send parked events again, then those queued behind them; all if none is named. The forwarder may keep running."""
    with _opened(state) as store:
        chosen = _chosen(store.parked(), trekkid, at)
        note(f"{store.release([each.coordinates for each in chosen])} released")
    return ExitCode.DONE


@_webhook.command(epilog=f"{_EXAMPLE} drop --state sqlite:///webhook.db --at 2/1017")
def drop(
    *,
    state: _State = None,
    trekkid: _Orders = None,
    at: _Places = None,
    drop_all: Annotated[bool, typer.Option("--all", help="All parked events.")] = False,
    yes: Yes = False,
) -> int:
    """Discard parked events, which are then never delivered. Those queued behind them are."""
    if not trekkid and not at and not drop_all:
        raise SettingsError(["name the events to drop with --trekkid or --at, or all with --all"])
    with _opened(state) as store:
        chosen = _chosen(store.parked(), trekkid, at)
        for each in chosen:
            note(_line(_document(each)))
        if chosen:
            confirm(f"Drop {len(chosen)} for good?", yes=yes)
        note(f"{store.drop([each.coordinates for each in chosen])} dropped")
    return ExitCode.DONE


@contextmanager
def _opened(state: str | None) -> Iterator[ForwarderStore]:
    store = open_store(state_address(state), make=False)
    try:
        yield store
    finally:
        store.close()


def _chosen(found: list[Parked], orders: list[str] | None, places: list[str] | None) -> list[Parked]:
    if not orders and not places:
        return found
    return [each for each in found if each.order in (orders or []) or _place(each.coordinates) in (places or [])]


def _place(coordinates: Coordinates) -> str:
    return f"{coordinates.partition}/{coordinates.offset}"


def _document(each: Parked) -> dict[str, Any]:
    return {
        "at": _place(each.coordinates),
        "topic": each.coordinates.topic,
        "trekkid": mask_for_display(each.order),
        "id": mask_for_display(each.event_id),
        "parked": datetime.fromtimestamp(each.parked_seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "failures": each.failures,
        "reason": mask_for_display(each.reason),
        "behind": each.queued,
    }


def _line(document: dict[str, Any]) -> str:
    return "{at:10} {parked} {id:20} {behind:3} behind  {reason}".format_map(document)
