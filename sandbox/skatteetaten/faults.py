"""Faults of the simulated API: scripted one by one, or by chance from a seed."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from random import Random


class Operation(enum.Enum):
    """The two operations of the API, and everything else."""

    LIST = "list"
    VERSION = "version"
    OTHER = "other"


class FaultKind(enum.Enum):
    """What goes wrong."""

    DELAY = "delay"
    """The answer comes `seconds` later; another fault may strike the same call."""
    STATUS = "status"
    """An error answer with `status`, and `Retry-After` of `seconds` if given."""
    RESET = "reset"
    """The connection is reset without an answer."""
    TRUNCATED = "truncated"
    """Half the true body under the full Content-Length, then the connection closes."""
    EXPIRED_TOKEN = "expired_token"  # noqa: S105  # no secret: a kind of fault
    """401, and the token that was shown is really ended."""
    BODY = "body"
    """`status` (200) with `body` verbatim and `content_type`, instead of the answer."""
    FILLER = "filler"
    """200 with a JSON array of one long text, `size_bytes` in all, streamed without Content-Length."""


class ErrorShape(enum.Enum):
    """The shapes of error bodies that the documentation shows."""

    KODE = "kode"
    KODE_INTEGER = "kode_integer"
    PROBLEM = "problem"
    PLAIN = "plain"
    NONE = "none"
    MIXED = "mixed"
    """One of the others by chance."""


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """What strikes calls of `operation` and `trekkpliktig` (None: any), `times` times (None: always).

    `trekkid` and `trekkversjon` confine it to calls for that order or version by number.

    `after` calls that fit are let through first; `rate` is the chance, 0 to 1, that it strikes a call that fits.
    """

    kind: FaultKind
    operation: Operation | None = None
    trekkpliktig: str | None = None
    times: int | None = 1
    after: int = 0
    rate: float = 1.0
    seconds: float | None = None
    as_http_date: bool = False
    status: int = 200
    kode: str | None = None
    body: str = ""
    content_type: str = "application/json"
    size_bytes: int = 0
    error_shape: ErrorShape | None = None
    trekkid: str | None = None
    trekkversjon: int | None = None


def rough_weather(rate: float) -> list[Fault]:
    """Lasting faults of every passing kind, which strike about `rate` (0 to 1) of all calls together."""
    each = rate / 9
    faults = [
        Fault(FaultKind.DELAY, seconds=0.2),
        Fault(FaultKind.STATUS, status=429, seconds=1),
        Fault(FaultKind.STATUS, status=429, seconds=1, as_http_date=True),
        Fault(FaultKind.STATUS, status=500),
        Fault(FaultKind.STATUS, status=503),
        Fault(FaultKind.RESET),
        Fault(FaultKind.TRUNCATED),
        Fault(FaultKind.EXPIRED_TOKEN),
        Fault(FaultKind.BODY, body="<html>vedlikehold</html>", content_type="text/html"),
    ]
    for fault in faults:
        fault.times, fault.rate = None, each
    return faults


class FaultPlan:
    """The faults to come. Seeded: the same calls in the same order meet the same faults."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.faults: list[Fault] = []
        self.struck: dict[str, int] = {}

    def add(self, fault: Fault) -> None:
        """One more fault; earlier ones come first."""
        self.faults.append(fault)

    def clear(self, trekkpliktig: str | None = None) -> None:
        """Forget all faults, or those of one trekkpliktig."""
        self.faults = [fault for fault in self.faults if trekkpliktig not in (None, fault.trekkpliktig)]

    def strike(self, operation: Operation, trekkpliktig: str, identity: tuple[str, str] = ("", "")) -> list[Fault]:
        """The faults of this call: any delays, then at most one other. What was used up is forgotten.

        `identity` is the trekkid and trekkversjon in the URL of a version.
        """
        striking: list[Fault] = []
        for fault in list(self.faults):
            if not self._strikes(fault, operation, trekkpliktig, identity):
                continue
            striking.append(fault)
            self._use(fault)
            if fault.kind is not FaultKind.DELAY:
                break
        return striking

    def _strikes(self, fault: Fault, operation: Operation, trekkpliktig: str, identity: tuple[str, str]) -> bool:
        if fault.operation not in (None, operation) or fault.trekkpliktig not in (None, trekkpliktig):
            return False
        trekkid, trekkversjon = identity
        if fault.trekkid not in (None, trekkid):
            return False
        if fault.trekkversjon is not None and str(fault.trekkversjon) != trekkversjon:
            return False
        if fault.after > 0:
            fault.after -= 1
            return False
        return fault.rate >= 1 or self._random.random() < fault.rate

    def _use(self, fault: Fault) -> None:
        name = fault.kind.value if fault.kind is not FaultKind.STATUS else str(fault.status)
        self.struck[name] = self.struck.get(name, 0) + 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
