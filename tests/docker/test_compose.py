"""`docker-compose.yml`: everything comes up, survives the death of any one part and of all, and is locked down.

One stack serves all tests of this module, in their order; each leaves it healthy.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.kit.containers import images
from tests.kit.containers.compose import ComposeProject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.docker(images.KAFKA, images.REGISTRY, images.POSTGRESQL, images.PROMETHEUS, images.PYTHON)

SERVICES = ("kafka", "registry", "postgresql", "outside", "producer", "consumer", "prometheus")
EMPLOYER = "357475856"
DEADLINE_SECONDS = 240.0
COMMANDS = ("sh", "pip", "pip3", "gcc", "cc")
FOUND = """
import importlib.util, shutil, sys
mark = sys.argv.index("--")
print(*filter(shutil.which, sys.argv[1:mark]), *filter(importlib.util.find_spec, sys.argv[mark + 1:]))
"""
"""Which of some commands and, after `--`, which of some modules there are."""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:.0f} s: {what}"
        time.sleep(0.3)
    return found


def is_in_ledger(stack: ComposeProject, trekkid: str, trekkversjon: int = 1) -> bool:
    found = stack.ledger(
        "SELECT 1 FROM trekkpaalegg_versjon WHERE trekkid = %s AND trekkversjon = %s", trekkid, trekkversjon
    )
    return bool(found)


def assert_events_flow(stack: ComposeProject) -> None:
    """An order that is made now comes to the ledger."""
    order = stack.control("create", trekkpliktig=EMPLOYER)
    wait_until(lambda: is_in_ledger(stack, order["trekkid"]), "a new order is in the ledger")


def assert_proven(stack: ComposeProject) -> None:
    """Topics, ledger and source are equal, field by field, says `verify`; what is on its way may be so for a moment."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (proof := stack.run("run", "--rm", "verify", check=False)).code:
        assert time.monotonic() < deadline, proof.said
    assert "source_newest" in proof.output
    assert "ledger_history" in proof.output


def assert_healthy(stack: ComposeProject) -> None:
    states = stack.states()
    assert states.pop("topics-1") == "exited"
    assert set(states.values()) == {"healthy"}, states
    assert {name.rpartition("-")[0] for name in states} == set(SERVICES)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    environment = {"SANDBOX_TRAFFIC_SECONDS": "2", "SANDBOX_POLL_INTERVAL_SECONDS": "1"}
    with ComposeProject(tmp_path_factory.mktemp("compose"), environment=environment) as project:
        project.run("build")
        yield project


def test_from_nothing_to_events_in_the_ledger(stack: ComposeProject) -> None:
    """When `up --wait` ends, everything is healthy, and events are in the ledger already."""
    stack.up()
    assert stack.ledger("SELECT count(*) FROM trekkpaalegg")[0][0] > 0
    assert_healthy(stack)
    assert_proven(stack)


def test_prometheus_sees_producer_and_consumer(stack: ComposeProject) -> None:
    port = stack.environment["SANDBOX_PROMETHEUS_PORT"]

    def jobs() -> set[str]:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": "up == 1"}, timeout=10)
        return {each["metric"]["job"] for each in answer.json()["data"]["result"]}

    wait_until(lambda: jobs() == {"producer", "consumer"}, "both are scraped")


def test_every_container_is_locked_down(stack: ComposeProject) -> None:
    """Asked of the engine, not of the file: user, file system, rights, limits, ports, and no secret in a setting."""
    containers = stack.containers()
    assert len(containers) == len(SERVICES) + 1
    secret_texts = [path.read_text(encoding="utf-8").strip() for path in stack.secrets.iterdir()]
    for each in containers:
        name, host = each["Name"], each["HostConfig"]
        assert each["Config"]["User"] not in {"", "0", "root"}, name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert not host["Privileged"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert 0 < host["Memory"] <= 1 << 30, name
        assert 0 < host["NanoCpus"] <= 1_500_000_000, name
        assert 0 < host["PidsLimit"] <= 400, name
        bindings = [binding for ports in host["PortBindings"].values() for binding in ports]
        assert {binding["HostIp"] for binding in bindings} <= {"127.0.0.1"}, name
        assert not [text for text in secret_texts for setting in each["Config"]["Env"] if text in setting], name
        volumes = [mount for mount in each["Mounts"] if mount["Type"] == "volume"]
        assert all(mount["Name"].startswith(f"{stack.name}_") for mount in volumes), f"{name}: a volume without a name"
        assert all(not mount["RW"] for mount in each["Mounts"] if mount["Type"] == "bind"), name


@pytest.mark.parametrize("service", [each for each in SERVICES if each != "prometheus"])
def test_nothing_runs_as_root_or_writes_to_its_image(stack: ComposeProject, service: str) -> None:
    """Asked of the running process itself."""
    told = stack.run("exec", "-T", service, "sh", "-c", "id -u; echo x > /usr/x", check=False)
    assert told.code != 0
    assert int(told.output) != 0
    assert "Read-only file system" in told.said


def test_images_hold_no_installer_and_no_compiler(stack: ComposeProject) -> None:
    for service, own, foreign in (
        ("producer", "producer", "consumers"),
        ("consumer", "consumers", "producer"),
        ("outside", "sandbox", "producer"),
    ):
        words = [*COMMANDS, "--", own, "pip", "setuptools", "ensurepip", foreign]
        assert stack.run("exec", "-T", service, "python", "-c", FOUND, *words).output.split() == ["sh", own], service


@pytest.mark.parametrize("service", SERVICES)
def test_any_one_killed_comes_back(stack: ComposeProject, service: str) -> None:
    stack.run("kill", service)
    if service not in {"postgresql", "outside"}:
        stack.control("create", trekkpliktig=EMPLOYER)  # something to catch up with
    stack.up()
    assert_healthy(stack)
    assert_events_flow(stack)


def test_nothing_was_lost_or_doubled_by_any_of_these_deaths(stack: ComposeProject) -> None:
    assert_proven(stack)


def test_a_program_that_ends_is_started_again(stack: ComposeProject) -> None:
    """Without a hand: the engine starts it."""
    (before,) = [each["State"]["StartedAt"] for each in stack.containers() if "-producer-" in each["Name"]]
    stack.run("exec", "-T", "producer", "sh", "-c", "kill -TERM 1")

    def is_back() -> bool:
        (now,) = [each["State"] for each in stack.containers() if "-producer-" in each["Name"]]
        return bool(now["StartedAt"] > before and now["Health"]["Status"] == "healthy")

    wait_until(is_back, "the producer runs again and is healthy")
    assert_events_flow(stack)


def test_three_producers_share_the_work(stack: ComposeProject) -> None:
    stack.up("--scale", "producer=3")
    states = stack.states()
    assert [states[f"producer-{number}"] for number in (1, 2, 3)] == ["healthy"] * 3

    def lanes() -> list[int]:
        ports = [stack.run("port", "--index", str(number), "producer", "8080").output.strip() for number in (1, 2, 3)]
        texts = [httpx.get(f"http://{port}/metrics", timeout=10).text for port in ports]
        return sorted(int(text.split("\ntrekkpaalegg_lanes ")[1].split(".")[0]) for text in texts)

    wait_until(lambda: lanes() == [2, 2, 2], "each has two of six lanes")
    assert_events_flow(stack)
    assert_proven(stack)
    stack.up("--scale", "producer=1")


def test_all_of_it_comes_back_with_its_volumes(stack: ComposeProject) -> None:
    """Nothing is lost, and nothing comes a second time."""
    before = stack.ledger("SELECT count(*) FROM trekkpaalegg_versjon")[0][0]
    stack.run("down")
    assert stack.containers() == []
    stack.up()
    assert stack.ledger("SELECT count(*) FROM trekkpaalegg_versjon")[0][0] >= before
    assert_healthy(stack)
    assert_events_flow(stack)
    assert_proven(stack)
