"""The source of a service that reads nobody: a question in, an error out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Fetched
    from producer.source.port import Page


class Unread:
    """The source of a service that reads nobody."""

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """See `TrekkpaaleggSource`."""
        raise FatalError(f"nobody is to be read here, {trekkpliktig} from {cursor} neither")

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """See `TrekkpaaleggSource`."""
        raise FatalError(f"nobody is to be read here, {trekkpliktig}'s {trekkid}/{trekkversjon} neither")

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:  # noqa: ARG002 - as the port has it
        """Nothing."""
        return None
