"""Progress in, nothing out: for proofs that nobody watches."""

from __future__ import annotations


class Unseen:
    """Progress that nobody looks at."""

    def expect(self, messages: int) -> None:
        """So many are to come."""

    def advance(self, messages: int) -> None:
        """So many have come."""
