"""The receiver's address in, whether national ids may be sent there out. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def address_fault(url: str, *, allow_plain_http: bool) -> str | None:
    """What is wrong with it, or None: bodies hold national ids, so they go over TLS, or do not leave the machine.

    Says nothing of the address: it may hold a secret of the receiver's.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" or allow_plain_http or is_loopback(url):
        return None
    return "must begin with https://, since national ids are sent there; --allow-plain-http lets plain HTTP through"


def is_loopback(url: str) -> bool:
    """Whether it is this machine's own: by number, or by the name `localhost`."""
    host = (urlsplit(url).hostname or "").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: str) -> str:
    """Scheme, host and port: paths and queries may hold a secret of the receiver's."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
