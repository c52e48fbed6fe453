"""Kafka properties that may change in, what a new client starts from and whether the last one is out of date out.

librdkafka reads certificates and takes a password only when a client is made.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trekkpaalegg.errors import RetryableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")


class Renewal:
    """`read` gives the properties as they are now; of the certificates that they name the files count. One thread's."""

    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        self._read = read
        self.properties: Mapping[str, str] = {}
        """Those that were taken last."""
        self._stamps: list[tuple[int, int] | None] = []
        self.take()

    def take(self) -> Mapping[str, str]:
        """The properties for a client that is made now."""
        self.properties = self._read()
        self._stamps = _stamps(self.properties)
        return self.properties

    def is_due(self) -> bool:
        """Whether a client that is made now would be another one."""
        properties = self._read()
        return properties != self.properties or _stamps(properties) != self._stamps


@contextmanager
def client_made_later() -> Iterator[None]:
    """For clients that are made after the first: a fault of the settings is `RetryableError`, and passes.

    At the start a key that does not fit its certificate is wrong; later the two are being renewed, one by one.
    """
    try:
        yield
    except SettingsError as error:
        raise RetryableError(str(error)) from error


def _stamps(properties: Mapping[str, str]) -> list[tuple[int, int] | None]:
    """When each of the certificates' files was written last, and its size: a renewed one differs."""
    stamps: list[tuple[int, int] | None] = []
    for name in _FILES:
        try:
            found = Path(properties[name]).stat()
        except (KeyError, OSError):
            stamps.append(None)
        else:
            stamps.append((found.st_mtime_ns, found.st_size))
    return stamps
