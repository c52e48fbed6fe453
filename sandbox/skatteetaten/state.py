"""The state of the simulated Skatteetaten: orders made and changed by hand, and the calls it has received.

Pure but for its lock: time comes from an injected clock, chance from a seed. Every method may
be called from any thread.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from datetime import UTC, date, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from sandbox.skatteetaten.faults import ErrorShape, Fault, FaultKind, FaultPlan, Operation
from sandbox.skatteetaten.generate import OrderGenerator, wire_instant
from sandbox.skatteetaten.order_book import OrderBook, Version
from sandbox.skatteetaten.wire import PLAIN, Shape, Wire, parse, render, restyled, shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CALLS_REMEMBERED = 1000


class Behaviour(msgspec.Struct, forbid_unknown_fields=True):
    """How the API answers when nothing goes wrong. What is unknown of the real one is a setting here."""

    maks_antall_cap: int | None = None
    """The largest page, whatever the request says."""
    unsorted: bool = False
    """Elements of a page in random order."""
    empty_body: bool = False
    """An answer without elements has no body at all, instead of `[]`."""
    calls_at_once_max: int = 5
    """Per organisation that owns the client."""
    sekvensnummer_gap_max: int = 3
    """Up to so many numbers are skipped, for orders of employers elsewhere."""
    error_shape: ErrorShape = ErrorShape.KODE
    shape: Shape = PLAIN
    """Of versions that are made by `create` and `change`."""
    latency_seconds: float = 0.0
    """Added to every answer."""


class Call(msgspec.Struct, frozen=True):
    """One call as it was answered; `outcome` is the status, or what was done to the connection."""

    operation: Operation
    party: str | None
    path: str
    query: str
    outcome: str
    korrelasjonsid: str | None
    klientid: str | None


class Skatteetaten:
    """Orders, behaviour, faults and what was seen. `clock` gives seconds since 1970."""

    def __init__(self, *, seed: int = 0, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.random = Random(f"skatteetaten {seed}")
        self.book = OrderBook()
        self.behaviour = Behaviour()
        self.faults = FaultPlan(Random(f"faults {seed}"))
        self.calls: deque[Call] = deque(maxlen=_CALLS_REMEMBERED)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.simultaneous_max = 0
        self.on_new_version: Callable[[Version], None] = lambda _: None
        """Called with each version that is made one by one, when it can be seen."""
        self._generator = OrderGenerator(Random(f"orders {seed}"))
        self._in_progress: Counter[str] = Counter()

    # Orders, as Skatteetaten's own people and the courts of enforcement would make them.

    def create(self, trekkpliktig: str, fields: Wire | None = None, *, visible: bool = True) -> Version:
        """A new order at version 1; `fields` (wire names) replace the invented ones."""
        with self.lock:
            order = self._generator.new_order(trekkpliktig, self._now())
            return self._put({**order, **(fields or {})}, visible=visible)

    def change(self, trekkid: str, fields: Wire | None = None, *, visible: bool = True) -> Version:
        """The next version of an order, with `fields` changed, or an invented change if none are given."""
        with self.lock:
            newest = {**parse(self.book.last(trekkid).body), "sekvensnummer": 0}
            if fields is None:
                return self._put(self._generator.next_version(newest, self._now()), visible=visible)
            following = {"trekkversjon": newest["trekkversjon"] + 1, "opprettet": wire_instant(self._now())}
            return self._put({**newest, **following, **fields}, visible=visible)

    def move(self, trekkid: str, trekkpliktig: str) -> Version:
        """The next version names another employer; from now on that one has the order in its list."""
        return self.change(trekkid, {"trekkpliktig": trekkpliktig})

    def add_unit(self, trekkpliktig: str, unit: str) -> None:
        """From now on an employer sees the orders of this sub-unit too, in its list and by number."""
        with self.lock:
            self.book.add_unit(trekkpliktig, unit)

    def remove_unit(self, trekkpliktig: str, unit: str) -> None:
        """Undo `add_unit`."""
        with self.lock:
            self.book.remove_unit(trekkpliktig, unit)

    def put(self, wire: Wire, *, listed_for: str | None = None, visible: bool = True) -> Version:
        """One version exactly as given, with its own numbers; `listed_for` another organisation than it names."""
        with self.lock:
            return self._put(wire, owner=listed_for, visible=visible, fresh=False)

    def load(self, versions: Iterable[Version]) -> int:
        """Many versions that are rendered already, in rising sekvensnummer; how many they were."""
        count = 0
        for version in versions:
            with self.lock:
                self.book.add(version)
            count += 1
        return count

    def reveal(self, trekkid: str, trekkversjon: int) -> Version:
        """A version made with `visible=False` appears, with the sekvensnummer it got when it was made."""
        with self.lock:
            version = self.book.reveal(trekkid, trekkversjon)
            self.on_new_version(version)
            return version

    def rewrite(self, trekkid: str, trekkversjon: int, fields: Wire) -> Version:
        """Other content under the same version and sekvensnummer."""
        with self.lock:
            version = self.book.stored(trekkid, trekkversjon)
            version.body = render({**parse(version.body), **fields})
            return version

    def restyle(self, trekkid: str, trekkversjon: int) -> Version:
        """The same content written otherwise: field order, basic dates, decimal points."""
        with self.lock:
            version = self.book.stored(trekkid, trekkversjon)
            version.body = render(restyled(parse(version.body)))
            return version

    def replace_raw(self, trekkid: str, trekkversjon: int, text: str) -> Version:
        """Replace this version's JSON by any text, in the list and by number."""
        with self.lock:
            version = self.book.stored(trekkid, trekkversjon)
            version.body = text.encode()
            return version

    def plant(self, trekkpliktig: str, text: str, *, sekvensnummer: int | None = None) -> Version:
        """Any text as an element of the list, at the position of `sekvensnummer` (the next free one if not given)."""
        with self.lock:
            place = self.next_sekvensnummer() if sekvensnummer is None else sekvensnummer
            planted = Version(trekkpliktig, "", 0, place, text.encode())
            self.book.plant(planted)
            return planted

    def forget(self, trekkid: str, trekkversjon: int) -> Version:
        """From now on this version is 404 by number; a list that holds it still does. KeyError if there is none."""
        with self.lock:
            self.book.forget(trekkid, trekkversjon)
            return self.book.stored(trekkid, trekkversjon)

    def restore(self, trekkid: str, trekkversjon: int) -> Version:
        """Undo `forget`."""
        with self.lock:
            self.book.restore(trekkid, trekkversjon)
            return self.book.stored(trekkid, trekkversjon)

    def remove(self, trekkid: str) -> None:
        """The whole order is gone, from the list and by number."""
        with self.lock:
            self.book.remove(trekkid)

    def uproot(self, planted: Version) -> None:
        """Remove what `plant` put in a list."""
        with self.lock:
            self.book.uproot(planted)

    def switch_status_at_midnight(self, today: date, *, as_new_version: bool) -> list[Version]:
        """Running orders whose periods all ended before `today` become avsluttet.

        Whether that makes a new version or changes the last one is unknown of the real API.
        """
        with self.lock:
            ended = [version for version in self.book.newest_of_all() if version.trekkid and _has_ended(version, today)]
            status = {"trekkstatus": "avsluttet"}
            if as_new_version:
                return [self.change(version.trekkid, status) for version in ended]
            return [self.rewrite(version.trekkid, version.trekkversjon, status) for version in ended]

    def reseed(self, made_before: int) -> None:
        """Draw other random numbers than the former run of this seed, which made `made_before` versions."""
        self.random.seed(f"{self.random.random()} {made_before}")
        self._generator = OrderGenerator(Random(f"orders {self.random.random()}"))

    def next_sekvensnummer(self) -> int:
        """The next number of all, after a gap by chance."""
        return self.book.highest_sekvensnummer + self.random.randint(1, 1 + self.behaviour.sekvensnummer_gap_max)

    # Faults and what was seen.

    def add_fault(self, fault: Fault) -> None:
        """Add a fault that strikes later calls."""
        with self.lock:
            self.faults.add(fault)

    def clear_faults(self) -> None:
        """Remove all faults."""
        with self.lock:
            self.faults.clear()

    def forbid(self, trekkpliktig: str) -> None:
        """403 for every call of this organisation, until `allow`."""
        self.add_fault(Fault(FaultKind.STATUS, trekkpliktig=trekkpliktig, times=None, status=403, kode="DAS-005"))

    def allow(self, trekkpliktig: str) -> None:
        """Undo `forbid`, and every other fault that is of this organisation alone."""
        with self.lock:
            self.faults.clear(trekkpliktig)

    def enter(self, supplier: str) -> bool:
        """A call of this organisation begins; False if too many are under way. Refused or not, it must `leave`."""
        with self.lock:
            self._in_progress[supplier] += 1
            self.simultaneous_max = max(self.simultaneous_max, self._in_progress[supplier])
            return self._in_progress[supplier] <= self.behaviour.calls_at_once_max

    def leave(self, supplier: str) -> None:
        """A call of this organisation has ended."""
        with self.lock:
            self._in_progress[supplier] -= 1

    def remember(self, call: Call) -> None:
        """Count a call that was answered."""
        with self.lock:
            self.calls.append(call)
            self.counts[call.operation.value, call.outcome] += 1

    def forget_calls(self) -> None:
        """Start counting from zero."""
        with self.lock:
            self.calls.clear()
            self.counts.clear()
            self.faults.struck.clear()
            self.simultaneous_max = 0

    def summary(self) -> dict[str, Any]:
        """Counts for people and tests: calls by operation and outcome, faults that struck, most calls at once."""
        with self.lock:
            calls: dict[str, dict[str, int]] = {}
            for (operation, outcome), count in sorted(self.counts.items()):
                calls.setdefault(operation, {})[outcome] = count
            return {
                "calls": calls,
                "faults": dict(self.faults.struck),
                "simultaneous_max": self.simultaneous_max,
                "highest_sekvensnummer": self.book.highest_sekvensnummer,
            }

    def identities(self) -> set[tuple[str, int]]:
        """(trekkid, trekkversjon) of every version that can be read: what a faithful reader must end up with."""
        with self.lock:
            return {(v.trekkid, v.trekkversjon) for v in self.book.every_version() if self.book.is_visible(v)}

    def _put(self, wire: Wire, *, owner: str | None = None, visible: bool, fresh: bool = True) -> Version:
        if fresh and not wire["sekvensnummer"]:
            wire = {**wire, "sekvensnummer": self.next_sekvensnummer()}
        body = render(shaped(wire, self.random, self.behaviour.shape) if fresh else wire)
        owner = owner or wire["trekkpliktig"]
        version = Version(owner, wire["trekkid"], wire["trekkversjon"], wire["sekvensnummer"], body)
        self.book.add(version, visible=visible)
        if visible:
            self.on_new_version(version)
        return version

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


def _has_ended(version: Version, today: date) -> bool:
    try:
        wire = parse(version.body)
    except msgspec.DecodeError:
        return False
    last_days = [period.get("sluttdato") for period in wire["trekkstoerrelseForPeriode"]]
    if wire["trekkstatus"] != "aktiv" or not last_days:
        return False
    return all(day is not None and date.fromisoformat(day) < today for day in last_days)
