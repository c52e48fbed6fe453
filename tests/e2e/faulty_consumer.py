"""A program: `run` as it is, but with a ledger that strikes at a chosen step of a batch.

``faulty_consumer.py BATCHES FAULT…`` runs one consumer after another, each with a group of its own, on the same ledger:
it lets BATCHES batches end well and meets its FAULT in the next. `kill-…` ends the process at that step, `sleep-…`
stops it there (SIGSTOP). The last FAULT may be `none`: that consumer runs until it is told to stop. Settings come from
the environment, as ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from consumers.cli.run import work
from consumers.ledger.opening import open_ledger
from consumers.settings.model import load_settings
from trekkpaalegg.cli import ExitCode, ending_of
from trekkpaalegg.exactly_once.worker import WorkerOptions
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

DURING_COMMIT_SECONDS = 0.001
DEATH_SECONDS_MAX = 60.0
BATCH_RECORDS_MAX = 20


class FaultyLedger:
    """A real ledger, save for one batch."""

    def __init__(self, url: str, batches_before: int, fault: str) -> None:
        self._real = open_ledger(url)
        self._batches_before = batches_before
        self._fault = fault
        self._striking = threading.Lock()
        self.id = self._real.id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @contextmanager
    def transaction(self, advances: Any) -> Iterator[Any]:
        """The batch that the fault is for meets it."""
        self._batches_before -= 1
        self._is_struck = self._batches_before < 0
        self._reached("before-claim")
        with self._real.transaction(advances) as transaction:
            self._reached("after-claim")
            yield _FaultyTransaction(transaction, self._reached)
            self._reached("before-commit")
            if self._is_struck and self._fault == "kill-during-commit":
                threading.Timer(DURING_COMMIT_SECONDS, self._strike).start()
        self._reached("after-commit")
        if self._is_struck and self._fault == "kill-during-commit":
            self._strike()

    def _reached(self, step: str) -> None:
        if self._is_struck and self._fault.partition("-")[2] == step:
            self._strike()

    def _strike(self) -> None:
        with self._striking:  # two threads may come, of which the first ends both
            fault, self._fault = self._fault, "none"
            # Written by hand and at once: what is buffered would die too.
            os.write(2, f"struck: {fault}\n".encode())
            if fault.startswith("sleep"):
                # To this very thread, which else might go on for a moment, into the transaction.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            else:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(DEATH_SECONDS_MAX)


class _FaultyTransaction:
    """A real transaction, with steps in it."""

    def __init__(self, real: Any, reached: Any) -> None:
        self._real = real
        self._reached = reached

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, changes: Any) -> None:
        self._reached("before-rows")
        self._real.write(changes)
        self._reached("after-rows")


def run(batches_before: int, fault: str) -> int:
    """One consumer; its exit code."""
    configure_logs()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    settings = load_settings(None, os.environ)
    assert settings.ledger is not None
    if settings.consumer_group is None:
        # A member that was killed keeps its partitions until its session has ended; its offsets are in the ledger.
        settings = settings.model_copy(update={"consumer_group": f"{settings.topic_prefix}-{fault}"})
    options = WorkerOptions(batch_records_max=BATCH_RECORDS_MAX)
    try:
        work(
            settings,
            settings.ledger.get_secret_value(),
            options,
            stopping,
            structlog.get_logger().info,
            lambda url: FaultyLedger(url, batches_before, fault),  # type: ignore[arg-type,return-value]  # it stands in for one, by its attributes
        )
    except Exception as error:  # noqa: BLE001 - the last border, as in the program itself
        code, lines = ending_of(error)
        os.write(2, ("\n".join(lines) + "\n").encode())
        return code
    return ExitCode.DONE


def main(batches_before: int, faults: list[str]) -> int:
    """Every consumer but the last in a process of its own; this process has only imported, and started no thread."""
    for fault in faults[:-1]:
        child = os.fork()
        if child == 0:
            os._exit(run(batches_before, fault))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            os.write(2, f"{fault} ended with status {status}\n".encode())
            return ExitCode.FAILED
    return run(batches_before, faults[-1])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
