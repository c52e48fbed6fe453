"""A `TrekkpaaleggSource` in memory, without a network, with orders that tests create.

It keeps the promises of the port (the same contract suite runs on it and on the real adapter), remembers every
call, and fails on demand.
"""

from __future__ import annotations

import threading
from datetime import date
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import msgspec

from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Element,
    Failed,
    Gone,
    Rejected,
    Trekkpaalegg,
    Trekkstatus,
    TrekkstoerrelseForPeriode,
)
from producer.source.polling import page_of
from sandbox.skatteetaten.generate import synthetic_kidnummer, synthetic_kontonummer, synthetic_skyldner
from trekkpaalegg.errors import RetryableError, TrekkpaaleggError
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Fetched
    from producer.source.port import Page

AnyElement = TypeVar("AnyElement", Trekkpaalegg, Rejected)
Operation = Literal["list", "version", "prepare"]
_OPPRETTET = 1_767_600_000_000_000
_BETALINGSMOTTAKER = "971648198"
_HELD_SECONDS_MAX = 100.0


class SourceCall(msgspec.Struct, frozen=True):
    """One call: `cursor` for a page, `trekkid` and `trekkversjon` for a version."""

    operation: Operation
    trekkpliktig: str
    cursor: int | None = None
    trekkid: str | None = None
    trekkversjon: int | None = None


class _Fault(msgspec.Struct):
    error: TrekkpaaleggError
    times: int | None
    trekkpliktig: str | None
    operation: Operation | None
    version: tuple[str, int] | None


class _Listed(msgspec.Struct, frozen=True):
    trekkpliktig: str
    element: Element


class FakeSource:
    """The orders of every trekkpliktig, and the calls. Safe for several threads."""

    def __init__(self, *, maks_antall: int = 2500) -> None:
        self.maks_antall = maks_antall
        self.calls: list[SourceCall] = []
        self.unprepared: set[str] = set()
        self.prepared: list[str] = []
        self._lock = threading.RLock()
        self._versions: dict[str, dict[int, Trekkpaalegg]] = {}
        self._owner: dict[str, str] = {}
        self._planted: list[_Listed] = []
        self._hidden: set[tuple[str, int]] = set()
        self._gone: dict[tuple[str, int], Gone] = {}
        self._read_back: dict[bytes, Element] = {}
        self._faults: list[_Fault] = []
        self._sekvensnummer = 0
        self._random = Random("fake source")

    # Orders, as Skatteetaten would create them.

    def create(self, trekkpliktig: str, **changes: Any) -> Trekkpaalegg:  # any field of Trekkpaalegg
        """Version 1 of a new order; `changes` replace invented fields."""
        with self._lock:
            order = make_trekkpaalegg(trekkpliktig, self._random, sekvensnummer=self._sekvensnummer + 1)
            return self.add(msgspec.structs.replace(order, **changes))

    def change(self, trekkid: str, **changes: Any) -> Trekkpaalegg:  # as create
        """The next version of an order, with the next sekvensnummer of all unless `changes` say otherwise."""
        with self._lock:
            newest = self._versions[trekkid][max(self._versions[trekkid])]
            following = {
                "trekkversjon": newest.trekkversjon + 1,
                "sekvensnummer": self._sekvensnummer + 1,
                "opprettet": newest.opprettet + 1_000_000,
                "raw": b"",
                **changes,
            }
            return self.add(msgspec.structs.replace(newest, **following))

    def add(self, trekkpaalegg: Trekkpaalegg, *, listed_for: str | None = None, visible: bool = True) -> Trekkpaalegg:
        """Add or replace one version. `listed_for` puts the order in the list of another trekkpliktig.

        Returns it with a `raw` of its own, which `read_element` knows.
        """
        with self._lock:
            trekkpaalegg = self._with_raw(trekkpaalegg)
            trekkid, trekkversjon = trekkpaalegg.trekkid, trekkpaalegg.trekkversjon
            self._versions.setdefault(trekkid, {})[trekkversjon] = trekkpaalegg
            self._sekvensnummer = max(self._sekvensnummer, trekkpaalegg.sekvensnummer)
            if trekkversjon == max(self._versions[trekkid]):
                self._owner[trekkid] = listed_for or trekkpaalegg.trekkpliktig
            if not visible:
                self._hidden.add((trekkid, trekkversjon))
            return trekkpaalegg

    def plant(self, trekkpliktig: str, element: AnyElement) -> AnyElement:
        """Anything in the list of `trekkpliktig`, on top of the newest versions of its orders. Returns it as `add`."""
        with self._lock:
            element = self._with_raw(element)
            self._planted.append(_Listed(trekkpliktig, element))
            self._sekvensnummer = max(self._sekvensnummer, element.sekvensnummer or 0)
            return element

    def uproot(self, trekkpliktig: str) -> None:
        """Undo every `plant` for this one."""
        with self._lock:
            self._planted = [each for each in self._planted if each.trekkpliktig != trekkpliktig]

    def reveal(self, trekkid: str, trekkversjon: int) -> None:
        """A version put with `visible=False` appears, with its former sekvensnummer."""
        with self._lock:
            self._hidden.discard((trekkid, trekkversjon))

    def forget(self, trekkid: str, trekkversjon: int, reason: str = "HTTP 404") -> None:
        """From now on this version is refused by number for this reason; a list that holds it still does."""
        with self._lock:
            self._gone[trekkid, trekkversjon] = Gone(reason)

    def restore(self, trekkid: str, trekkversjon: int) -> None:
        """Undo `forget`."""
        with self._lock:
            self._gone.pop((trekkid, trekkversjon), None)

    def versions(self) -> list[Trekkpaalegg]:
        """Every version that was ever put, by trekkid and trekkversjon."""
        with self._lock:
            return [each[number] for _, each in sorted(self._versions.items()) for number in sorted(each)]

    # Faults.

    def fail(
        self,
        error: TrekkpaaleggError,
        *,
        times: int | None = 1,
        trekkpliktig: str | None = None,
        operation: Operation | None = None,
        version: tuple[str, int] | None = None,
    ) -> None:
        """The next `times` matching calls (None: all, until `heal`) meet this error.

        `version` is the (trekkid, trekkversjon) to fail by number.
        """
        with self._lock:
            self._faults.append(_Fault(error, times, trekkpliktig, operation, version))

    def heal(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()

    # The port.

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """As the port says."""
        with self._lock:
            self.calls.append(SourceCall("list", trekkpliktig, cursor=cursor))
            error = self._strike("list", trekkpliktig)
            if error is not None:
                raise error
            newer = [each for each in self._list_of(trekkpliktig) if each.sekvensnummer is None]
            numbered = [each for each in self._list_of(trekkpliktig) if (each.sekvensnummer or 0) > cursor]
            numbered.sort(key=lambda element: element.sekvensnummer or 0)
            return page_of([*newer, *numbered[: self.maks_antall]], cursor, self.maks_antall)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """As the port says."""
        with self._lock:
            self.calls.append(SourceCall("version", trekkpliktig, trekkid=trekkid, trekkversjon=trekkversjon))
            key = (trekkid, trekkversjon)
            error = self._strike("version", trekkpliktig, key)
            if isinstance(error, RetryableError):
                return Failed(str(error))
            if error is not None:
                raise error
            if key in self._gone:
                return self._gone[key]
            version = self._versions.get(trekkid, {}).get(trekkversjon)
            if version is None or key in self._hidden:
                return Gone()
            return version if trekkpliktig in (self._owner[trekkid], version.trekkpliktig) else Gone()

    def read_element(self, raw: bytes, trekkpliktig: str) -> Element:  # noqa: ARG002  it knows its elements by their text
        """See the port."""
        with self._lock:
            return self._read_back[raw]

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """See the port. Does nothing, except for those in `unprepared`, for whom it fails as the operations do."""
        return (lambda: self._prepare(trekkpliktig)) if trekkpliktig in self.unprepared else None

    def _prepare(self, trekkpliktig: str) -> None:
        with self._lock:
            self.prepared.append(trekkpliktig)
            error = self._strike("prepare", trekkpliktig)
        if error is not None:
            raise error

    def _list_of(self, trekkpliktig: str) -> list[Element]:
        found: list[Element] = [each.element for each in self._planted if each.trekkpliktig == trekkpliktig]
        for trekkid, versions in self._versions.items():
            visible = [number for number in versions if (trekkid, number) not in self._hidden]
            if visible and self._owner[trekkid] == trekkpliktig:
                found.append(versions[max(visible)])
        return found

    def _with_raw(self, element: AnyElement) -> AnyElement:
        """The element with a text that no other has: its own, or its fields as JSON."""
        if not element.raw or self._read_back.get(element.raw, element) != element:
            fields = msgspec.structs.replace(element, raw=b"")
            element = msgspec.structs.replace(element, raw=msgspec.json.encode(fields, enc_hook=Foedselsnummer.reveal))
        self._read_back[element.raw] = element
        return element

    def _strike(
        self, operation: Operation, trekkpliktig: str, version: tuple[str, int] | None = None
    ) -> TrekkpaaleggError | None:
        for fault in self._faults:
            if (
                fault.operation in (operation, None)
                and fault.trekkpliktig in (trekkpliktig, None)
                and fault.version in (version, None)
            ):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                return fault.error
        return None


def make_trekkpaalegg(trekkpliktig: str, random: Random, *, sekvensnummer: int, trekkversjon: int = 1) -> Trekkpaalegg:
    """A version with one open period of an amount; every check digit holds."""
    return Trekkpaalegg(
        trekkid=f"{random.getrandbits(64):016x}",
        trekkversjon=trekkversjon,
        sekvensnummer=sekvensnummer,
        opprettet=_OPPRETTET + sekvensnummer,
        saksnummer=f"TREKK/{sekvensnummer}",
        trekkpliktig=trekkpliktig,
        skyldner=Foedselsnummer(synthetic_skyldner(random)),
        trekkstatus=Trekkstatus.AKTIV,
        trekkstoerrelse_for_periode=(
            TrekkstoerrelseForPeriode(date(2026, 1, 1), None, Decimal(random.randint(1, 90) * 100), None),
        ),
        betalingsinformasjon=Betalingsinformasjon(
            _BETALINGSMOTTAKER, synthetic_kidnummer(sekvensnummer), synthetic_kontonummer(random)
        ),
    )


class HeldCall(NamedTuple):
    """A call on its way to the source."""

    operation: Operation
    trekkpliktig: str
    cursor: int = 0


class GatedSource:
    """Holds calls for which `holds` is true until `opened` is set; `reached` is set when one is held."""

    def __init__(self, source: FakeSource, holds: Callable[[HeldCall], bool]) -> None:
        self.source = source
        self.opened = threading.Event()
        self.reached = threading.Event()
        self._holds = holds

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        """See the port."""
        self._pass(HeldCall("list", trekkpliktig, cursor))
        return self.source.fetch_page(trekkpliktig, cursor)

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        """See the port."""
        self._pass(HeldCall("version", trekkpliktig))
        return self.source.fetch_trekkpaalegg(trekkpliktig, trekkid, trekkversjon)

    def read_element(self, raw: bytes, trekkpliktig: str) -> Element:
        """See the port."""
        return self.source.read_element(raw, trekkpliktig)

    def preparation(self, trekkpliktig: str) -> Callable[[], object] | None:
        """See the port."""
        return self.source.preparation(trekkpliktig)

    def _pass(self, call: HeldCall) -> None:
        if self._holds(call):
            self.reached.set()
            if not self.opened.wait(_HELD_SECONDS_MAX):
                raise TimeoutError("the gate was never opened")
