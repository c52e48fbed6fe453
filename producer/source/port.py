"""The source as lanes see it: pages of newest versions, and single versions by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from producer.domain.trekkpaalegg import Element

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Fetched


class Page(msgspec.Struct, frozen=True, gc=False):
    """One answer of the source, its elements in rising sekvensnummer (those without one first).

    `next_cursor` is the highest sekvensnummer in the answer, and None when nothing in it is above the cursor that
    was asked with: then there is nothing more to read now.
    """

    elements: list[Element]
    next_cursor: int | None


class TrekkpaaleggSource(Protocol):
    """Both operations block; all may be called from several threads at once.

    Raises `RetryableError` (with the pause asked for), `SuspendedError` (this trekkpliktig cannot be served) or
    `FatalError` (no trekkpliktig can be served). A failure is never an empty page.
    """

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """Newest versions of the orders of `trekkpliktig` with sekvensnummer above `cursor`; 0 reads from the start."""

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """One version by number. `Gone` on 404, `Failed` on a passing failure; refusals raise as above."""

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """What to do before a call for it, so that the call itself need not: it blocks, and raises as the operations.

        None when nothing is to be done. An operation that was not prepared does it by itself.
        """
