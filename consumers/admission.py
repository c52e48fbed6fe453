"""Errors with which Kafka keeps a worker out in, whether to try again out; who observes is told meanwhile."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from consumers.errors import DisplacedError, FencedError, ForgottenError, RefusedError
from consumers.observe.port import Observer, Other

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.errors import ConsumerError

JOINED_AGAIN_SECONDS_MIN = 60.0
"""Who is fenced again sooner has a rival."""


class Admission:
    """How one worker stands at Kafka's door. `tell` as of the worker. Used by one thread."""

    def __init__(
        self, tell: Callable[..., None], observer: Observer, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._observer = observer
        self._monotonic = monotonic
        self._refused = ""
        self._joined_again_at = -math.inf

    def granted(self) -> None:
        """Partitions were given to us."""
        if self._refused:
            self._observer.call_ended(Other.KAFKA)
            self._refused = ""

    def denied(self, error: ConsumerError) -> None:
        """Returns when it is to be tried again after a pause. Raises the error, or `FencedError`, when it is not.

        Who was refused once waits for whatever passes, such as a key that does not fit its new certificate yet.
        """
        if isinstance(error, DisplacedError):
            self._join_again(error)
            return
        if isinstance(error, ForgottenError):
            self._tell(f"{error}: connecting anew")
            return
        if not (isinstance(error, RefusedError) or self._refused):
            raise error
        if str(error) != self._refused:
            self._tell("Kafka refuses this client; tried again until it does not", reason=str(error))
        self._refused = str(error)
        self._observer.call_begins(Other.KAFKA)
        self._observer.call_failed(Other.KAFKA, self._refused)

    def _join_again(self, error: DisplacedError) -> None:
        now = self._monotonic()
        if now - self._joined_again_at < JOINED_AGAIN_SECONDS_MIN:
            raise FencedError(str(error)) from error
        self._joined_again_at = now
        self._tell("fenced after the coordinator of the group was away: joining again", reason=str(error))
