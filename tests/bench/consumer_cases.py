"""The consumers' cases. Each runs in a fresh process, so that its memory can be measured."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from figures import Figures, measured
from ledger_runs import run_into_sqlite, run_ledger, run_ledger_twice, run_raw_loop

from consumers.cli.payout import PayoutOptions, request_of
from consumers.ledger.opening import open_engine
from consumers.payout.deduction import Rounding
from consumers.payout.execution import execute_payout
from consumers.payout.gross_file import read_pay
from consumers.payout.pain001 import Pain001Version
from consumers.payout.report import json_of
from consumers.replay.replay import Replay, ReplayOptions, Stream
from consumers.settings.model import load_settings
from consumers.verify.proof import ProofOptions, prove
from trekkpaalegg.cli import rare_garbage_collection
from trekkpaalegg.decode import Decoder
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from consumer_stage import Stage

EVENTS = 100_000
PAYOUT_DATE = "2026-12-15"
PAYER = ("Eksempel AS", "97104133219", "DNBANOKK", None)


class ConsumerCase(msgspec.Struct, frozen=True):
    """One case; all work on the same events. `against` is the raw loop that it is compared with."""

    name: str
    what: str
    run: Any
    """From a stage to figures."""

    against: str | None = None
    events: int = EVENTS

    def scaled(self, share: float) -> ConsumerCase:
        return msgspec.structs.replace(self, events=max(int(self.events * share), 10))


def run_consumer_case(name: str, stage: Stage) -> Figures:
    """Run the case of that name in this process."""
    run = next(case.run for case in CONSUMER_CASES if case.name == name)
    with rare_garbage_collection():  # as the commands do
        return msgspec.structs.replace(run(stage), case=name)


def _verify(stage: Stage, ledger: str | None = None) -> Figures:
    """`versions` are the messages of both topics."""
    settings = load_settings(None, stage.settings)

    def work() -> tuple[int, int, float]:
        proof = prove(settings, ProofOptions(ledger_url=ledger), _Unseen())
        if not proof.ok:
            raise RuntimeError(f"not proven: {[check.name for check in proof.checks if not check.ok]}")
        return proof.events, stage.events, proof.seconds

    return measured("verify", work)


def _verify_with_ledger(stage: Stage) -> Figures:
    return _verify(stage, stage.filled_ledger)


def _replay(stage: Stage) -> Figures:
    """All that the command does: build beside the live ledger, compare, swap."""
    settings = load_settings(None, stage.settings)
    stream = Stream(kafka_properties(settings), stage.topic("versjoner"), stage.topic("gjeldende"))

    def work() -> tuple[int, int, float]:
        begun = time.monotonic()
        replay = Replay(stream, Decoder(), ReplayOptions(), threading.Event(), _Unseen())
        outcome = replay.run(stage.filled_ledger)
        return outcome.events, stage.events, time.monotonic() - begun

    return measured("replay", work)


def _payout(stage: Stage) -> Figures:
    """All that the command does, from reading the gross pay to its files and its JSON. `versions` are persons."""
    folder = Path(stage.folder)
    request = request_of(
        PayoutOptions(
            date=PAYOUT_DATE,
            gross=Path(stage.gross),
            name="",
            trekkpliktig=frozenset(),
            rounding=Rounding.DOWN,
            follow_ended=False,
            christmas_eve=False,
            accepted=frozenset(),
            dry_run=False,
            payments_csv=folder / "payments.csv",
            pain001=folder / "payments.xml",
            pain001_version=Pain001Version.V09,
            amelding=folder / "amelding.csv",
            payer=PAYER,
        )
    )

    def work() -> tuple[int, int, float]:
        begun = time.monotonic()
        pays = read_pay(request.gross)
        report, _ = execute_payout(open_engine(stage.filled_ledger), request, pays)
        json_of(report)
        if not report.lines:
            raise RuntimeError("nothing was withheld")
        return len(pays), stage.events, time.monotonic() - begun

    return measured("payout", work)


class _Unseen:
    """Progress that is not shown."""

    def begin(self, *, continued: bool) -> None:
        pass

    def expect(self, messages: int) -> None:
        pass

    def advance(self, messages: int) -> None:
        pass

    def report(self, event: str, **details: object) -> None:
        pass


_RAW, _RAW_NEWEST = "ledger-raw", "ledger-newest-raw"
CONSUMER_CASES = (
    ConsumerCase(_RAW, "consume, fastavro, COPY of the ledger's rows", run_raw_loop, _RAW),
    ConsumerCase("ledger", "history, newest and periods into PostgreSQL", run_ledger, _RAW),
    ConsumerCase("ledger-two", "the same by two consumers side by side", run_ledger_twice, _RAW),
    ConsumerCase("ledger-sqlite", "the same into SQLite", run_into_sqlite, _RAW),
    ConsumerCase(
        _RAW_NEWEST, "the raw loop, newest and periods alone", lambda stage: run_raw_loop(stage, True), _RAW_NEWEST
    ),
    ConsumerCase(
        "ledger-newest", "newest and periods into PostgreSQL", lambda stage: run_ledger(stage, True), _RAW_NEWEST
    ),
    ConsumerCase("replay", "the ledger rebuilt beside itself, compared and swapped in", _replay, _RAW),
    ConsumerCase("verify", "both event topics proven", _verify),
    ConsumerCase("verify-ledger", "the topics and a ledger proven", _verify_with_ledger),
    ConsumerCase("payout", "a payout for so many persons, with all its files", _payout),
)
