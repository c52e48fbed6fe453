"""`replay`: rebuild a ledger from the topic and swap it in."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.progress import TextColumn

from consumers.apply.worker import BATCH_RECORDS_MAX, UNDECODABLE_MAX_DEFAULT
from consumers.bootstrap import decoding, ledger_url, topic_of
from consumers.cli import PROGRAM, LedgerUrl, note, write
from consumers.ledger.address import address_of
from consumers.replay.replay import Replay, ReplayOptions, Stream
from consumers.settings.model import load_settings
from trekkpaalegg.cli import EnvFile, ExitCode, progress_bar, rare_garbage_collection, stopped_by_signals
from trekkpaalegg.errors import SettingsError, StoppedError
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from typing import Self

    from consumers.replay.replay import ReplayOutcome

_PHASES = frozenset({"comparing", "swapping"})
_QUIET = _PHASES | {"partitions assigned", "partitions revoked"}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=f"Example: {PROGRAM} replay --ledger postgresql://payroll@localhost/payroll")(replay)


def replay(  # noqa: PLR0913 - one parameter for each option
    *,
    ledger: LedgerUrl = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help="`beginning`, or a time (UTC by default) such as 2026-11-01T00:00Z, from which a copy of the live"
            " ledger is corrected.",
            metavar="beginning|TIME",
        ),
    ] = "beginning",
    newest_only: Annotated[
        bool, typer.Option("--newest-only", help="Only the current state, from …-gjeldende: fast, no history.")
    ] = False,
    swap: Annotated[
        bool, typer.Option("--swap/--compare", help="Swap the new ledger in, or only show what differs.")
    ] = True,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Continue although the topic has lost messages that the ledger needs.")
    ] = False,
    undecodable_max: Annotated[
        int, typer.Option(min=0, help="Stop when more messages than this cannot be decoded.")
    ] = UNDECODABLE_MAX_DEFAULT,
    batch_max: Annotated[
        int, typer.Option(min=1, help="Maximum number of messages in one SQL transaction.")
    ] = BATCH_RECORDS_MAX,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    env_file: EnvFile = None,
) -> int:
    """Rebuild a ledger beside the live one, show the differences, and swap it in. An interrupted one continues.

    What payouts withheld is kept. The live consumer may keep running. If there is no ledger yet, one is created.
    """
    settings = load_settings(env_file, os.environ)
    begins = moment_of(start, datetime.now(UTC))
    if begins is not None and newest_only:
        raise SettingsError(["--from: gjeldende has no history to begin in; leave --newest-only or --from"])
    options = ReplayOptions(begins, newest_only, undecodable_max, swap, accept_loss, batch_max)
    url = ledger_url(ledger, settings)
    address_of(url)  # to report a wrong URL before Kafka is contacted
    topics = topic_of(settings, newest_only=False), topic_of(settings, newest_only=True)
    with (
        stopped_by_signals() as stopping,
        rare_garbage_collection(),
        _ReplayProgress() as watch,
        decoding(settings) as decoder,
    ):
        begun = Replay(Stream(kafka_properties(settings), *topics), decoder, options, stopping, watch)
        try:
            outcome = begun.run(url)
        except StoppedError:
            note("the live ledger is unchanged; a replay with the same options continues this one")
            raise
    if as_json:
        write(msgspec.json.encode(outcome).decode() + "\n")
    else:
        write(text_of(outcome, history=not newest_only))
    return ExitCode.DONE


def moment_of(text: str, now: datetime) -> datetime | None:
    """The time that `--from` gives; None for the beginning. Raises `SettingsError`. Pure."""
    if text == "beginning":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(["--from: give `beginning`, or a time such as 2026-11-01T00:00Z"]) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment.timestamp() < 0 or moment > now:
        raise SettingsError(["--from: give a time between 1970 and now, or `beginning`"])
    return moment


def text_of(outcome: ReplayOutcome, *, history: bool) -> str:
    """What happened, in lines. `history`: whether there is any in what was replayed. Pure."""
    lines = [f"{outcome.events} events replayed{', continuing an interrupted one' if outcome.continued else ''}"]
    lines += [f"LOST: {loss}" for loss in outcome.losses]
    if outcome.undecodable:
        lines.append(f"{outcome.undecodable} could not be decoded; `{PROGRAM} retry` tries them again")
    lines += [
        f"{each.table}: {each.only_live} rows only in the live ledger, {each.only_fresh} only in the replayed one, "
        f"{each.changed} differ"
        for each in outcome.differences.counts
    ]
    lines += [f"  {line}" for line in outcome.differences.shown]
    if not outcome.differences:
        lines.append("the live ledger was equal in every replayed row")
    for offsets, place in ((outcome.live_ahead, "ahead of it"), (outcome.live_behind, "behind it")):
        if offsets:
            lines.append(f"the live ledger was {offsets} offsets {place} then, which may explain all differences")
    if not history:
        lines.append("newest versions only: the replayed ledger has no history")
    lines.append("swapped in" if outcome.swapped else "not swapped in: the live ledger is unchanged")
    return "\n".join(lines) + "\n"


class _ReplayProgress:
    """The progress bar of a replay, and notes on stderr."""

    def __init__(self) -> None:
        self._bar = progress_bar(TextColumn("{task.fields[rate]} offsets/s"))
        self._quiet = _QUIET if self._bar.disable else _QUIET | {"applied"}
        self._offsets = 0
        self._task = self._bar.add_task("reading", total=None, rate="…")

    def begin(self, *, continued: bool) -> None:
        """See `ReplayWatch`."""
        if continued:
            note("continuing a replay that was interrupted")

    def expect(self, offsets: int) -> None:
        """See `ReplayWatch`."""
        self._offsets += offsets
        self._bar.update(self._task, total=self._offsets)

    def advance(self, offsets: int) -> None:
        """See `ReplayWatch`."""
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, advance=offsets, rate="…" if speed is None else f"{speed:.0f}")

    def report(self, event: str, **details: object) -> None:
        """See `ReplayWatch`."""
        if event in _PHASES:
            self._bar.update(self._task, description=event)
        if event not in self._quiet:
            note(" ".join([event, *(f"{name}={value}" for name, value in details.items())]))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
