"""`docker compose` in trouble: a clear error each, nothing lost, and recovery when the cause goes; the producer alone.

One stack without Prometheus serves all tests of this module; each leaves it healthy.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.servers.server import free_port
from tests.kit.containers import images
from tests.kit.containers.compose import ComposeProject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.docker(images.KAFKA, images.REGISTRY, images.POSTGRESQL, images.PROMETHEUS, images.PYTHON)

EMPLOYER = "357475856"
DEADLINE_SECONDS = 240.0
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


def is_in_ledger(stack: ComposeProject, order: dict[str, Any]) -> bool:
    found = stack.ledger("SELECT 1 FROM trekkpaalegg_versjon WHERE trekkid = %s", order["trekkid"])
    return bool(found)


def assert_proven(stack: ComposeProject) -> None:
    proof = stack.run("run", "--rm", "verify", check=False)
    assert proof.code == 0, proof.said


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    environment = {"SANDBOX_TRAFFIC_SECONDS": "0", "SANDBOX_POLL_INTERVAL_SECONDS": "1"}
    with ComposeProject(tmp_path_factory.mktemp("compose"), environment=environment) as project:
        project.run("build")
        project.up("producer", "consumer")
        yield project


def test_a_port_that_is_taken(stack: ComposeProject) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(stack.environment["SANDBOX_PROMETHEUS_PORT"])))
        other.listen()
        refused = stack.up("prometheus", check=False)
        assert refused.code != 0
        assert stack.environment["SANDBOX_PROMETHEUS_PORT"] in refused.errors
        assert "address already in use" in refused.errors
        order = stack.control("create", trekkpliktig=EMPLOYER)
        wait_until(lambda: is_in_ledger(stack, order), "all else goes on")
    stack.up("prometheus")
    assert stack.states()["prometheus-1"] == "healthy"
    stack.run("rm", "--stop", "--force", "prometheus")


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
    stack.up("consumer")
    wait_until(lambda: is_in_ledger(stack, order), "what was made meanwhile came")
    assert_proven(stack)


def test_a_secret_whose_file_the_program_does_not_find(stack: ComposeProject) -> None:
    name = "MASKINPORTEN_CLIENT_JWK_FILE"
    ended = stack.run("run", "--rm", "--env", f"{name}=/run/secrets/nothing", "producer", "once", check=False)
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
    wait_until(lambda: said.search(stack.run("logs", "producer").output), said.pattern)
    assert not is_in_ledger(stack, order)

    (clock / "right").write_text("0")
    (clock / "right").replace(clock / "seconds")  # never half written
    wait_until(lambda: is_in_ledger(stack, order), "with the right clock it goes on by itself")
    assert_proven(stack)
    stack.files.remove(override)
    stack.up("producer")


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


def test_a_stack_leaves_nothing_behind(tmp_path: Path) -> None:
    with ComposeProject(tmp_path) as project:
        project.up("outside")
    for kind in ("container", "volume", "network"):
        command = ["docker", kind, "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project.name}"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
