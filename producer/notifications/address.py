"""The receiver's base address and its secret in, the address that Altinn calls out, and how it may be shown. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

NOTIFICATIONS_PATH: Final = "/notifications/"
"""Stands between the base address of the receiver and its secret."""

_MASK: Final = "***"


def notification_address(base_url: str, secret: str) -> str:
    """The address to subscribe with. Whoever knows it can wake the reader: never show it but by `shown`."""
    return f"{base_url.rstrip('/')}{NOTIFICATIONS_PATH}{secret}"


def is_below(base_url: str, address: str) -> bool:
    """Whether the address is one of the receiver at this base, with whatever secret."""
    start = f"{base_url.rstrip('/')}{NOTIFICATIONS_PATH}"
    return address.startswith(start) and len(address) > len(start)


def shown(address: str) -> str:
    """The address without what may be secret in it: its last part, its query, and a user with a password."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return _MASK
    folder, slash, last = parts.path.rpartition("/")
    authority = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{authority}{folder}{slash}{_MASK if last or parts.query else ''}"
