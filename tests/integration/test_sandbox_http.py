"""The simulated outside world over real HTTP: tokens, answers, connections that break, and ports that stay."""

from __future__ import annotations

import threading
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

from sandbox.skatteetaten.examples import FOREIGN_CLAIMS, HTML_PAGE
from sandbox.skatteetaten.faults import Fault, FaultKind, Operation
from tests.integration.plain_caller import DEADLINE_SECONDS, EMPLOYER, Caller, world_of_one_employer

OTHER = "310000033"


@pytest.fixture
def world():
    with world_of_one_employer() as made:
        yield made


@pytest.fixture
def caller(world):
    with Caller(world.environment([EMPLOYER])) as made:
        yield made


def test_a_list_and_a_single_version_are_fetched_with_a_real_token(world, caller):
    order = world.skatteetaten.create(EMPLOYER)
    answered = caller.list()
    assert answered.headers["content-type"] == "application/json;charset=UTF-8"
    assert [each["trekkid"] for each in answered.json()] == [order.trekkid]
    single = caller.http.get(f"{caller.api_url}/{order.trekkid}/1", headers={"Korrelasjonsid": "k-7"})
    assert single.json() == answered.json()[0]
    assert single.headers["korrelasjonsid"] == "k-7"


@pytest.mark.parametrize("authentication", ["egen", "delegert", "systembruker"])
def test_all_three_ways_of_authentication_reach_the_employers_orders(world, authentication):
    world.skatteetaten.create(EMPLOYER)
    with Caller(world.environment([EMPLOYER], authentication)) as caller:
        assert len(caller.list().json()) == 1


def test_an_employer_without_a_system_user_gets_the_documented_error(world):
    with Caller(world.environment([OTHER]), OTHER) as caller:
        assert caller.answered.status_code == 400
        assert caller.answered.json()["error_description"].startswith("MP-302")


def test_a_million_byte_page_is_the_join_of_its_elements(world):
    employer = world.generate(1, 3000, versions_max=1)[0]
    with Caller(world.environment([employer]), employer) as caller:
        first = caller.list().json()
        rest = caller.list(first[-1]["sekvensnummer"]).json()
    assert (len(first), len(rest)) == (2500, 500)
    assert {(each["trekkid"], each["trekkversjon"]) for each in first + rest} == world.skatteetaten.identities()


def test_small_answers_wait_for_no_acknowledgement(caller):
    """With Nagle's algorithm on, each of these would wait 40 ms."""
    started = time.monotonic()
    for _ in range(100):
        caller.list()
    assert time.monotonic() - started < 3


def test_a_reset_connection_gives_no_answer_and_the_next_call_does(world, caller):
    world.skatteetaten.add_fault(Fault(FaultKind.RESET))
    with pytest.raises(httpx.ReadError, match="reset"):
        caller.list()
    assert caller.list().status_code == 200


def test_a_truncated_answer_ends_before_its_content_length(world, caller):
    world.skatteetaten.create(EMPLOYER)
    world.skatteetaten.add_fault(Fault(FaultKind.TRUNCATED))
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        caller.list()
    assert caller.list().status_code == 200


def test_a_body_of_any_size_is_streamed(world, caller):
    size = 20_000_000
    world.skatteetaten.add_fault(Fault(FaultKind.FILLER, size_bytes=size))
    with caller.http.stream("GET", caller.api_url) as answered:
        assert "content-length" not in answered.headers
        chunks = answered.iter_bytes()
        first = next(chunks)
        total = len(first) + sum(len(chunk) for chunk in chunks)
    assert (first[:2], total) == (b'["', size)


def test_a_caller_that_hangs_up_in_the_middle_of_a_huge_body_ends_it(world, caller):
    world.skatteetaten.add_fault(Fault(FaultKind.FILLER, size_bytes=10**12))
    with caller.http.stream("GET", caller.api_url) as answered:
        next(answered.iter_bytes())
    assert caller.list().status_code == 200


@pytest.mark.parametrize("body", [FOREIGN_CLAIMS, HTML_PAGE, "", "[", "null"])
def test_any_body_is_answered_with_status_200(world, caller, body):
    world.skatteetaten.add_fault(Fault(FaultKind.BODY, Operation.LIST, body=body))
    answered = caller.list()
    assert (answered.status_code, answered.text) == (200, body)


def test_retry_after_comes_in_seconds_and_as_a_date(world, caller):
    for as_http_date in (False, True):
        fault = Fault(FaultKind.STATUS, status=429, seconds=30, as_http_date=as_http_date)
        world.skatteetaten.add_fault(fault)
    seconds, moment = (caller.list().headers["retry-after"] for _ in range(2))
    assert seconds == "30"
    assert 25 < parsedate_to_datetime(moment).timestamp() - time.time() < 35


def test_an_expired_token_is_401_until_a_new_one_is_had(world, caller):
    world.skatteetaten.add_fault(Fault(FaultKind.EXPIRED_TOKEN))
    assert [caller.list().status_code, caller.list().status_code] == [401, 401]
    caller.renew()
    assert caller.list().status_code == 200


def test_the_sixth_call_at_once_is_refused(world, caller):
    world.skatteetaten.add_fault(Fault(FaultKind.DELAY, times=5, seconds=1.0))
    statuses = []
    slow = [threading.Thread(target=lambda: statuses.append(caller.list().status_code)) for _ in range(5)]
    for thread in slow:
        thread.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while world.skatteetaten.simultaneous_max < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    sixth = caller.list().status_code
    for thread in slow:
        thread.join()
    assert (sixth, statuses) == (429, [200] * 5)
    assert caller.list().status_code == 200


def test_a_call_given_up_no_longer_counts_as_under_way(world, caller):
    world.skatteetaten.add_fault(Fault(FaultKind.DELAY, times=5, seconds=60))
    for _ in range(5):
        with pytest.raises(httpx.ReadTimeout):
            caller.http.get(caller.api_url, timeout=0.1)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (status := caller.list().status_code) != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 200


def test_an_outage_refuses_connections_and_ends_on_the_same_port_with_its_state(world, caller):
    world.skatteetaten.create(EMPLOYER)
    for _ in range(3):
        world.stop_api()
        with pytest.raises(httpx.TransportError):
            caller.list()
        with pytest.raises(httpx.ConnectError):
            caller.list()
        world.start_api()
        assert len(caller.list().json()) == 1


def test_stopping_breaks_calls_that_are_under_way(world, caller):
    world.skatteetaten.add_fault(Fault(FaultKind.DELAY, seconds=60))
    errors = []

    def call():
        try:
            caller.list()
        except httpx.TransportError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not world.skatteetaten.calls and time.monotonic() < deadline:
        time.sleep(0.01)
    started = time.monotonic()
    world.stop_api()
    thread.join()
    assert errors
    assert time.monotonic() - started < 3
