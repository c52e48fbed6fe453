"""All trekkpliktige that this application serves, following the list they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.partitioning import lane_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.trekkpliktige_list import TrekkpliktigeList


class Own:
    """A container of organisation numbers. One thread calls `refresh`; any may ask."""

    def __init__(self, trekkpliktige: TrekkpliktigeList) -> None:
        self._list = trekkpliktige
        self._current = trekkpliktige.current()
        self._external_refs = {each.organisasjonsnummer: each.external_ref for each in self._current}
        self._shared_out: list[list[str]] | None = None

    def refresh(self) -> bool:
        """Look whether the list has changed; True when it has."""
        current = self._list.current()
        if current is self._current:
            return False
        self._current = current
        self._external_refs = {each.organisasjonsnummer: each.external_ref for each in current}
        self._shared_out = None
        return True

    def __contains__(self, trekkpliktig: object) -> bool:
        return trekkpliktig in self._external_refs

    def __iter__(self) -> Iterator[str]:
        return iter(self._external_refs)

    def __len__(self) -> int:
        return len(self._external_refs)

    def external_ref_of(self, trekkpliktig: str) -> str | None:
        """The reference that its system user was made with, None where it has none."""
        return self._external_refs.get(trekkpliktig)

    def in_lane(self, lane: int, lanes: int) -> list[str]:
        """Those whose key goes to this lane; all are hashed once for each list, not once for each lane."""
        if self._shared_out is None or len(self._shared_out) != lanes:
            self._shared_out = [[] for _ in range(lanes)]
            for trekkpliktig in self._external_refs:
                self._shared_out[lane_of(trekkpliktig, lanes)].append(trekkpliktig)
        return self._shared_out[lane]


class Everyone:
    """The trekkpliktige of a service that reads nobody, and so has no list: whoever is named may be ours."""

    def __contains__(self, trekkpliktig: object) -> bool:
        return True
