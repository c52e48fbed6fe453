"""Two worlds with the same hands: a source in memory, and the real adapter against the simulated Skatteetaten."""

from __future__ import annotations

import itertools
import json
import threading
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from producer.domain.trekkpaalegg import Rejected, RejectionReason
from producer.errors import SuspendedError
from producer.source.auth.grant import load_client_key
from producer.source.auth.maskinporten import MaskinportenTokens, WellKnown
from producer.source.client import SkatteetatenClient
from producer.source.http import open_http_client
from producer.source.polling import PollingSource
from sandbox.control.world import OutsideWorld
from sandbox.skatteetaten.faults import Fault, FaultKind, Operation
from tests.kit.fakes.source import FakeSource
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.retry import short_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.source.port import TrekkpaaleggSource

MAKS_ANTALL = 3
PAUSE_SECONDS = 60.0
MADE = itertools.count(1)


class Version(Protocol):
    """What both worlds tell of a version that they made."""

    @property
    def trekkid(self) -> str: ...
    @property
    def trekkversjon(self) -> int: ...
    @property
    def sekvensnummer(self) -> int: ...


class World(Protocol):
    """A source and the hands that change what it sees."""

    source: TrekkpaaleggSource
    maks_antall: int
    pause_seconds: float

    def register(self) -> str: ...
    def create(self, trekkpliktig: str, trekkid: str | None = None) -> Version: ...
    def change(self, trekkid: str) -> Version: ...
    def forget(self, trekkid: str, trekkversjon: int) -> None: ...
    def plant_broken(self, trekkpliktig: str) -> None: ...
    def refuse_list(self, trekkpliktig: str) -> None: ...
    def refuse_version(self, trekkid: str, trekkversjon: int) -> None: ...
    def refuse_token(self, trekkpliktig: str) -> None: ...
    def be_busy(self) -> None: ...
    def recover(self) -> None: ...


def new_trekkpliktig() -> str:
    return f"{310_000_000 + next(MADE):09}"


class FakeWorld:
    maks_antall, pause_seconds = MAKS_ANTALL, PAUSE_SECONDS

    def __init__(self) -> None:
        self.fake = FakeSource(maks_antall=MAKS_ANTALL)
        self.source: TrekkpaaleggSource = self.fake

    def register(self) -> str:
        return new_trekkpliktig()

    def create(self, trekkpliktig: str, trekkid: str | None = None) -> Version:
        return self.fake.create(trekkpliktig, **({"trekkid": trekkid} if trekkid else {}))

    def change(self, trekkid: str) -> Version:
        return self.fake.change(trekkid)

    def forget(self, trekkid: str, trekkversjon: int) -> None:
        self.fake.forget(trekkid, trekkversjon)

    def plant_broken(self, trekkpliktig: str) -> None:
        newest = max((version.sekvensnummer for version in self.fake.versions()), default=0)
        reason = RejectionReason.MISSING_FIELD
        broken = Rejected(trekkpliktig, b"{}", b"hash", reason, "opprettet", "Missing.", sekvensnummer=newest + 1)
        self.fake.plant(trekkpliktig, broken)

    def refuse_list(self, trekkpliktig: str) -> None:
        self.fake.fail(SuspendedError("refused"), times=None, trekkpliktig=trekkpliktig, operation="list")

    def refuse_version(self, trekkid: str, trekkversjon: int) -> None:
        self.fake.forget(trekkid, trekkversjon, "HTTP 403")

    def refuse_token(self, trekkpliktig: str) -> None:
        self.fake.fail(SuspendedError("refused"), times=None, trekkpliktig=trekkpliktig)

    def be_busy(self) -> None:
        self.fake.fail(RetryableError("busy", retry_after_seconds=PAUSE_SECONDS), times=None)

    def recover(self) -> None:
        self.fake.heal()


class SimulatedWorld:
    maks_antall, pause_seconds = MAKS_ANTALL, PAUSE_SECONDS

    def __init__(self, outside: OutsideWorld, source: TrekkpaaleggSource) -> None:
        self.outside = outside
        self.source = source

    def register(self) -> str:
        trekkpliktig = new_trekkpliktig()
        self.outside.register(trekkpliktig)
        return trekkpliktig

    def create(self, trekkpliktig: str, trekkid: str | None = None) -> Version:
        return self.outside.skatteetaten.create(trekkpliktig, {"trekkid": trekkid} if trekkid else None)

    def change(self, trekkid: str) -> Version:
        return self.outside.skatteetaten.change(trekkid)

    def forget(self, trekkid: str, trekkversjon: int) -> None:
        self.outside.skatteetaten.book.forget(trekkid, trekkversjon)

    def plant_broken(self, trekkpliktig: str) -> None:
        skatteetaten = self.outside.skatteetaten
        number = skatteetaten.next_sekvensnummer()
        wire = {"trekkid": "broken", "trekkversjon": 1, "sekvensnummer": number}
        skatteetaten.plant(trekkpliktig, json.dumps(wire), sekvensnummer=number)

    def refuse_list(self, trekkpliktig: str) -> None:
        self._add_fault(FaultKind.STATUS, operation=Operation.LIST, trekkpliktig=trekkpliktig, status=403)

    def refuse_version(self, trekkid: str, trekkversjon: int) -> None:
        self._add_fault(FaultKind.STATUS, trekkid=trekkid, trekkversjon=trekkversjon, status=403)

    def refuse_token(self, trekkpliktig: str) -> None:
        self._add_fault(FaultKind.EXPIRED_TOKEN, trekkpliktig=trekkpliktig)

    def be_busy(self) -> None:
        self._add_fault(FaultKind.STATUS, status=429, seconds=PAUSE_SECONDS)

    def recover(self) -> None:
        self.outside.skatteetaten.faults.clear()

    def _add_fault(self, kind: FaultKind, **details: Any) -> None:
        self.outside.skatteetaten.add_fault(Fault(kind, times=None, **details))


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedWorld]:
    with OutsideWorld(seed=1) as outside, open_http_client(5) as http:
        environment = outside.environment([])
        tokens = MaskinportenTokens(
            http,
            WellKnown(http, environment["MASKINPORTEN_WELL_KNOWN_URL"]),
            load_client_key(environment["MASKINPORTEN_CLIENT_JWK"]),
            client_id=environment["MASKINPORTEN_CLIENT_ID"],
            scope=environment["MASKINPORTEN_SCOPES"],
            authentication="systembruker",
        )
        client = SkatteetatenClient(http, environment["TREKKPAALEGG_API_URL"], tokens)
        retries = short_retry(threading.Event())
        yield SimulatedWorld(outside, PollingSource(client, retries, maks_antall=MAKS_ANTALL))


@pytest.fixture(params=["fake", "polling"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    built: World = FakeWorld() if request.param == "fake" else request.getfixturevalue("simulated")
    yield built
    built.recover()
