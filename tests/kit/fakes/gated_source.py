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


class Asked(NamedTuple):
    """A question on its way to the source."""

    operation: Operation
    trekkpliktig: str
    cursor: int = 0


class GatedSource:
    """Holds back the questions that `holds` says, until `opened` is set; `reached` is set when one stands there."""

    def __init__(self, source: FakeSource, holds: Callable[[Asked], bool]) -> None:
        self.source = source
        self.opened = threading.Event()
        self.reached = threading.Event()
        self._holds = holds

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """As the port says."""
        self._pass(Asked("list", trekkpliktig, cursor))
        return self.source.fetch_page(trekkpliktig, cursor)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """As the port says."""
        self._pass(Asked("version", trekkpliktig))
        return self.source.fetch_trekkpaalegg(trekkpliktig, trekkid, trekkversjon)

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """As the port says."""
        return self.source.preparation(trekkpliktig)

    def _pass(self, asked: Asked) -> None:
        if self._holds(asked):
            self.reached.set()
            if not self.opened.wait(WAIT_SECONDS_MAX):
                raise TimeoutError("the gate was never opened")
