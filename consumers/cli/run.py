"""`run`: apply events to a ledger until a signal ends it."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from consumers.apply.worker import BATCH_RECORDS_MAX, UNDECODABLE_MAX_DEFAULT, LedgerWorker
from consumers.bootstrap import decoding, ledger_url, observing, subscribe, topic_of
from consumers.cli import PROGRAM, LedgerUrl
from consumers.ledger.opening import open_ledger
from consumers.settings.model import load_settings
from trekkpaalegg.cli import EnvFile, ExitCode, rare_garbage_collection, stopped_by_signals
from trekkpaalegg.errors import StoppedError
from trekkpaalegg.exactly_once.worker import StoreThread, WorkerOptions
from trekkpaalegg.logs import configure_logs
from trekkpaalegg.retry import Service, ServiceRetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from consumers.ledger.port import Ledger
    from consumers.settings.model import Settings

_CLOSE_SECONDS_MAX = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(epilog=f"Example: {PROGRAM} run --ledger postgresql://payroll@localhost/payroll")(run)


def run(
    *,
    ledger: LedgerUrl = None,
    newest_only: Annotated[
        bool, typer.Option("--newest-only", help="Only the newest versions, from …-gjeldende: no history.")
    ] = False,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="End when everything committed at the start is applied.")
    ] = False,
    undecodable_max: Annotated[
        int, typer.Option(min=0, help="Stop when the ledger has more undecodable messages.")
    ] = UNDECODABLE_MAX_DEFAULT,
    batch_max: Annotated[
        int, typer.Option(min=1, help="Maximum number of messages in one SQL transaction.")
    ] = BATCH_RECORDS_MAX,
    env_file: EnvFile = None,
) -> int:
    """Apply events to a ledger exactly once, until SIGTERM. Several processes may share the work on one ledger."""
    settings = load_settings(env_file, os.environ)
    url = ledger_url(ledger, settings)
    configure_logs()
    options = WorkerOptions(
        until_end=until_end,
        undecodable_max=undecodable_max,
        batch_records_max=batch_max,
        waits_at_start=settings.consumer_http_port is not None and not until_end,
    )
    with stopped_by_signals() as stopping, rare_garbage_collection():
        work(settings, url, options, stopping, structlog.get_logger().info, newest_only=newest_only)
        if until_end and stopping.is_set():
            raise StoppedError
    return ExitCode.DONE


def work(
    settings: Settings,
    url: str,
    options: WorkerOptions,
    stopping: threading.Event,
    report: Callable[..., None],
    open_at: Callable[[str], Ledger] = open_ledger,
    *,
    newest_only: bool = False,
) -> None:
    """Apply events to the ledger at `url` until `stopping` is set. Raises as `Worker.run` and `open_ledger`.

    `report(event, **details)` is called with what an operator may want to know. `open_at` opens the ledger; tests
    pass one whose ledger fails.
    """
    topic = topic_of(settings, newest_only=newest_only)
    store_thread = StoreThread()
    with observing(settings, report) as observer, decoding(settings) as decoder:
        opening = partial(open_at, url)
        if options.waits_at_start:
            opening = partial(ServiceRetry(stopping, report, observer).call, Service.LEDGER, opening)
        ledger = store_thread.submit(opening).result()
        worker = LedgerWorker(
            ledger, store_thread, decoder, stopping, report, options, observer, newest_only=newest_only
        )
        report("started", topic=topic, ledger=ledger.id, undecodable_max=options.undecodable_max)
        try:
            worker.run(lambda owner: subscribe(settings, topic, ledger, owner))
        finally:
            store_thread.submit(ledger.close)
            store_thread.close(_CLOSE_SECONDS_MAX)
            tally = worker.tally
            report("ended", events=tally.events, undecodable=tally.undecodable, conflicts=worker.conflicts)
