"""A running producer while servers come and go: alive, and it says what is missing. What is scraped of both sides."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.server import free_port
from tests.kit.processes import ConsumerProcess
from tests.kit.servers.proxy import KafkaProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.servers.process import ServerProcess

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 90.0
METRIC = re.compile(r"\b(?:trekkpaalegg|process)_[a-z_]+")

OF_OTHER_WAYS_TO_RUN = re.compile(r"trekkpaalegg_(oldest_pull_age|pull_interval)_seconds|trekkpaalegg_webhook_.*")
"""What a producer shows that asks Altinn, and a consumer that is `webhook`."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[KafkaProxy]:
    with KafkaProxy() as between:
        yield between


@pytest.fixture(scope="module")
def proxied_kafka(proxy: KafkaProxy) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(properties=proxy.broker_properties) as server:
        proxy.target_port = server.port
        yield server


@pytest.fixture
def stage(proxied_kafka: EmbeddedKafka, make_stage: Any) -> Any:
    return make_stage(proxied_kafka)


def address(stage: Any, process: ServerProcess, event: str) -> str:
    """Where it serves, by its log."""

    def found() -> list[int]:
        return [entry["http_port"] for entry in process.log_entries() if entry.get("event") == event]

    stage.wait_until(found, DEADLINE_SECONDS, "its addresses are served")
    return f"http://127.0.0.1:{found()[0]}"


def misses(url: str, what: str, words: str) -> bool:
    answer = httpx.get(f"{url}/readyz", timeout=20)
    return answer.status_code == 503 and words in answer.json()["missing"].get(what, "")


def is_ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=20).is_success


def is_alive(url: str) -> bool:
    return httpx.get(f"{url}/livez", timeout=20).is_success


def test_a_producer_without_a_registry_is_alive_and_says_which_lanes_wait_for_it(stage: Any) -> None:
    process = stage.run(KAFKA_SCHEMA_REGISTRY=f"http://127.0.0.1:{free_port()}")
    url = address(stage, process, "started")
    stage.wait_until(lambda: misses(url, "lanes", "no answer from http"), DEADLINE_SECONDS, "it misses the registry")
    assert is_alive(url)


def test_a_producer_without_kafka_is_alive_and_says_so_until_it_is_back(stage: Any, proxy: KafkaProxy) -> None:
    proxy.go_down()
    process = stage.run()
    url = address(stage, process, "started")
    stage.wait_until(lambda: misses(url, "start", "Kafka"), DEADLINE_SECONDS, "it misses Kafka at the start")
    assert is_alive(url)
    proxy.come_up()
    stage.wait_until_owned(process, deadline_seconds=DEADLINE_SECONDS)
    stage.wait_until(lambda: is_ready(url), DEADLINE_SECONDS, "it is ready")
    proxy.go_down()
    stage.wait_until(lambda: misses(url, "kafka", "no broker"), DEADLINE_SECONDS, "it misses Kafka later")
    assert is_alive(url)
    proxy.come_up()
    stage.wait_until(lambda: is_ready(url), DEADLINE_SECONDS, "it is ready again")
    stage.outside.skatteetaten.create(stage.employers[0])
    stage.wait_until_published(DEADLINE_SECONDS)


def test_what_is_scraped_of_both_sides_is_well_formed_and_holds_what_the_alerts_look_for(
    stage: Any, tmp_path: Path, program: Callable[[str], str]
) -> None:
    promtool = program("promtool")
    producer = stage.run()
    stage.wait_until_published(DEADLINE_SECONDS)
    settings = {
        "KAFKA_BROKERS": stage.kafka.bootstrap_servers,
        "TREKKPAALEGG_TOPIC_PREFIX": stage.prefix,
        "TREKKPAALEGG_LEDGER": f"sqlite:///{tmp_path}/ledger.db",
        "TREKKPAALEGG_HTTP_HOST": "127.0.0.1",
        "TREKKPAALEGG_CONSUMER_HTTP_PORT": "0",
    }
    consumer = ConsumerProcess(["run"], settings, tmp_path / "consumer.log")
    try:
        sides = {
            "producer": address(stage, producer, "started"),
            "consumers": address(stage, consumer, "health is served"),
        }
        caught_up = f"{sides['consumers']}/readyz?caught-up"
        stage.wait_until(lambda: httpx.get(caught_up, timeout=20).is_success, DEADLINE_SECONDS, "it has caught up")
        for side, url in sides.items():
            text = httpx.get(f"{url}/metrics", timeout=20).text
            linted = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (linted.returncode, linted.stdout + linted.stderr) == (0, ""), side
            exposed = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
            groups = yaml.safe_load((ROOT / side / "observe" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
            wanted = {name for group in groups for rule in group["rules"] for name in METRIC.findall(rule["expr"])}
            missing = {name for name in wanted - exposed if not OF_OTHER_WAYS_TO_RUN.fullmatch(name)}
            assert missing == set(), side
            labels = [value for line in text.splitlines() for value in re.findall(r'="([^"]*)"', line)]
            assert not [value for value in labels if re.search(r"\d{9}", value)], "an employer or a person"
            assert not [employer for employer in stage.employers if employer in text]
    finally:
        consumer.kill()
