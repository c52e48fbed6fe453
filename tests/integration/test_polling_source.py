"""The polling source against the simulated Skatteetaten: how it calls, and what it makes of unusual answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from producer.domain.trekkpaalegg import Failed, Gone, Rejected, Trekkpaalegg
from producer.source.http import open_http_client
from sandbox.control.world import OutsideWorld
from sandbox.skatteetaten.faults import Fault, FaultKind, Operation
from sandbox.skatteetaten.state import Behaviour
from tests.integration.polling_reader import Reader, employer_with_three_orders, reader_of

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


def test_every_call_names_its_caller_and_is_logged_with_its_own_korrelasjonsid(
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
