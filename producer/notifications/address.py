"""The URL that Altinn calls with notifications, which contains a secret, and how to show it. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

NOTIFICATIONS_PATH: Final = "/notifications/"
"""The path between the receiver's base URL and its secret."""

_MASK: Final = "***"


def notification_address(base_url: str, secret: str) -> str:
    """The URL to subscribe with. Anyone who knows it can send wake-ups, so show it only by `shown`."""
    return f"{base_url.rstrip('/')}{NOTIFICATIONS_PATH}{secret}"


def is_below(base_url: str, address: str) -> bool:
    """Whether it is a URL of the receiver at this base URL, with any secret."""
    start = f"{base_url.rstrip('/')}{NOTIFICATIONS_PATH}"
    return address.startswith(start) and len(address) > len(start)


def shown(address: str) -> str:
    """The URL without the parts that may be secret: its last segment, its query, user and password."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return _MASK
    folder, slash, last = parts.path.rpartition("/")
    authority = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{authority}{folder}{slash}{_MASK if last or parts.query else ''}"
