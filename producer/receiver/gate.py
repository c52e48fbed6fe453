"""Who calls, and with which secret, in; whether he is let in out. Pure, save for the counting of calls."""

from __future__ import annotations

import hmac
from enum import Enum
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

if TYPE_CHECKING:
    from collections.abc import Sequence


class Refusal(Enum):
    """Why a call is not let in. The value is the metric's label."""

    ADDRESS = "refused_address"
    RATE = "refused_rate"
    SECRET = "refused_secret"  # noqa: S105  a label


class Gate:
    """The allow-list (empty: everybody), the rate of each address, and the secret, in this order.

    The secret comes last, so that nobody can guess it faster than `calls_per_second`, and is compared in constant
    time: how long the answer takes does not tell how much of a guess was right.
    """

    def __init__(self, secret: str, allowed: Sequence[str], calls_per_second: int) -> None:
        self._secret = secret.encode()
        self._allowed = tuple(map(ip_network, allowed))
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._rate = RateLimitItemPerSecond(calls_per_second)

    def refusal(self, address: str, secret: str) -> Refusal | None:
        """Why a call from this address with this secret is refused; None when it is let in."""
        if self._allowed and not self._is_allowed(address):
            return Refusal.ADDRESS
        if not self._limiter.hit(self._rate, address):
            return Refusal.RATE
        if not hmac.compare_digest(secret.encode("utf-8", "surrogatepass"), self._secret):
            return Refusal.SECRET
        return None

    def _is_allowed(self, address: str) -> bool:
        try:
            caller = ip_address(address)
        except ValueError:
            return False
        if isinstance(caller, IPv6Address) and caller.ipv4_mapped is not None:
            caller = caller.ipv4_mapped
        return any(caller.version == network.version and caller in network for network in self._allowed)
