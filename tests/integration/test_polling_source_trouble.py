"""The polling source against the simulated Skatteetaten when the network, the API or the answer is at fault."""

from __future__ import annotations

import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from producer.domain.trekkpaalegg import Failed, Gone, Trekkpaalegg
from producer.errors import SuspendedError
from producer.source.http import open_http_client
from sandbox.control.world import OutsideWorld
from sandbox.skatteetaten.faults import ErrorShape, Fault, FaultKind
from tests.integration.polling_reader import MEGABYTE, Reader, employer_with_three_orders, reader_of
from trekkpaalegg.errors import RetryableError, TrekkpaaleggError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


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
    with reader_of(outside, http) as made:
        yield made


@pytest.fixture
def trekkpliktig(outside: OutsideWorld) -> str:
    return employer_with_three_orders(outside)


def error_of(reader: Reader, trekkpliktig: str) -> TrekkpaaleggError:
    with pytest.raises(TrekkpaaleggError) as caught:
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


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 409, 410, 414, 422, 451])
def test_a_refused_version_concerns_that_version_alone(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str, status: int
) -> None:
    refused = outside.skatteetaten.create(trekkpliktig)
    other = outside.skatteetaten.change(refused.trekkid)
    fault = Fault(FaultKind.STATUS, times=None, status=status, kode="KB-005", trekkid=refused.trekkid, trekkversjon=1)
    outside.skatteetaten.add_fault(fault)
    fetch = reader.source.fetch_trekkpaalegg
    assert fetch(trekkpliktig, refused.trekkid, 1) == Gone(f"HTTP {status}")
    assert isinstance(fetch(trekkpliktig, other.trekkid, 2), Trekkpaalegg)
    assert len(reader.source.fetch_page(trekkpliktig, 0).elements) == 4
    assert [call for call in reader.listener.calls if call[1] != "200"] == [("version", str(status))]


def test_a_new_token_that_is_refused_for_a_version_suspends(
    outside: OutsideWorld, reader: Reader, trekkpliktig: str
) -> None:
    made = outside.skatteetaten.create(trekkpliktig)
    outside.skatteetaten.add_fault(Fault(FaultKind.EXPIRED_TOKEN, times=None))
    with pytest.raises(SuspendedError):
        reader.source.fetch_trekkpaalegg(trekkpliktig, made.trekkid, 1)
    assert reader.listener.calls == [("version", "401"), ("version", "401")]


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
