"""Cases of many employers and of what wakes them: a name, a size and a running Kafka in; measures out."""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
from confluent_kafka import Consumer, TopicPartition
from figures import cpu_seconds, resident_bytes
from producer_cases import bench_settings, make_topics
from round_case import idle_round

from producer.domain.state import LaneState
from producer.encode.signal import encode_wake_up
from producer.kafka_properties import kafka_properties
from producer.observe.logs import configure_logs
from producer.own import Own
from producer.partitioning import lane_of
from producer.publish.admin import KafkaAdmin
from producer.publish.signal_log import SignalLog
from producer.publish.topics import PARTITIONS_DEFAULT, Topics
from producer.schedule import Schedule
from producer.settings import load_settings
from producer.source.held_tokens import HeldToken, HeldTokens
from producer.trekkpliktige_list import TrekkpliktigeList
from sandbox.generate import trekkpliktige
from sandbox.outside_process import OutsideProcess
from sandbox.producer_process import ProducerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES_A_SECOND = 50
TOKEN_CHARACTERS = 1500
WAIT_SECONDS_MAX = 300.0
_PERCENT = 100


class Measures(msgspec.Struct, frozen=True):
    """What one case showed; names end in their units."""

    case: str
    size: int
    measures: dict[str, float]


class ManyCase(msgspec.Struct, frozen=True):
    """One case. `size` is of changes, or of employers; `orders` are back-filled meanwhile."""

    name: str
    what: str
    size: int
    orders: int = 0

    def scaled(self, share: float) -> ManyCase:
        return msgspec.structs.replace(
            self, size=max(int(self.size * share), 20), orders=max(int(self.orders * share), min(self.orders, 20))
        )


MANY_CASES = (
    ManyCase("notified", "wake-up to event read committed, 50 changes a second", 1000),
    ManyCase("notified-busy", "the same while orders are back-filled", 1000, orders=200_000),
    ManyCase("idle-round", "a round of employers with nothing new, a token each", 100_000),
    ManyCase("employers-held", "memory of all that is held for employers", 100_000),
    ManyCase("hand-over", "how long lanes are nobody's; size is of employers", 20),
)


def run_many_case(case: ManyCase, kafka_brokers: str) -> Measures:
    """Run one case in this process."""
    configure_logs(level="ERROR")
    gc.freeze()
    run = {
        "idle-round": lambda case, brokers: idle_round(case.size, brokers),
        "employers-held": _employers_held,
        "hand-over": _hand_over,
    }
    return Measures(case.name, case.size, run.get(case.name, _notified)(case, kafka_brokers))


class _Arrivals:
    """When each event could be read committed, by its `ce_id`."""

    def __init__(self, brokers: str, topic: str) -> None:
        self.at: dict[str, float] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "bench",
                "isolation.level": "read_committed",
                "enable.auto.commit": "false",
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS_DEFAULT)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.at[dict(message.headers())["ce_id"].decode()] = time.monotonic()


def _notified(case: ManyCase, brokers: str) -> dict[str, float]:
    """A new order each time, and a wake-up for its employer stored at once."""
    with ExitStack() as opened:
        options = ("--trekkpliktige", "200", "--orders", str(case.orders), "--versions-max", "1", "--no-examples")
        outside = opened.enter_context(OutsideProcess(*options))
        settings, environment = bench_settings(outside, brokers)
        make_topics(KafkaAdmin(kafka_properties(settings)), settings.topic_prefix)
        topics = Topics.of(settings.topic_prefix)
        arrivals = _Arrivals(brokers, topics.versjoner)
        opened.callback(arrivals.close)
        producer = _start(opened, environment)
        _until(lambda: _lanes(producer) == PARTITIONS_DEFAULT, "all lanes are taken")
        control = opened.enter_context(httpx.Client(base_url=outside.control_url))
        signals = SignalLog(kafka_properties(settings), topics.signals)
        sent: dict[str, float] = {}
        chosen, begun = random.Random(0), time.monotonic()
        for number in range(case.size):
            time.sleep(max(begun + number / CHANGES_A_SECOND - time.monotonic(), 0.0))
            employer = chosen.choice(outside.trekkpliktige)
            made = control.post("create", json={"trekkpliktig": employer}).raise_for_status().json()
            sent[f"{made['trekkid']}/{made['trekkversjon']}"] = time.monotonic()
            signals.store([(employer, encode_wake_up("bench"))])
        took = time.monotonic() - begun
        still_busy = len(arrivals.at) < case.orders
        _until(lambda: sent.keys() <= arrivals.at.keys(), "every change has come")
    waits = sorted((arrivals.at[name] - at) * 1000 for name, at in sent.items())
    return {
        "p50_milliseconds": statistics.median(waits),
        "p99_milliseconds": waits[min(len(waits) * 99 // _PERCENT, len(waits) - 1)],
        "max_milliseconds": waits[-1],
        "changes_a_second": case.size / took,
        "backfill_outlasted_it": float(still_busy),
    }


def _employers_held(case: ManyCase, brokers: str) -> dict[str, float]:  # noqa: ARG001 - as the other cases
    """The list, the schedules, the state and a token of each, as a service of one process holds them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trekkpliktige"
        file.write_text("\n".join(trekkpliktige(0, case.size)))
        gc.collect()
        before = resident_bytes()
        settings = load_settings(None, {"TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(file)}, needs=frozenset())
        used = cpu_seconds()
        own = Own(TrekkpliktigeList(settings, lambda _: None))
        lanes = [own.in_lane(lane, PARTITIONS_DEFAULT) for lane in range(PARTITIONS_DEFAULT)]
        list_seconds, used = cpu_seconds() - used, cpu_seconds()
        schedules = [Schedule(300.0, lambda: 1.0) for _ in lanes]
        for schedule, names in zip(schedules, lanes, strict=True):
            schedule.set_trekkpliktige(names, 1.0)
        states = [LaneState() for _ in lanes]
        step_at = cpu_seconds()
        for name in own:
            lane = lane_of(name, PARTITIONS_DEFAULT)
            schedules[lane].notify(name)
            schedules[lane].take(2.0)
            schedules[lane].succeeded(name, 2.0)
            states[lane].of(name)
        steps = cpu_seconds() - step_at
        gc.collect()
        without_tokens = resident_bytes()
        tokens = HeldTokens(lambda name: HeldToken(name + "x" * TOKEN_CHARACTERS, 1e12))
        for name in own:
            tokens.token_for(name)
        gc.collect()
        held = resident_bytes()
    return {
        "megabytes": (held - before) / 1e6,
        "megabytes_without_tokens": (without_tokens - before) / 1e6,
        "bytes_an_employer_without_tokens": (without_tokens - before) / case.size,
        "list_cpu_seconds": list_seconds,
        "schedule_microseconds_a_reading": steps / case.size * 1e6,
    }


def _hand_over(case: ManyCase, brokers: str) -> dict[str, float]:
    """From the signal that ends one of two workers to the other having taken every lane of its."""
    measures = {}
    with ExitStack() as opened:
        outside = opened.enter_context(
            OutsideProcess("--trekkpliktige", str(case.size), "--orders", "0", "--no-examples")
        )
        settings, environment = bench_settings(outside, brokers)
        make_topics(KafkaAdmin(kafka_properties(settings)), settings.topic_prefix)
        stays = _start(opened, environment)
        _until(lambda: _lanes(stays) == PARTITIONS_DEFAULT, "all lanes are taken")
        for way in ("asked", "killed"):
            begun = time.monotonic()
            goes = _start(opened, environment)
            _until(lambda goes=goes: _lanes(goes) == _lanes(stays) == PARTITIONS_DEFAULT // 2, "lanes are shared")
            measures[f"joined_before_{way}_seconds"] = time.monotonic() - begun
            begun = time.monotonic()
            goes.stop() if way == "asked" else goes.kill()
            _until(lambda: _lanes(stays) == PARTITIONS_DEFAULT, "all lanes are taken over")
            measures[f"{way}_seconds"] = time.monotonic() - begun
    return measures


def _lanes(process: ProducerProcess) -> int:
    owned: set[int] = set()
    for entry in process.log_entries():
        if entry["event"] == "lane taken":
            owned.add(entry["lane"])
        elif entry["event"] == "lanes left":
            owned -= set(entry["lanes"])
    return len(owned)


def _start(opened: ExitStack, environment: dict[str, str]) -> ProducerProcess:
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    quiet = {"TREKKPAALEGG_HTTP_PORT": "0", "TREKKPAALEGG_HTTP_HOST": "127.0.0.1"}
    process = ProducerProcess(["run"], {**environment, **quiet}, folder / "log")
    opened.callback(process.stop)
    return process


def _until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in time: {what}")
        time.sleep(0.01)
