"""A call that may never return in; its result out, or an error in good time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class UnansweredError(Exception):
    """The call has not returned in time, and may never."""


def bounded(call: Callable[[], object], seconds_max: float) -> None:
    """Make the call in a thread of its own, and raise what it raises.

    Raises `UnansweredError` when it has not returned by then. Its thread is left behind, and what the call holds lives
    on with it until it does return.
    """
    raised: list[BaseException] = []
    returned = threading.Event()

    def body() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            raised.append(error)
        returned.set()

    threading.Thread(target=body, name="bounded-call", daemon=True).start()
    if not returned.wait(seconds_max):
        raise UnansweredError
    if raised:
        raise raised[0]
