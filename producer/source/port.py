"""The port of a source of trekkpålegg: pages of newest versions, and single versions by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from producer.domain.trekkpaalegg import Element

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Fetched


class Page(msgspec.Struct, frozen=True, gc=False):
    """A page of elements in rising sekvensnummer (those without one first).

    `next_cursor` is the highest sekvensnummer in it. It is None if nothing in the page is above the cursor of the
    request: then there is nothing more to read now.
    """

    elements: list[Element]
    next_cursor: int | None


class TrekkpaaleggSource(Protocol):
    """A source. Its operations block and are safe for several threads.

    They raise `RetryableError` (with the pause that the source requests), `SuspendedError` (this trekkpliktig cannot be
    served) or `FatalError` (no trekkpliktig can be served). A failure is never an empty page.
    """

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """The newest versions of orders of `trekkpliktig` with sekvensnummer above `cursor`; 0 reads from the start."""

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """One version by number.

        `Gone` with the status if the source refuses this version, `Failed` on a transient failure. What concerns the
        trekkpliktig or all of them, such as a refused token, raises as above.
        """

    def read_element(self, raw: bytes, trekkpliktig: str) -> Element:
        """The element of this JSON text, as a page for `trekkpliktig` would hold it. Does not block."""

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """A function to call before an operation for it, such as fetching a token. It blocks and raises as they do.

        None if there is nothing to prepare. An operation that was not prepared prepares itself.
        """
