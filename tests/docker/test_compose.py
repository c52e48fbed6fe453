"""`docker-compose.yml`: everything comes up, survives any death and any trouble, and is locked down.

One stack serves all tests of this module, in their order; each leaves it healthy, and what one of them loses or
duplicates, the proofs that follow find: they compare all that was ever published.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sandbox.servers.server import free_port
from tests.kit.containers import images
from tests.kit.containers.compose import ComposeProject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
CLOCK = """
import time
from pathlib import Path

_true = time.time
time.time = lambda: _true() + float(Path("/clock/seconds").read_text())
"""
"""Python runs a module of this name before all else: all that follows sees another clock of the wall."""
CLOCK_COMPOSE = """
services:
  producer:
    volumes: ["{folder}:/clock:ro", "{folder}/clock.py:/app/sitecustomize.py:ro"]
"""
OTHER_NETWORK = """
networks:
  default: {{name: {name}_default, external: true}}
"""


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


def is_healthy(stack: ComposeProject) -> bool:
    """Whether all of it runs and is healthy, and the topics were made."""
    states = stack.states()
    assert {name.rpartition("-")[0] for name in states} == {*SERVICES, "topics"}
    return states.pop("topics-1") == "exited" and set(states.values()) == {"healthy"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    environment = {"SANDBOX_TRAFFIC_SECONDS": "2", "SANDBOX_POLL_INTERVAL_SECONDS": "1"}
    with ComposeProject(tmp_path_factory.mktemp("compose"), environment=environment) as project:
        project.build()
        yield project


def test_from_nothing_to_events_in_the_ledger(stack: ComposeProject) -> None:
    """When `up --wait` ends, everything is healthy, and events are in the ledger already."""
    stack.up()
    assert stack.ledger("SELECT count(*) FROM trekkpaalegg")[0][0] > 0
    assert is_healthy(stack), stack.states()


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
    told = stack.execute(service, "sh", "-c", "id -u; echo x > /usr/x")
    assert told.code != 0
    assert int(told.output) != 0
    assert "Read-only file system" in told.errors


def test_images_hold_no_installer_and_no_compiler(stack: ComposeProject) -> None:
    for service, own, foreign in (
        ("producer", "producer", "consumers"),
        ("consumer", "consumers", "producer"),
        ("outside", "sandbox", "producer"),
    ):
        words = [*COMMANDS, "--", own, "pip", "setuptools", "ensurepip", foreign]
        told = stack.execute(service, "python", "-c", FOUND, *words)
        assert told.output.split() == ["sh", own], (service, told.errors)


@pytest.mark.parametrize(
    ("service", "end"), [*((service, "kill") for service in SERVICES if service != "registry"), ("kafka", "stop")]
)
def test_any_one_that_ends_comes_back(stack: ComposeProject, service: str, end: str) -> None:
    """And no producer ends because the broker did."""
    before = stack.container("producer")["State"]["StartedAt"]
    stack.run(end, service)
    if service not in {"postgresql", "outside"}:
        stack.control("create", trekkpliktig=EMPLOYER)  # something to catch up with
    stack.up(*([] if service == "producer" else ["--no-deps", service]))
    wait_until(lambda: is_healthy(stack), "everything is healthy")
    assert_events_flow(stack)
    assert service != "kafka" or stack.container("producer")["State"]["StartedAt"] == before


def test_without_the_registry_a_producer_goes_on_and_one_that_starts_waits_for_it(stack: ComposeProject) -> None:
    stack.run("kill", "registry")
    assert_events_flow(stack)
    missed = stack.log("producer").count("lane ended")
    stack.run("restart", "--no-deps", "producer")
    wait_until(lambda: stack.log("producer").count("lane ended") > missed, "the registry is missed")
    order = stack.control("create", trekkpliktig=EMPLOYER)
    stack.up("--no-deps", "registry")
    wait_until(lambda: is_healthy(stack), "everything is healthy")
    wait_until(lambda: is_in_ledger(stack, order["trekkid"]), "what was made meanwhile is in the ledger")


def test_nothing_was_lost_or_doubled_by_any_of_these_deaths(stack: ComposeProject) -> None:
    assert_proven(stack)


def test_a_program_that_ends_is_started_again(stack: ComposeProject) -> None:
    """Without a hand: the engine starts it."""
    before = stack.container("producer")["State"]["StartedAt"]
    stack.execute("producer", "sh", "-c", "kill -TERM 1")

    def is_back() -> bool:
        now = stack.container("producer")["State"]
        return bool(now["StartedAt"] > before and now["Health"]["Status"] == "healthy")

    wait_until(is_back, "the producer runs again and is healthy")
    assert_events_flow(stack)


def test_three_producers_share_the_work(stack: ComposeProject) -> None:
    stack.up("--no-deps", "--scale", "producer=3", "producer")
    states = stack.states()
    assert [states[f"producer-{number}"] for number in (1, 2, 3)] == ["healthy"] * 3
    ports = [stack.run("port", "--index", str(number), "producer", "8080").output.strip() for number in (1, 2, 3)]

    def lanes() -> list[int]:
        texts = [httpx.get(f"http://{port}/metrics", timeout=10).text for port in ports]
        return sorted(int(text.split("\ntrekkpaalegg_lanes ")[1].split(".")[0]) for text in texts)

    wait_until(lambda: lanes() == [2, 2, 2], "each has two of six lanes")
    assert_events_flow(stack)
    stack.up("--no-deps", "--scale", "producer=1", "producer")


def test_a_port_that_is_taken(stack: ComposeProject) -> None:
    stack.run("rm", "--stop", "--force", "prometheus")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(stack.environment["SANDBOX_PROMETHEUS_PORT"])))
        other.listen()
        refused = stack.up("prometheus", check=False)
        assert refused.code != 0
        assert stack.environment["SANDBOX_PROMETHEUS_PORT"] in refused.errors
        assert "address already in use" in refused.errors
        assert_events_flow(stack)  # all else goes on
    stack.up("prometheus")
    assert is_healthy(stack), stack.states()


def test_a_secret_that_is_missing(stack: ComposeProject) -> None:
    """Neither a start nor an order is lost by it: when the file is there, the next start does all that was left."""
    secret = stack.secrets / "ledger"
    kept = secret.rename(secret.with_name("elsewhere"))
    refused = stack.up("--force-recreate", "--no-deps", "consumer", check=False)
    assert refused.code != 0
    assert str(secret) in refused.errors
    assert "does not exist" in refused.errors
    order = stack.control("create", trekkpliktig=EMPLOYER)
    kept.rename(secret)
    stack.up("--no-deps", "consumer")
    wait_until(lambda: is_in_ledger(stack, order["trekkid"]), "what was made meanwhile came")


def test_a_secret_whose_file_the_program_does_not_find(stack: ComposeProject) -> None:
    name = "MASKINPORTEN_CLIENT_JWK_FILE"
    setting = f"{name}=/run/secrets/nothing"
    ended = stack.run("run", "--rm", "--no-deps", "--env", setting, "producer", "once", check=False)
    assert ended.code == 2
    assert f"{name}: there is no file /run/secrets/nothing; make it, or mount the secret there" in ended.said


def test_a_clock_that_is_half_a_minute_ahead(stack: ComposeProject, tmp_path: Path) -> None:
    """Maskinporten refuses; the log says why and by how much. Nothing is published until the clock is right."""
    tmp_path.chmod(0o755)
    clock = tmp_path / "clock"
    clock.mkdir()
    (clock / "clock.py").write_text(CLOCK)
    (clock / "seconds").write_text("30")
    override = tmp_path / "clock.yml"
    override.write_text(CLOCK_COMPOSE.format(folder=clock))
    stack.files.append(override)
    stack.up("--force-recreate", "--no-deps", "producer")
    order = stack.control("create", trekkpliktig=EMPLOYER)
    said = re.compile(r"this machine's clock is 3[01] s ahead of Maskinporten's; set it right")
    wait_until(lambda: said.search(stack.log("producer")), said.pattern)
    assert not is_in_ledger(stack, order["trekkid"])

    (clock / "right").write_text("0")
    (clock / "right").replace(clock / "seconds")  # never half written
    wait_until(lambda: is_in_ledger(stack, order["trekkid"]), "with the right clock it goes on by itself")
    stack.files.remove(override)
    stack.up("--no-deps", "producer")


def test_the_producer_alone_against_a_kafka_that_is_there(stack: ComposeProject, tmp_path: Path) -> None:
    """Another project in the network of the stack: one container, with settings from a file and nothing beside it."""
    settings = tmp_path / "producer.env"
    settings.write_text(
        "KAFKA_BROKERS=kafka:9092\nTREKKPAALEGG_TOPIC_PREFIX=alone\nTREKKPAALEGG_APPLICATION_ID=alone\n"
        "TREKKPAALEGG_API_URL=http://outside:8081/api/trekkpaalegg/v1\nMASKINPORTEN_CLIENT_ID=sandbox-client\n"
        "MASKINPORTEN_WELL_KNOWN_URL=http://outside:8082/.well-known/oauth-authorization-server\n"
        f"TREKKPAALEGG_TREKKPLIKTIGE={EMPLOYER}\n"
    )
    network = tmp_path / "network.yml"
    network.write_text(OTHER_NETWORK.format(name=stack.name))
    environment = {
        "PRODUCER_ENV_FILE": str(settings),
        "PRODUCER_SECRETS": str(stack.secrets),
        "PRODUCER_HTTP_PORT": str(free_port()),
    }
    with ComposeProject(tmp_path, files=[network], environment=environment) as alone:
        alone.run("run", "--rm", "producer-only", "topics", "apply")
        alone.up("producer-only")
        assert alone.states() == {"producer-only-1": "healthy"}
        tail = ["tail", "--from-beginning", "--max", "5", "--json"]
        read = stack.run("run", "--rm", "--env", "TREKKPAALEGG_TOPIC_PREFIX=alone", "verify", *tail)
        assert len([line for line in read.output.splitlines() if EMPLOYER in line]) == 5


def test_the_producer_alone_without_settings_says_all_that_it_lacks(tmp_path: Path) -> None:
    environment = {"PRODUCER_ENV_FILE": str(tmp_path / "nothing"), "PRODUCER_SECRETS": str(tmp_path / "secrets")}
    with ComposeProject(tmp_path, environment=environment) as alone:
        ended = alone.run("run", "--rm", "producer-only", check=False)
    assert ended.code == 2
    for name in ("KAFKA_BROKERS", "TREKKPAALEGG_API_URL", "TREKKPAALEGG_TREKKPLIKTIGE", "MASKINPORTEN_CLIENT_ID"):
        assert f"{name}: missing" in ended.said


def test_all_of_it_comes_back_with_its_volumes(stack: ComposeProject) -> None:
    """Nothing is lost, and nothing comes a second time, by this or by anything before."""
    before = stack.ledger("SELECT count(*) FROM trekkpaalegg_versjon")[0][0]
    stack.run("down")
    assert stack.containers() == []
    stack.up()
    assert stack.ledger("SELECT count(*) FROM trekkpaalegg_versjon")[0][0] >= before
    assert is_healthy(stack), stack.states()
    assert_events_flow(stack)
    assert_proven(stack)


def test_nothing_is_left_when_the_stack_is_removed(stack: ComposeProject) -> None:
    stack.up("outside")
    stack.remove()
    for kind in ("container", "volume", "network"):
        command = ["docker", kind, "ls", "--quiet", "--filter", f"label=com.docker.compose.project={stack.name}"]
        if kind == "container":
            command.append("--all")
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
