"""A source with gates that hold calls back, for tests of what happens meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Fetched
    from producer.source.port import Page
    from tests.kit.fakes.source import FakeSource, Operation

WAIT_SECONDS_MAX = 10.0


class HeldCall(NamedTuple):
    """A call on its way to the source."""

    operation: Operation
    trekkpliktig: str
    cursor: int = 0


class GatedSource:
    """Holds calls for which `holds` is true until `opened` is set; `reached` is set when one is held."""

    def __init__(self, source: FakeSource, holds: Callable[[HeldCall], bool]) -> None:
        self.source = source
        self.opened = threading.Event()
        self.reached = threading.Event()
        self._holds = holds

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """See the port."""
        self._pass(HeldCall("list", trekkpliktig, cursor))
        return self.source.fetch_page(trekkpliktig, cursor)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """See the port."""
        self._pass(HeldCall("version", trekkpliktig))
        return self.source.fetch_trekkpaalegg(trekkpliktig, trekkid, trekkversjon)

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """See the port."""
        return self.source.preparation(trekkpliktig)

    def _pass(self, call: HeldCall) -> None:
        if self._holds(call):
            self.reached.set()
            if not self.opened.wait(WAIT_SECONDS_MAX):
                raise TimeoutError("the gate was never opened")
