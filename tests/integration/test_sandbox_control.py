"""The simulated outside world steered from outside: commands to its control address, and a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest

from sandbox.skatteetaten.examples import EXAMPLES_TREKKPLIKTIG
from tests.integration.plain_caller import DEADLINE_SECONDS, EMPLOYER, Caller, world_of_one_employer
from tests.kit.processes import OutsideProcess


@pytest.fixture
def world():
    with world_of_one_employer() as made:
        yield made


@pytest.fixture
def caller(world):
    with Caller(world.environment([EMPLOYER])) as made:
        yield made


def control(world, command, **arguments):
    return httpx.post(f"{world.control_url}/{command}", json=arguments, timeout=DEADLINE_SECONDS)


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
