"""The simulated outside world over real HTTP: connections that break, ports that stay, commands that steer it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from email.utils import parsedate_to_datetime

import httpx
import jwt
import pytest

from sandbox.examples import EXAMPLES_TREKKPLIKTIG, FOREIGN_CLAIMS, HTML_PAGE
from sandbox.outside import OutsideWorld
from sandbox.outside_process import OutsideProcess
from sandbox.skatteetaten.faults import Fault, FaultKind, Operation

EMPLOYER, OTHER = "310000025", "310000033"
DEADLINE_SECONDS = 20.0


class Caller:
    """A plain client: gets a token as the contract's variables say, and asks."""

    def __init__(self, environment, party=EMPLOYER) -> None:
        self.api_url = environment["TREKKPAALEGG_API_URL"]
        self.http = httpx.Client(timeout=DEADLINE_SECONDS)
        self.key = jwt.PyJWK(json.loads(environment["MASKINPORTEN_CLIENT_JWK"]))
        self.environment = environment
        self.party = party
        self.renew()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.http.close()

    def renew(self):
        metadata = self.http.get(self.environment["MASKINPORTEN_WELL_KNOWN_URL"]).json()
        now = int(time.time())
        claims = {
            "aud": metadata["issuer"],
            "iss": self.environment["MASKINPORTEN_CLIENT_ID"],
            "scope": self.environment["MASKINPORTEN_SCOPES"],
            "iat": now,
            "exp": now + 60,
            "jti": str(uuid.uuid4()),
        }
        organisation = {"authority": "iso6523-actorid-upis", "ID": f"0192:{self.party}"}
        if self.environment["TREKKPAALEGG_AUTHENTICATION"] == "systembruker":
            claims["authorization_details"] = [{"type": "urn:altinn:systemuser", "systemuser_org": organisation}]
        if self.environment["TREKKPAALEGG_AUTHENTICATION"] == "delegert":
            claims["consumer_org"] = self.party
        assertion = jwt.encode(claims, self.key.key, "RS256", {"kid": self.key.key_id})
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        self.answered = self.http.post(metadata["token_endpoint"], data=form)
        self.http.headers["Authorization"] = f"Bearer {self.answered.json().get('access_token')}"

    def list(self, after=0, most=2500):
        return self.http.get(self.api_url, params={"fraSekvensnummer": after, "maksAntall": most})


@pytest.fixture
def world():
    with OutsideWorld(seed=5) as outside:
        outside.register(EMPLOYER)
        yield outside


@pytest.fixture
def caller(world):
    with Caller(world.environment([EMPLOYER])) as made:
        yield made


def control(world, command, **arguments):
    return httpx.post(f"{world.control_url}/{command}", json=arguments, timeout=DEADLINE_SECONDS)


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


def test_the_control_address_makes_changes_and_breaks_things(world, caller):
    listed = httpx.get(world.control_url).json()
    assert {"create", "change", "plant", "fault", "counts"} <= set(listed)
    made = control(world, "create", trekkpliktig=EMPLOYER, fields={"saksnummer": "by hand"}).json()
    changed = control(world, "change", trekkid=made["trekkid"]).json()
    assert (made["trekkversjon"], changed["trekkversjon"]) == (1, 2)
    control(world, "plant", trekkpliktig=EMPLOYER, text='{"broken": true}')
    assert [each.get("saksnummer") for each in caller.list().json()] == ["by hand", None]
    control(world, "fault", fault={"kind": "status", "status": 500})
    assert caller.list().status_code == 500
    counts = httpx.get(f"{world.control_url}/counts").json()
    assert counts["calls"]["list"] == {"200": 1, "500": 1}
    assert counts["tokens"] == {"issued": 1}
    assert len(control(world, "identities").json()) == 2


def test_control_loads_the_examples_and_generates(world):
    assert control(world, "examples").json() == EXAMPLES_TREKKPLIKTIG
    assert len(world.skatteetaten.identities()) == 19
    employers = control(world, "generate", trekkpliktige=2, orders=50, every_shape=True).json()
    assert len(employers) == 2
    environment = control(world, "environment", trekkpliktige=employers).json()
    with Caller(environment, employers[0]) as caller:
        assert len(caller.list().json()) == 25


def test_control_sets_behaviour_and_outages(world, caller):
    for _ in range(3):
        control(world, "create", trekkpliktig=EMPLOYER)
    assert control(world, "behaviour", settings={"maks_antall_cap": 2}).json()["maks_antall_cap"] == 2
    assert control(world, "behaviour", settings={"unsorted": True}).json()["maks_antall_cap"] == 2
    assert len(caller.list().json()) == 2
    assert control(world, "outage", service="skatteetaten").status_code == 200
    with pytest.raises(httpx.TransportError):
        caller.list()
    control(world, "outage", service="skatteetaten", ended=True)
    assert caller.list().status_code == 200


@pytest.mark.parametrize(
    ("command", "arguments", "status"),
    [
        ("nonsense", {}, 404),
        ("change", {"trekkid": "unknown"}, 404),
        ("create", {}, 400),
        ("create", {"trekkpliktig": EMPLOYER, "colour": "red"}, 400),
        ("fault", {"fault": {"kind": "nonsense"}}, 400),
        ("behaviour", {"settings": {"nonsense": 1}}, 400),
        ("midnight", {"today": "tomorrow", "as_new_version": True}, 400),
        ("outage", {"service": "nonsense"}, 400),
    ],
)
def test_a_wrong_command_is_refused_with_one_sentence(world, command, arguments, status):
    answered = control(world, command, **arguments)
    assert answered.status_code == status
    assert answered.json()["error"]


def test_a_command_that_is_no_json_object_is_refused(world):
    for content in (b"[1]", b"{"):
        assert httpx.post(f"{world.control_url}/create", content=content).status_code == 400


def test_it_runs_as_a_process_of_its_own_and_ends_with_it():
    with OutsideProcess("--trekkpliktige", "2", "--orders", "10", "--seed", "3") as outside:
        assert outside.trekkpliktige[-1] == EXAMPLES_TREKKPLIKTIG
        with Caller(outside.environment(outside.trekkpliktige), EXAMPLES_TREKKPLIKTIG) as caller:
            assert len(caller.list().json()) == 10
        pid = outside.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_command_prints_settings_to_export_and_ends_in_peace_on_a_signal():
    command = [sys.executable, "-m", "sandbox", "api", "--no-examples"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(9)]
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
    assert [line.split("=")[0] for line in lines[:2]] == [
        "export TREKKPAALEGG_API_URL",
        "export TREKKPAALEGG_TREKKPLIKTIGE",
    ]
    assert lines[8].startswith("# control address: http://127.0.0.1:")


def test_a_taken_port_is_said_in_one_line(world):
    port = world.api_url.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "sandbox", "api", "--api-port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "port" in ended.stderr
