"""The employers that the service reads (trekkpliktige), reloaded when the file that lists them changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.publish.topics import lane_of
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.trekkpliktige import Trekkpliktig, read_trekkpliktige

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from producer.settings.model import Settings
    from trekkpaalegg.trekkpliktige import TrekkpliktigeRead


class TrekkpliktigeList:
    """The employers to read. `current` reloads the file if it has changed.

    The warnings of the first reading are in `Settings.warnings`. If the changed file cannot be read, is faulty or
    empty, the former list stays in use and `warn` is called once for each change: losing all employers to an editor's
    slip must not be mistaken for having none.
    """

    def __init__(self, settings: Settings, warn: Callable[[str], None]) -> None:
        self._path = settings.trekkpliktige_file
        self._authentication = settings.authentication
        self._warn = warn
        self._seen = self._stamp()
        if self._path is None:
            self._trekkpliktige = tuple(map(Trekkpliktig, settings.trekkpliktige))
        else:
            self._trekkpliktige = self._read(self._path).trekkpliktige

    def current(self) -> tuple[Trekkpliktig, ...]:
        """The employers in the order given; the same object until something changes."""
        stamp = self._stamp()
        if self._path is not None and stamp != self._seen:
            try:
                read = self._read(self._path)
            except SettingsError as error:
                self._warn(f"{error.faults[0]}; the former list of {len(self._trekkpliktige)} stays in use")
            else:
                self._trekkpliktige = read.trekkpliktige
                for warning in read.warnings:
                    self._warn(warning)
            # The stamp is from before the read, so that the next call notices a change during it.
            self._seen = stamp
        return self._trekkpliktige

    def _read(self, path: Path) -> TrekkpliktigeRead:
        read = read_trekkpliktige(path)
        read.require_single(self._authentication)
        return read

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size) if status else None


class ServedTrekkpliktige:
    """A container of the organisation numbers to read. One thread calls `refresh`; any thread may read."""

    def __init__(self, trekkpliktige: TrekkpliktigeList) -> None:
        self._list = trekkpliktige
        self._current = trekkpliktige.current()
        self._external_refs = {each.organisasjonsnummer: each.external_ref for each in self._current}
        self._shared_out: list[list[str]] | None = None

    def refresh(self) -> bool:
        """Reload the list; True if it has changed."""
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
        """The `externalRef` of its system user; None if it has none."""
        return self._external_refs.get(trekkpliktig)

    def in_lane(self, lane: int, lanes: int) -> list[str]:
        """Those whose key belongs to this lane. All are hashed once for each list, not once for each lane."""
        if self._shared_out is None or len(self._shared_out) != lanes:
            self._shared_out = [[] for _ in range(lanes)]
            for trekkpliktig in self._external_refs:
                self._shared_out[lane_of(trekkpliktig, lanes)].append(trekkpliktig)
        return self._shared_out[lane]


class AllTrekkpliktige:
    """In place of a list, for a service that reads nobody: contains every trekkpliktig."""

    def __contains__(self, trekkpliktig: object) -> bool:
        return True
