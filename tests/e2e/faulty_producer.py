"""A program: the service as it is, but with a Kafka producer that dies or fails at a chosen step of a transaction.

``faulty_producer.py BEFORE FAULT…`` lets BEFORE transactions of the process end well; the next meets the first FAULT,
and so on until all have struck: `kill-…`, named after the step, `sleep-before-commit` (SIGSTOP), or a key of
`ANSWER_LOST` or `NOT_COMMITTED`. With `slow-fence` as the first FAULT every lane is taken slowly. Settings come from
the environment, as ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from producer import bootstrap
from producer.observe.port import NullObserver
from producer.settings.model import load_settings
from trekkpaalegg.cli import ExitCode, ending_of
from trekkpaalegg.logs import configure_logs

FLUSH_SECONDS_MAX = 10.0
DURING_COMMIT_SECONDS = 0.004
AFTER_ONE_RECORD = "kill-after-one-record"
SLOW_FENCE = "slow-fence"
SLOW_FENCE_SECONDS = 3.0
TIMED_OUT = KafkaError(KafkaError._TIMED_OUT, "commit timed out", retriable=True)  # noqa: SLF001 - its codes begin so
FATAL = KafkaError(KafkaError._FATAL, "made fatal for a test", fatal=True)  # noqa: SLF001 - as above
UNKNOWN = KafkaError(KafkaError._FAIL, "a failure without a flag")  # noqa: SLF001 - as above
REQUIRES_ABORT = KafkaError(KafkaError._FAIL, "must be aborted", txn_requires_abort=True)  # noqa: SLF001 - as above
ANSWER_LOST = {"lost-timed-out": TIMED_OUT, "lost-fatal": FATAL, "lost-unknown": UNKNOWN}
NOT_COMMITTED = {"open-fatal": FATAL, "open-unknown": UNKNOWN, "must-abort": REQUIRES_ABORT}
_log = structlog.get_logger(__name__)


class Plan:
    """Which transactions of this process meet which fault; shared by the producers of all lanes."""

    def __init__(self, transactions_before: int, faults: list[str]) -> None:
        self.has_slow_fence = faults[0] == SLOW_FENCE
        self._faults = list(reversed(faults[self.has_slow_fence :]))
        self._transactions_before = transactions_before
        self._begun = 0
        self._lock = threading.Lock()

    def begins(self) -> str | None:
        """A transaction begins; the fault that it is to meet."""
        with self._lock:
            self._begun += 1
            is_struck = self._faults and self._begun % (self._transactions_before + 1) == 0
            return self._faults.pop() if is_struck else None

    def takes_back(self, fault: str) -> None:
        """It could not strike: the next one in turn meets it."""
        with self._lock:
            self._faults.append(fault)


class FaultyProducer:
    """A real producer, save for one transaction."""

    def __init__(self, properties: dict[str, Any], plan: Plan, logger: Any) -> None:
        self._real = Producer(properties, logger=logger)
        self._plan = plan
        self._fault: str | None = None
        self._is_unanswered = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def init_transactions(self, *arguments: Any) -> None:
        if self._plan.has_slow_fence:
            _log.info("fence begins")
            time.sleep(SLOW_FENCE_SECONDS)
        self._real.init_transactions(*arguments)

    def begin_transaction(self) -> None:
        self._fault = self._plan.begins()
        self._reached("kill-before-begin")
        self._real.begin_transaction()
        self._reached("kill-after-begin")

    def produce(self, *arguments: Any, **named: Any) -> None:
        self._real.produce(*arguments, **named)
        self._reached(AFTER_ONE_RECORD, written=True)

    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        self._reached("kill-after-records")
        self._reached("kill-after-records-written", written=True)
        self._real.send_offsets_to_transaction(*arguments)
        self._reached("kill-after-offsets")

    def commit_transaction(self, *arguments: Any) -> None:
        if self._is_unanswered:
            # As librdkafka: a commit that has timed out goes on, and the next call tells how it ended.
            self._is_unanswered = False
            return
        fault = self._fault or ""
        if fault == AFTER_ONE_RECORD:  # a transaction that only moves the offset of a signal has none
            self._plan.takes_back(fault)
            self._fault = None
        if fault in NOT_COMMITTED:
            self._fail(NOT_COMMITTED[fault])
        if fault == "sleep-before-commit":
            os.kill(os.getpid(), signal.SIGSTOP)
            self._real.commit_transaction(*arguments)
            _log.info("committed after a sleep")
            return
        if fault == "kill-during-commit":
            # Whatever comes meanwhile: a commit that is quicker than this must not let the process live.
            threading.Timer(DURING_COMMIT_SECONDS, self._die, [fault]).start()
        self._real.commit_transaction(*arguments)
        self._reached("kill-after-commit")
        if fault in ANSWER_LOST:
            self._is_unanswered = ANSWER_LOST[fault].retriable()
            self._fail(ANSWER_LOST[fault])

    def _reached(self, step: str, *, written: bool = False) -> None:
        """Die here if that is the fault; once the broker has all records, if `written`."""
        if step == self._fault:
            if written:
                self._real.flush(FLUSH_SECONDS_MAX)
            self._die(step)

    @staticmethod
    def _die(step: str) -> None:
        # Written by hand and at once: what is buffered would die too.
        os.write(2, f"killed at {step}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def _fail(self, error: KafkaError) -> None:
        _log.info("struck", fault=self._fault)
        self._fault = None
        raise KafkaException(error)


def main(transactions_before: int, faults: list[str]) -> int:
    """Run the service; its exit code."""
    configure_logs(level="INFO")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    plan = Plan(transactions_before, faults)
    settings = load_settings(None, os.environ)
    try:
        service = bootstrap.build_service(
            settings,
            NullObserver(),
            stopping,
            make_producer=lambda properties, *, logger: FaultyProducer(properties, plan, logger),
        )
        with ExitStack() as receiving:
            if settings.receives:
                signals = receiving.enter_context(bootstrap.open_signal_log(settings))
                receiving.enter_context(bootstrap.build_receiver(settings, service.served, signals, NullObserver()))
            service.run()
    except Exception as error:  # noqa: BLE001 - the last border, as in the producer
        _log.exception("ended")
        return ending_of(error)[0]
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
