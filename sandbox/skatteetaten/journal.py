"""A file that keeps the order book over restarts: everything made from now on is appended to it.

The simulated world begins from its seed each time. Without the file, a version that was made later, and published,
would be unknown to it after a restart, and its sekvensnummer would be given to another.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import msgspec

from sandbox.skatteetaten.order_book import OrderBook, Version

if TYPE_CHECKING:
    from pathlib import Path


class _Line(msgspec.Struct, array_like=True):
    version: Version
    visible: bool


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class Journal:
    """A context manager, open from its creation. A version is in the file before anybody can see it.

    Only versions are kept, as they were made or revealed; other changes by hand are lost. Raises `OSError` if
    the file cannot be opened, `ValueError` if it holds something else or belongs to another seed.
    """

    def __init__(self, path: Path, book: OrderBook) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self.length = self._replay(path, book)
        except BaseException:
            os.close(self._file)
            raise
        book.on_change = self._write

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)

    def _replay(self, path: Path, book: OrderBook) -> int:
        """Apply all lines to the book, and return their number. Nobody saw an incomplete line at the end."""
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        lines = whole.splitlines()
        for number, text in enumerate(lines, start=1):
            try:
                line = _decode(text)
                if line.visible and book.is_hidden(line.version):
                    book.reveal(line.version.trekkid, line.version.trekkversjon)
                else:
                    book.add(line.version, visible=line.visible)
            except (msgspec.MsgspecError, ValueError) as error:
                raise ValueError(
                    f"{path}: line {number} does not fit this world ({error}); was it another seed?"
                ) from None
        return len(lines)

    def _write(self, version: Version, visible: bool) -> None:  # noqa: FBT001 - a callback
        os.write(self._file, _encode(_Line(version, visible)) + b"\n")
