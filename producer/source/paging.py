"""Elements of one answer and the cursor that was asked with in, a `Page` or a `RetryableError` out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.domain.trekkpaalegg import Trekkpaalegg
from producer.errors import RetryableError
from producer.source.port import Page

if TYPE_CHECKING:
    from producer.domain.trekkpaalegg import Element


def page_of(elements: list[Element], cursor: int, maks_antall: int) -> Page:
    """The page that `elements`, the answer to "newer than `cursor`, at most `maks_antall`", make.

    Reading goes on from the highest sekvensnummer in the answer, however many came: a server may cap `maks_antall`
    lower than it was asked. It ends at an answer that holds nothing above the cursor.

    1. Elements above the cursor: go on from the highest that was understood. The number of one that was rejected is
       not believed while there is another, since a wrong one would skip all that lies below it.
    2. None above, and fewer than asked for: the end. Holding the very element at the cursor is what a server does
       that reads `fraSekvensnummer` as inclusive.
    3. None above, but some below the cursor, or a full page: `RetryableError`. Such a server ignores
       `fraSekvensnummer`, or has more that can never be reached; to end here would hide that.
    """
    elements = sorted(elements, key=_order)
    numbers = [element.sekvensnummer for element in elements if element.sekvensnummer is not None]
    understood = [each.sekvensnummer for each in elements if isinstance(each, Trekkpaalegg)]
    highest = max(max(understood, default=0), cursor)
    if highest == cursor:
        highest = max(numbers, default=cursor)
    if highest > cursor:
        return Page(elements, highest)
    if any(number < cursor for number in numbers):
        raise RetryableError("answer holds only what is older than was asked for: fraSekvensnummer seems to be ignored")
    if len(elements) >= maks_antall:
        raise RetryableError("a full answer that holds nothing newer than was asked for: reading cannot go on")
    return Page(elements, None)


def _order(element: Element) -> int:
    return element.sekvensnummer or 0
