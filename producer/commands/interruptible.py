"""Work in, its end out, in a thread of its own, so that a signal is taken at once whatever the work waits for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


STOP_SECONDS_MAX = 9.0
"""After a signal; then a commit that hangs is left to the next fence."""

_WAIT_SECONDS = 0.5


def run_interruptible(work: Callable[[], None], stopping: threading.Event) -> None:
    """Run `work` and raise what it raises.

    Python takes signals in the main thread alone, between two calls, and a call into librdkafka may last for as long
    as Kafka is silent. What a signal's handler raises here sets `stopping`, and is raised when the work has ended, or
    after `STOP_SECONDS_MAX`.
    """
    errors: list[BaseException] = []
    ended = threading.Event()

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits, which raises it
            errors.append(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=body, name="work", daemon=True).start()
        while not ended.wait(_WAIT_SECONDS):
            continue
    except BaseException:
        stopping.set()
        ended.wait(STOP_SECONDS_MAX)
        raise
    if errors:
        raise errors[0]
