"""A replay's plan in, the ledger that it builds in out, held open through trouble for as long as the replay lasts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from consumers.errors import FatalError, RetryableError
from consumers.exit_codes import StoppedError
from consumers.ledger.staging.opening import open_replay_target
from consumers.ledger_thread import LedgerThread
from consumers.patience import Patience

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from consumers.ledger.port import Partition
    from consumers.ledger.staging.port import ReplayTarget

T = TypeVar("T")

_CLOSE_SECONDS_MAX = 1.0
_STOP_SECONDS_MAX = 7.0
"""How long a call to the database may take after the word to stop: within the ten seconds that platforms wait."""

_WAIT_SECONDS = 0.2
_GONE = (
    "the connection was lost, and what the replay had filled is not there any more: it was being swapped in and stands,"
    " or another replay has taken its place. `trekkpaalegg-consumer verify` tells whether the ledger is right"
)


class FreshLedger:
    """The target of one replay, and the one thread in which everything touches a ledger. Close it.

    Raises as `open_replay_target` when made. `stopping` ends all patience, and soon every wait.
    """

    def __init__(
        self,
        url: str,
        plan: str,
        begins: Mapping[Partition, int],
        stopping: threading.Event,
        tell: Callable[..., None],
        *,
        copy: bool,
    ) -> None:
        self._url = url
        self._plan = plan
        self._stopping = stopping
        self._patience = Patience(stopping, tell)
        self.thread = LedgerThread()
        self._target: ReplayTarget | None = None
        try:
            self._target = target = self._result(lambda: open_replay_target(url, plan, begins, copy=copy))
        except BaseException:
            self.close()
            raise
        self.continued = target.continued
        """Whether an earlier replay of the same plan had begun it."""

    def call(self, call: Callable[[], T]) -> T:
        """What the call gives, with patience. Raises `StoppedError`."""
        self.see_whether_stopped()
        return self._result(lambda: self._patience.call(call))

    def with_target(self, call: Callable[[ReplayTarget], T]) -> T:
        """As `call`, each time with a target opened anew: the lock that it holds goes with its connection.

        Raises `FatalError` when what was filled is no longer there.
        """

        def attempt() -> T:
            if self._target is None:
                self._target = self._opened_again()
            try:
                return call(self._target)
            except RetryableError:
                self._leave()
                raise

        return self.call(attempt)

    def see_whether_stopped(self) -> None:
        """Raises `StoppedError` once the word to stop has come."""
        if self._stopping.is_set():
            raise StoppedError

    def close(self) -> None:
        """Close the connections; what was committed can be continued."""
        self.thread.submit(self._leave)
        self.thread.close(_CLOSE_SECONDS_MAX)

    def _opened_again(self) -> ReplayTarget:
        target = open_replay_target(self._url, self._plan)
        if not target.continued:
            target.drop()
            target.close()
            raise FatalError(_GONE)
        return target

    def _leave(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None

    def _result(self, call: Callable[[], T]) -> T:
        """In the thread. Raises `StoppedError` when it takes too long after the word to stop."""
        future = self.thread.submit(call)
        stopped_at: float | None = None
        while not future.done():
            if self._stopping.is_set():
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at > _STOP_SECONDS_MAX:
                    raise StoppedError
            try:
                future.exception(_WAIT_SECONDS)
            except TimeoutError:
                continue
        return future.result()
