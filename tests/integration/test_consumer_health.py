"""A running consumer's health addresses and metrics, while what it stands upon comes and goes."""

from __future__ import annotations

import signal
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from consumers.webhook.delivery import new_secret
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.server import free_port
from tests.kit.event_stream import Roughness, event_encoder, make_stream
from tests.kit.receivers import PayrollReceiver
from tests.kit.stages.ledger_stage import LedgerStage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.processes import ConsumerProcess
    from tests.kit.servers.proxy import KafkaProxy

pytestmark = pytest.mark.kafka

STREAM = make_stream(11, 40, roughness=Roughness(late=0.1, corrected=0.15))
LATER = make_stream(12, 5, employers=3)
DEADLINE_SECONDS = 90.0
UNKNOWN_ID = 4711
CERTIFICATES = ssl.create_default_context()


@pytest.fixture
def proxy(proxied_kafka: KafkaProxy) -> Iterator[KafkaProxy]:
    """It goes down in some tests, and is up for the next."""
    yield proxied_kafka
    proxied_kafka.come_up()


@pytest.fixture(scope="module")
def own() -> Iterator[EmbeddedPostgresql]:
    """A database server of this module's own, which goes down in some tests."""
    with EmbeddedPostgresql() as server:
        yield server


@pytest.fixture
def stage(proxy: KafkaProxy, topic_prefix: str, tmp_path: Path) -> Iterator[LedgerStage]:
    with LedgerStage(proxy.bootstrap_servers, topic_prefix, f"sqlite:///{tmp_path}/ledger.db", tmp_path) as made:
        made.settings |= {"TREKKPAALEGG_HTTP_HOST": "127.0.0.1", "TREKKPAALEGG_CONSUMER_HTTP_PORT": "0"}
        yield made


class Health:
    """The addresses of one consumer; its port is in its log, unless it is given."""

    prefix = "trekkpaalegg_consumer_"

    def __init__(self, stage: LedgerStage, process: ConsumerProcess, port: int | None = None) -> None:
        self._stage = stage
        if port is not None:
            self.port = port
            return
        self.until(lambda: process.has_logged("health is served"), "it serves")
        (told,) = [entry for entry in process.log_entries() if entry["event"] == "health is served"]
        self.port = told["http_port"]

    def is_served(self) -> bool:
        with suppress(httpx.ConnectError):
            return self.get("/livez").status_code == 200
        return False

    def get(self, path: str) -> httpx.Response:
        # A client for each call, as probes do it, without the certificates, which take longer to read than the call.
        with httpx.Client(verify=CERTIFICATES, timeout=60) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}")

    def until(self, holds: Callable[[], object], what: str) -> None:
        self._stage.wait_until(holds, what, DEADLINE_SECONDS)

    def is_alive(self) -> bool:
        return self.get("/livez").status_code == 200

    def ready(self, query: str = "") -> tuple[int, Any]:
        answer = self.get(f"/readyz{query}")
        return answer.status_code, answer.json()

    def is_ready(self, query: str = "") -> bool:
        return self.ready(query)[0] == 200

    def misses(self, what: str) -> bool:
        status, document = self.ready()
        return status == 503 and what in document["missing"]

    def metrics(self) -> dict[str, float]:
        lines = self.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (each.rsplit(" ", 1) for each in lines if each[0] != "#")}

    def metric(self, name: str) -> float:
        return self.metrics()[f"{self.prefix}{name}"]


def test_it_is_ready_when_it_has_partitions_and_caught_up_when_all_is_applied(stage: LedgerStage) -> None:
    stage.topics.write(STREAM)
    stage.topics.write_raw(b"junk")
    process = stage.begin("run")
    health = Health(stage, process)
    health.until(lambda: health.is_ready("?caught-up"), "it has caught up")
    assert stage.is_applied()
    assert health.ready() == (200, {"ready": True, "caught_up": True, "missing": {}})
    assert health.is_alive()
    figures = health.metrics()
    outcomes = {
        outcome: figures[f'trekkpaalegg_consumer_events_total{{outcome="{outcome}"}}']
        for outcome in ("new", "late", "correction", "conflict", "known")
    }
    assert sum(outcomes.values()) == len(STREAM)
    assert min(outcomes["new"], outcomes["late"], outcomes["correction"]) > 0
    assert outcomes["conflict"] == 0
    assert health.metric("partitions") == health.metric("topic_partitions") == 3
    assert [health.metric(f'lag{{partition="{partition}"}}') for partition in range(3)] == [0, 0, 0]
    assert (health.metric("undecodable_total"), health.metric("undecodable_messages")) == (1, 1)
    assert (health.metric("stalled_seconds"), health.metric("caught_up")) == (0, 1)
    assert health.metric("newest_applied_timestamp_seconds") > 1_700_000_000
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.last_lines()


def test_a_ledger_that_is_away_makes_it_unready_not_dead_and_is_waited_for_from_the_start(
    stage: LedgerStage, own: EmbeddedPostgresql
) -> None:
    stage.topics.write(STREAM[:50])
    stage.ledger = f"{own.url}?options=-csearch_path%3Dledger"
    own.stop()
    process = stage.begin("run")
    health = Health(stage, process)
    health.until(lambda: health.misses("ledger"), "it misses the ledger at the start")
    assert health.is_alive()
    own.start()
    health.until(lambda: health.is_ready("?caught-up"), "it goes on by itself")
    own.stop()
    health.until(lambda: health.misses("ledger"), "it misses the ledger though nothing comes")
    assert health.is_alive()
    assert health.metric('failures_total{service="ledger"}') > 0
    assert health.metric('waiting_seconds{service="ledger"}') > 0
    own.start()
    stage.topics.write(STREAM[50:])
    health.until(stage.is_applied, "all is applied")
    health.until(health.is_ready, "it is ready again")
    assert health.metric('waiting_seconds{service="ledger"}') < 10
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, process.last_lines()


def test_a_kafka_that_is_away_makes_it_unready_not_dead_and_is_waited_for_from_the_start(
    stage: LedgerStage, proxy: KafkaProxy
) -> None:
    stage.topics.write(STREAM)
    proxy.go_down()
    process = stage.begin("run")
    health = Health(stage, process)
    health.until(lambda: health.misses("kafka"), "it misses Kafka at the start")
    assert health.is_alive()
    proxy.come_up()
    health.until(lambda: health.is_ready("?caught-up"), "it goes on by itself")
    proxy.go_down()
    health.until(lambda: health.misses("kafka"), "it misses Kafka though nothing comes")
    assert health.is_alive()
    assert health.metric('waiting_seconds{service="kafka"}') > 0
    proxy.come_up()
    health.until(health.is_ready, "it is ready again")
    assert health.metric('waiting_seconds{service="kafka"}') == 0


def test_a_registry_that_is_away_makes_it_unready_not_dead_and_shows_as_lag(stage: LedgerStage) -> None:
    stage.settings["KAFKA_SCHEMA_REGISTRY"] = f"http://127.0.0.1:{free_port()}"
    encoded = event_encoder(UNKNOWN_ID).encode(STREAM[0])
    stage.topics.write_raw(encoded.value, key=encoded.key, headers=encoded.headers)
    process = stage.begin("run")
    health = Health(stage, process)
    health.until(lambda: health.misses("registry"), "it misses the registry")
    assert health.is_alive()
    status, document = health.ready("?caught-up")
    assert (status, document["caught_up"]) == (503, False)
    assert {"registry", "caught-up"} <= document["missing"].keys()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, process.last_lines()


def test_a_port_that_is_taken_is_wrong_usage(stage: LedgerStage) -> None:
    first = stage.begin("run")
    port = Health(stage, first).port
    second = stage.begin("run", TREKKPAALEGG_CONSUMER_HTTP_PORT=str(port))
    assert second.wait(DEADLINE_SECONDS) == 2
    assert "TREKKPAALEGG_CONSUMER_HTTP_PORT: 127.0.0.1" in second.last_lines()


class ForwarderHealth(Health):
    """The addresses of one forwarder."""

    prefix = "trekkpaalegg_webhook_"


@pytest.fixture
def receiver() -> Iterator[PayrollReceiver]:
    with PayrollReceiver(new_secret()) as started:
        yield started


def forward(stage: LedgerStage, receiver: PayrollReceiver, state: str) -> tuple[ConsumerProcess, ForwarderHealth]:
    """A forwarder that serves health, and is in no hurry to try again."""
    port = free_port()
    settings = {"TREKKPAALEGG_FORWARD_SECRET": receiver.secret, "TREKKPAALEGG_CONSUMER_HTTP_PORT": str(port)}
    process = stage.begin(
        *("webhook", "--to", receiver.url, "--state", state, "--first-pause", "0.05", "--longest-pause", "0.2"),
        **settings,
    )
    health = ForwarderHealth(stage, process, port)
    health.until(health.is_served, "it serves")
    return process, health


def test_a_forwarder_misses_state_and_receiver_while_they_are_away_and_tells_what_waits(
    stage: LedgerStage, receiver: PayrollReceiver, own: EmbeddedPostgresql
) -> None:
    """Also at the start. It is alive all the time, and ends with 0."""
    stage.topics.write(STREAM)
    own.stop()
    process, health = forward(stage, receiver, f"{own.url}?options=-csearch_path%3Dwebhook")
    health.until(lambda: health.misses("state"), "it misses its state at the start")
    own.start()
    health.until(lambda: health.is_ready("?caught-up"), "it goes on by itself")
    assert health.ready() == (200, {"ready": True, "caught_up": True, "missing": {}})
    assert health.metric('attempts_total{outcome="delivered"}') == len(STREAM) == len(receiver.accepted)
    health.until(lambda: health.metric("waiting_events") == 0, "nothing waits")
    assert [health.metric(f'lag{{partition="{partition}"}}') for partition in range(3)] == [0, 0, 0]

    receiver.stop()
    stage.topics.write(LATER)
    health.until(lambda: health.misses("receiver"), "it misses the receiver")
    health.until(lambda: health.metric("waiting_events") == len(LATER), "it counts those that wait")
    assert health.metric("oldest_waiting_seconds") > 0
    assert health.metric('waiting_seconds{service="receiver"}') > 0
    receiver.make_trouble(422, trekkid=LATER[0].trekkpaalegg.trekkid)
    receiver.start()
    health.until(health.is_ready, "it is ready again")
    health.until(lambda: health.metric("parked_events") == 1, "it counts the one that is refused")

    own.stop()
    health.until(lambda: health.misses("state"), "it misses its state though nothing comes")
    assert health.is_alive()
    own.start()
    health.until(health.is_ready, "it is ready again")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0, process.last_lines()


def test_a_forwarder_delivers_what_it_kept_while_kafka_is_away_at_its_start(
    stage: LedgerStage, proxy: KafkaProxy, receiver: PayrollReceiver, tmp_path: Path
) -> None:
    state = f"sqlite:///{tmp_path}/webhook.db"
    stage.topics.write(STREAM)
    receiver.stop()
    first, health = forward(stage, receiver, state)
    health.until(lambda: health.metric("waiting_events") == len(STREAM), "all is kept")
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0, first.last_lines()
    proxy.go_down()
    receiver.start()
    second, health = forward(stage, receiver, state)
    health.until(lambda: health.misses("kafka"), "it misses Kafka at the start")
    health.until(lambda: len(receiver.accepted) == len(STREAM), "what was kept is delivered")
    assert health.is_alive()
    proxy.come_up()
    health.until(lambda: health.is_ready("?caught-up"), "it goes on by itself")
    stage.topics.write(LATER)
    health.until(lambda: len(receiver.accepted) == len(STREAM) + len(LATER), "what comes is delivered")
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0, second.last_lines()
