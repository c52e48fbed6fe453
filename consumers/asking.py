"""A call to another service in, its result out, however often it must be asked; who observes is told meanwhile."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from consumers.observe.port import Asked, Other
from consumers.patience import Patience

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")


class Asking:
    """Patience with each other service. Safe for several threads, as long as each other is asked by one at a time."""

    def __init__(self, stopping: threading.Event, tell: Callable[..., None], observer: Asked) -> None:
        self._observer = observer
        self._patience = {other: Patience(stopping, tell, partial(observer.call_failed, other)) for other in Other}

    def ask(self, other: Other, call: Callable[[], T]) -> T:
        """What the call gives, or the error that it raises if that does not pass, or if it is time to stop."""
        self._observer.call_begins(other)
        try:
            return self._patience[other].call(call)
        finally:
            self._observer.call_ended(other)
