"""The polling source against the simulated Skatteetaten when the network, the API or the answer is at fault."""

from __future__ import annotations

import itertools
import json
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from producer.domain.trekkpaalegg import Failed, Gone, Rejected, Trekkpaalegg
from producer.errors import ProducerError, RetryableError, SuspendedError
from producer.observe.port import NullObserver
from producer.retry import call_retries
from producer.source.client import SkatteetatenClient
from producer.source.exchange import open_http_client
from producer.source.grant import load_client_key
from producer.source.maskinporten import MaskinportenTokens
from producer.source.polling import PollingSource
from producer.source.well_known import WellKnown
from sandbox.outside import OutsideWorld
from sandbox.skatteetaten.faults import ErrorShape, Fault, FaultKind, Operation
from sandbox.skatteetaten.state import Behaviour

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MADE = itertools.count(1)
MEGABYTE = 1024 * 1024


class Listener(NullObserver):
    """Remembers the calls and token outcomes that it is told of."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.tokens: list[str] = []

    def call_finished(self, operation: str, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((operation, status))

    def token_fetched(self, outcome: str) -> None:
        self.tokens.append(outcome)


class Reader:
    """A polling source, and what belongs to it."""

    def __init__(self, outside: OutsideWorld, http: httpx.Client, *, max_concurrent_calls: int = 5) -> None:
        environment = outside.environment([])
        self.listener = Listener()
        self.stop = threading.Event()
        tokens = MaskinportenTokens(
            http,
            WellKnown(http, environment["MASKINPORTEN_WELL_KNOWN_URL"]),
            load_client_key(environment["MASKINPORTEN_CLIENT_JWK"]),
            client_id=environment["MASKINPORTEN_CLIENT_ID"],
            scope=environment["MASKINPORTEN_SCOPES"],
            authentication="systembruker",
            observer=self.listener,
        )
        self.client = SkatteetatenClient(
            http,
            environment["TREKKPAALEGG_API_URL"],
            tokens,
            max_concurrent_calls=max_concurrent_calls,
            response_bytes_max=4 * MEGABYTE,
            observer=self.listener,
        )
        self.source = PollingSource(self.client, call_retries(self.stop), maks_antall=100)


@pytest.fixture(scope="module")
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld(seed=2) as world:
        yield world


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with open_http_client(5) as client:
        yield client


@pytest.fixture
def reader(outside: OutsideWorld, http: httpx.Client) -> Iterator[Reader]:
    yield Reader(outside, http)
    outside.skatteetaten.faults.clear()
    outside.skatteetaten.forget_calls()
    outside.skatteetaten.behaviour = Behaviour()


@pytest.fixture
def trekkpliktig(outside: OutsideWorld) -> str:
    """An employer with three orders."""
    made = f"{311_000_000 + next(MADE):09}"
    outside.register(made)
    for _ in range(3):
        outside.skatteetaten.create(made)
    return made


def error_of(reader: Reader, trekkpliktig: str) -> ProducerError:
    with pytest.raises(ProducerError) as caught:
        reader.source.fetch_page(trekkpliktig, 0)
    return caught.value


PASSING = [
    Fault(FaultKind.STATUS, times=2, status=500, kode="KB-001"),
    Fault(FaultKind.STATUS, times=1, status=429, seconds=0),
    Fault(FaultKind.STATUS, times=1, status=503, seconds=0, as_http_date=True),
    Fault(FaultKind.RESET, times=2),
    Fault(FaultKind.TRUNCATED, times=1),
    Fault(FaultKind.BODY, times=1, body="<html>Logg inn</html>", content_type="text/html"),
    Fault(FaultKind.BODY, times=1, body='{"kode":"KB-001"}'),
    Fault(FaultKind.BODY, times=1, body='[{"trekkid":"1","sekvensnummer":'),
    Fault(FaultKind.BODY, times=1, body='[{"partIdentifikator":"1","aapentKravMedGjenstaaendeBeloep":[]}]'),
    Fault(FaultKind.BODY, times=1, status=302, body=""),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind.value} {fault.status} {fault.body[:9]}")
def test_a_passing_failure_is_bridged_inside_the_call(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str, fault: Fault
) -> None:
    outside.skatteetaten.add_fault(Fault(**{name: getattr(fault, name) for name in fault.__struct_fields__}))
    assert len(reader.source.fetch_page(trekkpliktig, 0).elements) == 3
    assert outside.skatteetaten.faults.faults == []


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind.value} {fault.status} {fault.body[:9]}")
def test_a_lasting_failure_is_an_error_and_never_an_empty_page(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str, fault: Fault
) -> None:
    lasting = {name: getattr(fault, name) for name in fault.__struct_fields__} | {"times": None}
    outside.skatteetaten.add_fault(Fault(**lasting))
    reader.stop.set()  # no second try
    assert isinstance(error_of(reader, trekkpliktig), RetryableError)
    assert isinstance(reader.source.fetch_trekkpaalegg(trekkpliktig, "any", 1), Failed)


@pytest.mark.parametrize("shape", list(ErrorShape))
@pytest.mark.parametrize("status", [400, 403, 404, 406])
def test_a_refused_list_suspends_whatever_the_shape_of_the_error(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str, status: int, shape: ErrorShape
) -> None:
    fault = Fault(FaultKind.STATUS, times=None, status=status, kode="KB-005", error_shape=shape)
    outside.skatteetaten.add_fault(fault)
    error = error_of(reader, trekkpliktig)
    assert isinstance(error, SuspendedError)
    assert f"HTTP {status}" in str(error)
    assert len(outside.skatteetaten.calls) == 1


def test_a_token_that_ended_early_is_renewed_once(outside: OutsideWorld, reader: Reader, trekkpliktig: str) -> None:
    reader.source.fetch_page(trekkpliktig, 0)
    outside.skatteetaten.add_fault(Fault(FaultKind.EXPIRED_TOKEN))
    assert len(reader.source.fetch_page(trekkpliktig, 0).elements) == 3
    assert reader.listener.tokens == ["ok", "ok"]
    assert reader.listener.calls == [("list", "200"), ("list", "401"), ("list", "200")]


def test_a_new_token_that_is_refused_too_suspends(outside: OutsideWorld, reader: Reader, trekkpliktig: str) -> None:
    outside.skatteetaten.add_fault(Fault(FaultKind.EXPIRED_TOKEN, times=None))
    assert isinstance(error_of(reader, trekkpliktig), SuspendedError)
    assert reader.listener.calls == [("list", "401"), ("list", "401")]


def test_a_long_pause_asked_for_is_left_to_the_schedule(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    outside.skatteetaten.add_fault(Fault(FaultKind.STATUS, status=429, seconds=86_400))
    error = error_of(reader, trekkpliktig)
    assert isinstance(error, RetryableError)
    assert error.retry_after_seconds == 3600
    assert len(reader.listener.calls) == 1


def test_an_answer_of_200_megabytes_is_given_up_and_not_held(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    reader.source.fetch_page(trekkpliktig, 0)
    outside.skatteetaten.add_fault(Fault(FaultKind.FILLER, times=None, size_bytes=200 * MEGABYTE))
    tracemalloc.start()
    error = error_of(reader, trekkpliktig)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(error, RetryableError)
    assert "larger than" in str(error)
    assert peak_bytes < 40 * MEGABYTE


def test_never_more_calls_at_a_time_than_allowed(outside: OutsideWorld, http: httpx.Client, trekkpliktig: str) -> None:
    outside.skatteetaten.forget_calls()
    outside.skatteetaten.behaviour = Behaviour(latency_seconds=0.02, calls_at_once_max=100)
    reader = Reader(outside, http, max_concurrent_calls=3)
    with ThreadPoolExecutor(12) as threads:
        pages = list(threads.map(lambda _: reader.source.fetch_page(trekkpliktig, 0), range(24)))
    outside.skatteetaten.behaviour = Behaviour()
    assert all(len(page.elements) == 3 for page in pages)
    assert outside.skatteetaten.simultaneous_max == 3


def test_unusual_but_legal_ways_of_answering_change_nothing(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    for _ in range(20):
        outside.skatteetaten.create(trekkpliktig)
    plain = reader.source.fetch_page(trekkpliktig, 0)
    outside.skatteetaten.behaviour = Behaviour(unsorted=True, empty_body=True, maks_antall_cap=4)
    cursor: int | None = 0
    read = []
    while cursor is not None:
        page = reader.source.fetch_page(trekkpliktig, cursor)
        read += page.elements
        cursor = page.next_cursor
    # A capped page of a shuffled list is still the lowest numbers: shuffling is within the page.
    assert read == plain.elements


def test_the_same_order_in_another_dress_reads_the_same(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    [first, *_] = reader.source.fetch_page(trekkpliktig, 0).elements
    assert isinstance(first, Trekkpaalegg)
    outside.skatteetaten.restyle(first.trekkid, 1)
    [again, *_] = reader.source.fetch_page(trekkpliktig, 0).elements
    assert isinstance(again, Trekkpaalegg)
    assert again.raw != first.raw
    for name in set(first.__struct_fields__) - {"raw"}:
        assert getattr(again, name) == getattr(first, name)


def test_another_version_than_was_asked_for_is_a_failure(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    made = outside.skatteetaten.create(trekkpliktig)
    for body in (
        made.body.replace(b'"trekkversjon":1', b'"trekkversjon":2'),
        made.body.replace(b'"trekkid":"', b'"trekkid":"x'),
    ):
        outside.skatteetaten.add_fault(Fault(FaultKind.BODY, operation=Operation.VERSION, body=body.decode()))
        assert isinstance(reader.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1), Failed)


def test_a_version_that_cannot_be_understood_is_rejected(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    made = outside.skatteetaten.create(trekkpliktig)
    wire = json.loads(made.body)
    outside.skatteetaten.replace_raw(made.trekkid, 1, json.dumps({**wire, "opprettet": "in January"}))
    rejected = reader.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1)
    assert isinstance(rejected, Rejected)
    assert (rejected.trekkid, rejected.trekkversjon, rejected.field_path) == (made.trekkid, 1, "opprettet")


def test_every_call_tells_who_calls_and_is_logged_with_its_own_korrelasjonsid(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    [first, *_] = reader.source.fetch_page(trekkpliktig, 0).elements
    outside.skatteetaten.forget_calls()
    outside.skatteetaten.add_fault(Fault(FaultKind.STATUS, status=500, kode="KB-001"))
    with capture_logs() as lines:
        reader.source.fetch_page(trekkpliktig, 0)
        assert isinstance(reader.source.fetch_trekkpaalegg(trekkpliktig, "unknown", 1), Gone)
    calls = list(outside.skatteetaten.calls)
    assert len({call.korrelasjonsid for call in calls}) == 3
    assert all(call.klientid is not None and call.klientid.startswith("trekkpaalegg-stream/") for call in calls)
    assert [line["korrelasjonsid"] for line in lines] == [call.korrelasjonsid for call in calls]
    assert [(line["operation"], line["status"]) for line in lines] == [
        ("list", "500"),
        ("list", "200"),
        ("version", "404"),
    ]
    assert all(line["trekkpliktig"] == trekkpliktig and line["milliseconds"] >= 0 for line in lines)
    assert isinstance(first, Trekkpaalegg)
    assert first.skyldner.reveal() not in repr(lines)
    assert "Bearer" not in repr(lines)


def test_an_outage_is_an_error_and_its_end_is_seen(outside: OutsideWorld, reader: Reader, trekkpliktig: str) -> None:
    reader.source.fetch_page(trekkpliktig, 0)
    outside.stop_api()
    try:
        assert isinstance(error_of(reader, trekkpliktig), RetryableError)
        assert {status for _, status in reader.listener.calls[1:]} == {"failed"}
    finally:
        outside.start_api()
    assert len(reader.source.fetch_page(trekkpliktig, 0).elements) == 3


def test_a_stop_ends_the_pause_between_tries(outside: OutsideWorld, reader: Reader, trekkpliktig: str) -> None:
    outside.skatteetaten.add_fault(Fault(FaultKind.STATUS, times=None, status=503, seconds=5))
    timer = threading.Timer(0.05, reader.stop.set)
    timer.start()
    begun = time.monotonic()
    error_of(reader, trekkpliktig)
    timer.join()
    assert time.monotonic() - begun < 3
