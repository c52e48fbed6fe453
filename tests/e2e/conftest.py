"""The whole stream on a stage: simulated outside world, real Kafka, producers as child processes, and the proof."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest

from consumers.decode import Decoder
from producer.publish.admin import KafkaAdmin
from producer.publish.state_log import read_lane_state
from producer.publish.topics import Topics, wanted_topics
from sandbox.kafka import EmbeddedKafka
from sandbox.ledger_stage import LedgerStage
from sandbox.outside import OutsideWorld
from sandbox.postgresql import EmbeddedPostgresql
from sandbox.producer_process import PRODUCER, ProducerProcess
from sandbox.proof.arrivals import Arrivals
from sandbox.proof.faults import FAULTS_SHOWN_MAX, faults_of
from sandbox.proof.source import bodies_of_source, versions_of_source
from sandbox.proof.topics import read_committed, read_published
from sandbox.server import free_port
from sandbox.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sandbox.proof.faults import Published

LANES = 3
ONCE_SECONDS_MAX = 60.0
SUBSCRIBED_SECONDS_MAX = 120.0
HOUR = "3600"
"""Between polls: what is published meanwhile was told of."""

WEBHOOK_SECRET = "e2e-secret-of-forty-characters-0123456789"
TRAFFIC_INTERVAL_SECONDS = 0.02
STACKS_SECONDS_MAX = 5.0


class Traffic:
    """New orders and versions made in a thread of its own, as fast as `interval_seconds` says, from a seed."""

    def __init__(self, outside: OutsideWorld, employers: list[str], seed: object, interval_seconds: float) -> None:
        self._skatteetaten = outside.skatteetaten
        self._employers = employers
        self._random = Random(f"traffic {seed}")
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.orders: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            if not self.orders or self._random.random() < 0.3:
                self.orders.append(self._skatteetaten.create(self._random.choice(self._employers)).trekkid)
                continue
            trekkid = self._random.choice(self.orders)
            for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                self._skatteetaten.change(trekkid)


def stacks_of(process: ProducerProcess) -> str:
    """Where each thread of it is; ends it."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(TimeoutError):
        process.wait(STACKS_SECONDS_MAX)
    _, found, stacks = process.log_file.read_text().partition("Fatal Python error: Aborted")
    return f"\n{process.log_file.name}:{found}{stacks}"


class Stage:
    """One prefix on a broker, some employers, and the producers that were started for them."""

    def __init__(self, kafka: EmbeddedKafka, outside: OutsideWorld, prefix: str, folder: Path) -> None:
        self.kafka = kafka
        self.outside = outside
        self.prefix = prefix
        self.topics = Topics.of(prefix)
        self.folder = folder
        self.employers: list[str] = []
        self.lanes = 0
        self.decoder = Decoder()
        self.settings: dict[str, str] = {}
        """What every producer of this stage gets besides the ordinary settings."""
        self.receiver_port = free_port()
        self._started: list[ProducerProcess] = []
        self._arrivals: Arrivals | None = None
        self._numbers = itertools.count(1)

    def apply_topics(self, lanes: int = LANES) -> None:
        admin = KafkaAdmin({"bootstrap.servers": self.kafka.bootstrap_servers})
        self.lanes = lanes
        admin.create(wanted_topics(self.prefix, partitions=lanes))
        admin.record_lane_count(self.topics.positions, lanes)

    def environment(self, instance_id: str | None) -> dict[str, str]:
        return {
            **self.outside.environment(self.employers),
            "KAFKA_BROKERS": self.kafka.bootstrap_servers,
            "TREKKPAALEGG_TOPIC_PREFIX": self.prefix,
            "TREKKPAALEGG_APPLICATION_ID": self.prefix,
            "TREKKPAALEGG_POLL_INTERVAL_SECONDS": "0.2",
            "TREKKPAALEGG_HTTP_HOST": "127.0.0.1",
            "TREKKPAALEGG_HTTP_PORT": "0",
            "PYTHONFAULTHANDLER": "1",
            **({"TREKKPAALEGG_INSTANCE_ID": instance_id} if instance_id else {}),
            **self.settings,
        }

    def begin(
        self, *arguments: str, instance_id: str | None = None, program: Sequence[str] = PRODUCER, **settings: str
    ) -> ProducerProcess:
        """Start a producer and do not wait."""
        log_file = self.folder / f"producer-{next(self._numbers)}.log"
        environment = {**self.environment(instance_id), **settings}
        process = ProducerProcess(arguments, environment, log_file, program=program)
        self._started.append(process)
        return process

    def run(self, instance_id: str | None = None, **settings: str) -> ProducerProcess:
        return self.begin("run", instance_id=instance_id, **settings)

    def woken_by(self, way: str) -> dict[str, str]:
        """Settings of a producer that learns of changes by `polling`, by `push` or by `pull`, and else hardly polls."""
        if way == "polling":
            return {"TREKKPAALEGG_SOURCE": "polling", "TREKKPAALEGG_POLL_INTERVAL_SECONDS": "0.2"}
        told = {
            "TREKKPAALEGG_SOURCE": "notification",
            "TREKKPAALEGG_NOTIFICATION_TRANSPORT": way,
            "TREKKPAALEGG_POLL_INTERVAL_SECONDS": HOUR,
        }
        if way == "pull":
            return told | {"TREKKPAALEGG_PULL_INTERVAL_SECONDS": "0.2"}
        return told | {
            "TREKKPAALEGG_WEBHOOK_PORT": str(self.receiver_port),
            "TREKKPAALEGG_WEBHOOK_URL": f"http://127.0.0.1:{self.receiver_port}",
            "TREKKPAALEGG_WEBHOOK_SECRET": WEBHOOK_SECRET,
        }

    @property
    def receiver_address(self) -> str:
        """Where Altinn calls, the secret included."""
        return f"http://127.0.0.1:{self.receiver_port}/notifications/{WEBHOOK_SECRET}"

    def subscribe(self) -> None:
        """As an operator does once a receiver answers."""
        applying = self.begin("subscriptions", "apply", **self.woken_by("push"))
        assert applying.wait(SUBSCRIBED_SECONDS_MAX) == 0, applying.last_lines()

    def set_kafka_properties(self, **properties: str) -> None:
        """Properties, with `_` for `.`, that every producer from now on reads from its properties file."""
        path = self.folder / "kafka.properties"
        path.write_text("".join(f"{name.replace('_', '.')}={value}\n" for name, value in properties.items()))
        self.settings["KAFKA_PROPERTIES_FILE"] = str(path)

    def once(self, instance_id: str | None = None, **settings: str) -> None:
        """One full round, which must go well."""
        process = self.begin("once", instance_id=instance_id, **settings)
        code = process.wait(ONCE_SECONDS_MAX)
        assert code == 0, process.last_lines()

    def traffic(self, seed: object = 0, interval_seconds: float = TRAFFIC_INTERVAL_SECONDS) -> Traffic:
        return Traffic(self.outside, self.employers, seed, interval_seconds)

    def wait_until(self, holds: Callable[[], object], deadline_seconds: float, what: str) -> None:
        deadline_seconds *= PATIENCE
        deadline = time.monotonic() + deadline_seconds
        while not holds():
            if time.monotonic() > deadline:
                running = [each for each in self._started if each.is_running()]
                last = "\n".join(f"{each.log_file.name}:\n{each.last_lines()}" for each in self._started[-3:])
                last += "".join(map(stacks_of, running))
                pytest.fail(f"not within {deadline_seconds:g} s: {what}\n{last}")
            time.sleep(0.05)

    def lanes_of(self, process: ProducerProcess) -> set[int]:
        """The lanes that a worker has taken and not left again, by its log; none once it has ended."""
        owned: set[int] = set()
        if not process.is_running():
            return owned
        for entry in process.log_entries():
            match entry["event"]:
                case "lane taken":
                    owned.add(entry["lane"])
                case "lanes left":
                    owned -= set(entry["lanes"])
                case "lane ended":
                    owned.discard(entry["lane"])
        return owned

    def metric(self, process: ProducerProcess, name: str) -> float:
        """The sum of all series of a worker's metrics whose line begins so."""
        port = next(entry["http_port"] for entry in process.log_entries() if entry["event"] == "started")
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def wait_until_owned(self, *processes: ProducerProcess, deadline_seconds: float = 30.0) -> None:
        """Until each of these has taken lanes, and all lanes are taken among them, each once."""

        def settled() -> bool:
            owned = [self.lanes_of(process) for process in processes]
            return all(owned) and sorted(itertools.chain(*owned)) == list(range(self.lanes))

        self.wait_until(settled, deadline_seconds, f"{len(processes)} workers have the lanes")

    def wait_until_no_lane_is_shared(self, one: ProducerProcess, other: ProducerProcess) -> None:
        """Until no two of them believe that a lane is theirs."""
        self.wait_until(lambda: not (self.lanes_of(one) & self.lanes_of(other)), 20, "no lane is shared")

    def versjoner(self) -> list[Published]:
        return read_published(self.kafka.bootstrap_servers, self.topics.versjoner, self.decoder)

    def origins(self) -> dict[tuple[str, int], str]:
        """How each version came to be published: `poll`, `notification`, `gapfill` and so on."""
        return {each.identity: each.origin for each in self.versjoner()}

    def positions(self) -> dict[str, int]:
        """How far each employer is published, as `…-positions` has it."""
        properties = {"bootstrap.servers": self.kafka.bootstrap_servers}
        lanes = [read_lane_state(properties, self.topics.positions, lane) for lane in range(self.lanes)]
        return {employer: state.position.position for lane in lanes for employer, state in lane}

    def arrived(self) -> set[tuple[str, int]]:
        """(trekkid, trekkversjon) of what has been seen in the topic until now: for waiting, as it costs little."""
        if self._arrivals is None:
            self._arrivals = Arrivals(self.kafka.bootstrap_servers, self.topics.versjoner)
        return self._arrivals.look()

    def gjeldende(self) -> list[Published]:
        return read_published(self.kafka.bootstrap_servers, self.topics.gjeldende, self.decoder)

    def quarantined(self) -> list[dict]:
        messages = read_committed(self.kafka.bootstrap_servers, self.topics.quarantine)
        return [self.decoder.decode_record(message.value())[1] for message in messages]

    def is_published(self, employers: Sequence[str] | None = None) -> bool:
        """Whether every version that the source has now is in the topic."""
        wanted = bodies_of_source(self.outside.skatteetaten, employers).keys()
        return wanted <= {each.identity for each in self.versjoner()}

    def wait_until_published(self, deadline_seconds: float = 20.0, employers: Sequence[str] | None = None) -> None:
        def missing() -> set[tuple[str, int]]:
            return bodies_of_source(self.outside.skatteetaten, employers).keys() - self.arrived()

        try:
            self.wait_until(lambda: not missing(), deadline_seconds, "every version is published")
        except pytest.fail.Exception as failed:
            lacking = missing() - {each.identity for each in self.versjoner()}
            pytest.fail(f"{failed}\nnot seen: {sorted(missing())}\nof these not in the topic: {sorted(lacking)}")

    def prove(self, employers: Sequence[str] | None = None) -> list[Published]:
        """Each version of the source once, in order, unchanged; all that is in `…-versjoner`."""
        versjoner, gjeldende = self.versjoner(), self.gjeldende()
        source = versions_of_source(self.outside.skatteetaten, employers)
        faults = faults_of(versjoner, gjeldende, source)
        shown = "\n".join(faults[:FAULTS_SHOWN_MAX])
        assert not faults, f"{len(faults)} faults among {len(source)} versions:\n{shown}"
        return versjoner

    def close(self) -> None:
        for process in self._started:
            process.kill()
        if self._arrivals is not None:
            self._arrivals.close()


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[EmbeddedKafka]:
    """A broker that no test outside the module uses: it may be stopped, killed and paused."""
    with EmbeddedKafka() as server:
        yield server


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[EmbeddedPostgresql]:
    """A PostgreSQL that no test outside the module uses; the data that one test left are still there in the next."""
    with EmbeddedPostgresql() as server:
        yield server


@pytest.fixture
def outside() -> Iterator[OutsideWorld]:
    with OutsideWorld() as world:
        yield world


@pytest.fixture
def make_stage(outside: OutsideWorld, topic_prefix: str, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Builds a stage on a given broker: `employers` of them with `orders` orders among them, topics applied."""
    stages = []

    def make(kafka: EmbeddedKafka, *, employers: int = 6, orders: int = 30, lanes: int = LANES) -> Stage:
        stage = Stage(kafka, outside, topic_prefix, tmp_path)
        stages.append(stage)
        stage.employers = outside.generate(employers, orders)
        stage.apply_topics(lanes)
        return stage

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def stage(kafka: EmbeddedKafka, make_stage: Callable[..., Stage]) -> Stage:
    """A stage on the broker that all tests share."""
    return make_stage(kafka)


@pytest.fixture
def make_ledger_stage(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., LedgerStage]]:
    """Builds a stage for consumers, its ledger on `database`: `postgresql` (the shared server) or `sqlite`.

    `bootstrap_servers` are those of a broker of its own, where the test needs one.
    """
    stages: list[LedgerStage] = []

    def make(database: str, *, bootstrap_servers: str | None = None, **options: Any) -> LedgerStage:
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        if database == "postgresql":
            schema = topic_prefix.replace("-", "_")
            url = f"{request.getfixturevalue('postgresql').url}?options=-csearch_path%3D{schema}"
        stages.append(LedgerStage(bootstrap_servers or kafka.bootstrap_servers, topic_prefix, url, tmp_path, **options))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()
