"""The settings in, the employers to read for now out; their file is read again when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.errors import SettingsError
from producer.trekkpliktige import Trekkpliktig, read_trekkpliktige, require_single

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from producer.settings import Settings
    from producer.trekkpliktige import TrekkpliktigeRead


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
