"""The employers that this application serves: a list that is read again when its file changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.settings.trekkpliktige import Trekkpliktig, read_trekkpliktige, require_single
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.kafka.partitioning import lane_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from producer.settings.model import Settings
    from producer.settings.trekkpliktige import TrekkpliktigeRead


class TrekkpliktigeList:
    """The employers to read for now. `current` looks whether the file has changed and reads it again if so.

    What is odd about the first reading stands in the settings' own warnings. A new file that cannot be read, is
    faulty or empty leaves the former list standing and gives `warn` one message each time it changes: losing all
    employers by a slip of an editor must not look like having none.
    """

    def __init__(self, settings: Settings, warn: Callable[[str], None]) -> None:
        self._path = settings.trekkpliktige_file
        self._single = settings.authentication == "egen"
        self._warn = warn
        self._seen = self._stamp()
        if self._path is None:
            self._trekkpliktige = tuple(map(Trekkpliktig, settings.trekkpliktige))
        else:
            self._trekkpliktige = self._read(self._path).trekkpliktige

    def current(self) -> tuple[Trekkpliktig, ...]:
        """The employers, in the order given; the same object as long as nothing has changed."""
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
            # Stamped before the read: a change during it is seen by the next call.
            self._seen = stamp
        return self._trekkpliktige

    def _read(self, path: Path) -> TrekkpliktigeRead:
        read = read_trekkpliktige(path)
        require_single(read, single=self._single)
        return read

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size) if status else None


class ServedTrekkpliktige:
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


class AllTrekkpliktige:
    """The trekkpliktige of a service that reads nobody, and so has no list: whoever is named may be ours."""

    def __contains__(self, trekkpliktig: object) -> bool:
        return True
