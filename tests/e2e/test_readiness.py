"""A producer that lacks a server is alive, and says what is missing; what is scraped of both sides."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sandbox.servers.server import free_port
from tests.kit.processes import ConsumerProcess

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 90.0
METRIC = re.compile(r"\b(?:trekkpaalegg|process)_[a-z_]+")

OF_OTHER_WAYS_TO_RUN = re.compile(r"trekkpaalegg_(oldest_pull_age|pull_interval)_seconds|trekkpaalegg_webhook_.*")
"""What a producer shows that asks Altinn, and a consumer that is `webhook`."""


def test_a_producer_without_a_registry_is_alive_and_says_which_lanes_wait_for_it(stage: Any) -> None:
    process = stage.run(KAFKA_SCHEMA_REGISTRY=f"http://127.0.0.1:{free_port()}")
    stage.wait_until(
        lambda: stage.misses(process, "lanes", "no answer from http"), DEADLINE_SECONDS, "it misses the registry"
    )
    assert stage.is_alive(process)


def test_metrics_of_both_sides_are_well_formed_and_have_the_series_of_the_alerts(
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

    def served() -> list[int]:
        return [entry["http_port"] for entry in consumer.log_entries() if entry.get("event") == "health is served"]

    try:
        stage.wait_until(served, DEADLINE_SECONDS, "its health is served")
        sides = {
            "producer": stage.address_of(producer),
            "consumers": f"http://127.0.0.1:{served()[0]}",
        }
        caught_up = f"{sides['consumers']}/readyz?caught-up"
        stage.wait_until(lambda: stage.http.get(caught_up).is_success, DEADLINE_SECONDS, "it has caught up")
        for side, url in sides.items():
            text = stage.http.get(f"{url}/metrics").text
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
