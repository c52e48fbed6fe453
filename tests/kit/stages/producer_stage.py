"""The topics of a prefix, producers as child processes, and the proof that the topics are equal to the source."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from random import Random
from typing import TYPE_CHECKING, Any, Self

import httpx

from producer.admin.kafka import KafkaAdmin
from producer.publish.state import read_lane_state
from producer.publish.topics import Topics, wanted_topics
from sandbox.demo.proof import (
    FAULTS_SHOWN_MAX,
    bodies_of_source,
    faults_of,
    properties_of,
    read_committed,
    read_published,
    versions_of_source,
)
from sandbox.servers.process import print_last_lines
from sandbox.servers.server import free_port
from tests.kit.processes import PRODUCER, ForkedProducer, ProducerProcess
from tests.kit.waiting import until
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.reader import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sandbox.control.world import OutsideWorld
    from sandbox.demo.proof import Published
    from sandbox.servers.kafka import EmbeddedKafka


_WAIT_SECONDS = 0.02


class Arrivals:
    """What has arrived in one topic of events, for waiting: each call reads what is new, and decodes none of it.

    While Kafka does not answer, nothing new has arrived.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._follower: Follower | None = None
        self._found: dict[tuple[str, int], str] = {}

    def origins(self) -> dict[tuple[str, int], str]:
        """By (trekkid, trekkversjon), the `ce_origin` of all that was seen; what was just committed may be missing."""
        if self._follower is None:
            try:
                self._follower = Follower(properties_of(self._bootstrap_servers), [self._topic], "beginning")
            except RetryableError:
                return self._found
        while messages := self._follower.poll(_WAIT_SECONDS):
            for message in messages:
                headers: Any = dict(message.headers() or [])  # a consumer gives bytes, whatever its type says
                trekkid, trekkversjon = headers["ce_id"].decode().split("/")[:2]
                self._found[trekkid, int(trekkversjon)] = headers["ce_origin"].decode()
        return self._found

    def close(self) -> None:
        """Disconnect from Kafka."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None


_NEW_SHARE = 0.3
"""So many of what is made are new orders; the others are new versions."""


class TrafficThread:
    """New orders and versions made in a thread of its own, as fast as `interval_seconds` says, from a seed."""

    def __init__(self, outside: OutsideWorld, employers: Sequence[str], seed: object, interval_seconds: float) -> None:
        self._skatteetaten = outside.skatteetaten
        self._employers = employers
        self._random = Random(f"traffic {seed}")
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._orders: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            if not self._orders or self._random.random() < _NEW_SHARE:
                self._orders.append(self._skatteetaten.create(self._random.choice(self._employers)).trekkid)
                continue
            trekkid = self._random.choice(self._orders)
            for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                self._skatteetaten.change(trekkid)


LANES = 3
ONCE_SECONDS_MAX = 180.0
SUBSCRIBED_SECONDS_MAX = 120.0
SERVED_SECONDS_MAX = 90.0
HOUR = "3600"
"""The poll interval: what is published meanwhile came by notification."""

WEBHOOK_SECRET = "e2e-secret-of-forty-characters-0123456789"
TRAFFIC_INTERVAL_SECONDS = 0.05
POLL_INTERVAL = "0.4"
STACKS_SECONDS_MAX = 5.0


class ProducerStage:
    """One prefix on a broker, some employers, and the producers that were started for them; `close` ends them all."""

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
        self.http = httpx.Client(timeout=30, verify=False)  # noqa: S501 - it never speaks TLS, whose set-up takes 40 ms
        self._started: list[ProducerProcess] = []
        self._arrivals: Arrivals | None = None
        self._numbers = itertools.count(1)

    def apply_topics(self, lanes: int = LANES) -> None:
        """Create the topics, for so many lanes."""
        admin = KafkaAdmin({"bootstrap.servers": self.kafka.bootstrap_servers})
        self.lanes = lanes
        admin.create(wanted_topics(self.prefix, partitions=lanes))
        admin.record_identity(self.topics.positions, admin.inspect(self.prefix, self.prefix).present)

    def environment(self, instance_id: str | None) -> dict[str, str]:
        """All settings of a producer of this name."""
        return {
            **self.outside.environment(self.employers),
            "KAFKA_BROKERS": self.kafka.bootstrap_servers,
            "TREKKPAALEGG_TOPIC_PREFIX": self.prefix,
            "TREKKPAALEGG_APPLICATION_ID": self.prefix,
            "TREKKPAALEGG_POLL_INTERVAL_SECONDS": POLL_INTERVAL,
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
        process = ForkedProducer(arguments, environment, log_file, program=program)
        self._started.append(process)
        return process

    def run(self, instance_id: str | None = None, **settings: str) -> ProducerProcess:
        """Start a worker and do not wait."""
        return self.begin("run", instance_id=instance_id, **settings)

    def woken_by(self, way: str) -> dict[str, str]:
        """Settings of a producer that learns of changes by `polling`, by `push` or by `pull`, and else hardly polls."""
        if way == "polling":
            return {"TREKKPAALEGG_SOURCE": "polling", "TREKKPAALEGG_POLL_INTERVAL_SECONDS": POLL_INTERVAL}
        told = {
            "TREKKPAALEGG_SOURCE": "notification",
            "TREKKPAALEGG_NOTIFICATION_TRANSPORT": way,
            "TREKKPAALEGG_POLL_INTERVAL_SECONDS": HOUR,
        }
        if way == "pull":
            return told | {"TREKKPAALEGG_PULL_INTERVAL_SECONDS": POLL_INTERVAL}
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
        _end_well(self.begin("subscriptions", "apply", **self.woken_by("push")), SUBSCRIBED_SECONDS_MAX)

    def set_kafka_properties(self, **properties: str) -> None:
        """Properties, with `_` for `.`, that every producer from now on reads from its properties file."""
        path = self.folder / "kafka.properties"
        lines = [f"{name.replace('_', '.')}={value}\n" for name, value in properties.items()]
        path.write_text("".join(lines), encoding="utf-8")
        self.settings["KAFKA_PROPERTIES_FILE"] = str(path)

    def once(self, instance_id: str | None = None, **settings: str) -> None:
        """One full round, which must go well."""
        _end_well(self.begin("once", instance_id=instance_id, **settings), ONCE_SECONDS_MAX)

    def traffic(self, seed: object = 0, interval_seconds: float = TRAFFIC_INTERVAL_SECONDS) -> TrafficThread:
        """New orders and versions of the employers for as long as it is entered."""
        return TrafficThread(self.outside, self.employers, seed, interval_seconds)

    def wait_until(
        self, holds: Callable[[], object], deadline_seconds: float, what: str, *, pause_seconds: float = 0.05
    ) -> None:
        """Return when it holds.

        Raises `TimeoutError`. Printed are the last lines of the newest producers, and where the threads of all that run
        are; they have ended then.
        """

        def print_state() -> None:
            running = self.running()
            print_last_lines(self._started)
            for each in running:
                print(_stacks_of(each))

        until(holds, deadline_seconds, what, pause_seconds=pause_seconds, print_state=print_state)

    def running(self) -> list[ProducerProcess]:
        """Those that were started and have not ended."""
        return [each for each in self._started if each.is_running()]

    def lanes_of(self, process: ProducerProcess) -> set[int]:
        """The lanes that a worker has acquired and not released, by its log; none once it has ended."""
        owned: set[int] = set()
        if not process.is_running():
            return owned
        for entry in process.log_entries():
            match entry["event"]:
                case "lane acquired":
                    owned.add(entry["lane"])
                case "lanes revoked":
                    owned -= set(entry["lanes"])
                case "lane ended":
                    owned.discard(entry["lane"])
        return owned

    def metric(self, process: ProducerProcess, name: str) -> float:
        """The sum of all series of a worker's metrics whose line begins so."""
        lines = self.http.get(f"{self.address_of(process)}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def address_of(self, process: ProducerProcess) -> str:
        """Where it serves its health and metrics; waits until it does."""

        def ports() -> list[int]:
            return [entry["http_port"] for entry in process.log_entries() if entry["event"] == "started"]

        self.wait_until(ports, SERVED_SECONDS_MAX, "its health is served")
        return f"http://127.0.0.1:{ports()[0]}"

    def is_alive(self, process: ProducerProcess) -> bool:
        """By its `/livez`."""
        return self.http.get(f"{self.address_of(process)}/livez").is_success

    def is_ready(self, process: ProducerProcess) -> bool:
        """By its `/readyz`."""
        return self.http.get(f"{self.address_of(process)}/readyz").is_success

    def misses(self, process: ProducerProcess, what: str, words: str) -> bool:
        """Whether its `/readyz` says that this is missing, in these words."""
        answer = self.http.get(f"{self.address_of(process)}/readyz")
        return answer.status_code == 503 and words in answer.json()["missing"].get(what, "")

    def wait_until_owned(self, *processes: ProducerProcess, deadline_seconds: float = 30.0) -> None:
        """Wait until each of these owns lanes, and together they own every lane once."""

        def all_are_owned() -> bool:
            owned = [self.lanes_of(process) for process in processes]
            return all(owned) and sorted(itertools.chain(*owned)) == list(range(self.lanes))

        self.wait_until(all_are_owned, deadline_seconds, f"{len(processes)} workers have the lanes")

    def wait_until_no_lane_is_shared(self, one: ProducerProcess, other: ProducerProcess) -> None:
        """Wait until no lane is claimed by both."""
        self.wait_until(lambda: not (self.lanes_of(one) & self.lanes_of(other)), 20, "no lane is shared")

    def versjoner(self) -> list[Published]:
        """All events of `…-versjoner`."""
        return read_published(self.kafka.bootstrap_servers, self.topics.versjoner, self.decoder)

    def origins(self) -> dict[tuple[str, int], str]:
        """The origin of each version: `poll`, `notification`, `gapfill` and so on."""
        return {each.identity: each.origin for each in self.versjoner()}

    def positions(self) -> dict[str, int]:
        """How far each employer is published, as `…-positions` has it."""
        properties = {"bootstrap.servers": self.kafka.bootstrap_servers}
        lanes = [read_lane_state(properties, self.topics.positions, lane) for lane in range(self.lanes)]
        return {employer: state.position.position for lane in lanes for employer, state in lane}

    def arrived(self) -> dict[tuple[str, int], str]:
        """As `origins`, but only what has been seen in the topic until now: for waiting, as it costs little."""
        if self._arrivals is None:
            self._arrivals = Arrivals(self.kafka.bootstrap_servers, self.topics.versjoner)
        return self._arrivals.origins()

    def gjeldende(self) -> list[Published]:
        """All events of `…-gjeldende` that compaction has left."""
        return read_published(self.kafka.bootstrap_servers, self.topics.gjeldende, self.decoder)

    def quarantined(self) -> list[dict[str, Any]]:
        """All records of `…-quarantine`."""
        messages = read_committed(self.kafka.bootstrap_servers, self.topics.quarantine)
        return [self.decoder.decode_record(message.value())[1] for message in messages]

    def is_published(self, employers: Sequence[str] | None = None) -> bool:
        """Whether every version that the source has now is in the topic."""
        wanted = bodies_of_source(self.outside.skatteetaten, employers).keys()
        return wanted <= {each.identity for each in self.versjoner()}

    def wait_until_published(self, deadline_seconds: float = 20.0, employers: Sequence[str] | None = None) -> None:
        """Until every version that the source has by then is in the topic. Raises as `wait_until`; prints which not."""

        def missing() -> set[tuple[str, int]]:
            return bodies_of_source(self.outside.skatteetaten, employers).keys() - self.arrived().keys()

        try:
            self.wait_until(lambda: not missing(), deadline_seconds, "every version is published")
        except TimeoutError:
            lacking = missing() - {each.identity for each in self.versjoner()}
            print(f"not seen: {sorted(missing())}\nof these not in the topic: {sorted(lacking)}")
            raise

    def prove(self, employers: Sequence[str] | None = None) -> list[Published]:
        """All that is in `…-versjoner`: each version of the source once, in order, unchanged.

        Raises `AssertionError`; what is not so is printed.
        """
        versjoner, gjeldende = self.versjoner(), self.gjeldende()
        source = versions_of_source(self.outside.skatteetaten, employers)
        faults = faults_of(versjoner, gjeldende, source)
        if faults:
            print(*faults[:FAULTS_SHOWN_MAX], sep="\n")
            raise AssertionError(f"{len(faults)} faults among {len(source)} versions; the first: {faults[0]}")
        return versjoner

    def close(self) -> None:
        """End every producer that was started."""
        for process in self._started:
            process.kill()
        self.http.close()
        if self._arrivals is not None:
            self._arrivals.close()


def _end_well(process: ProducerProcess, seconds_max: float) -> None:
    code = process.wait(seconds_max)
    if code != 0:
        raise AssertionError(f"it ended with {code}:\n{process.last_lines()}")


def _stacks_of(process: ProducerProcess) -> str:
    """Where each thread of it is; ends it."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(TimeoutError):
        process.wait(STACKS_SECONDS_MAX)
    _, found, stacks = process.log_file.read_text(encoding="utf-8", errors="replace").partition(
        "Fatal Python error: Aborted"
    )
    return f"\n{process.log_file.name}:{found}{stacks}"
