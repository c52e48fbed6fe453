"""Limit how long a call may take that has no timeout of its own, and may never return."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class UnansweredError(Exception):
    """The call has not returned in time, and may never return."""


def bounded(call: Callable[[], object], seconds_max: float) -> None:
    """Make the call in a thread of its own, and raise what it raises.

    Raises `UnansweredError` when it has not returned after `seconds_max`. The thread is then left behind, and with it
    all that the call holds, until the call returns.
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
