"""The case of a round of employers with nothing new: its time against what the calls alone take.

Everyone is known already: their positions are written to Kafka beforehand, as a round of before would have. Each needs
a token of its own. The bound is what five calls at a time take at the answer time that was measured on the simulator
while it had nothing else to do, so what the simulator loses under load counts against us, as do tokens.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from confluent_kafka import Producer
from figures import cpu_seconds, cpu_seconds_of, peak_bytes, resident_bytes
from producer_cases import bench_settings, make_topics

from producer.admin.kafka import KafkaAdmin
from producer.bootstrap import build_service, build_source
from producer.domain.state import TrekkpliktigPosition
from producer.observe.port import NullObserver
from producer.publish.state import position_record
from producer.publish.topics import PARTITIONS_DEFAULT, Topics, lane_of
from producer.service import now_microseconds
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from tests.kit.processes import OutsideProcess
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from producer.settings.model import Settings

CALLS_AT_ONCE = 5
LATENCY_SECONDS = 0.010
"""What the simulator adds to every answer, a token's too. Skatteetaten's own is not known; at 90 ms a round of 100 000
takes half an hour. At 10 ms it is some minutes, and the work that is ours, and the simulator's, shows as a share."""

_SAMPLES_MAX = 200
_WRITE_SECONDS_MAX = 120.0
_PERCENT = 100


class _Calls(NullObserver):
    """When the first call began and the last one ended, and the CPU time at those moments."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.first, self.last = float("inf"), 0.0
        self.cpu_first, self.cpu_last = 0.0, 0.0
        self.tokens: Counter[str] = Counter()

    def call_finished(self, operation: str, status: str, seconds: float) -> None:  # noqa: ARG002 - as the port has it
        self.last, self.cpu_last = time.monotonic(), cpu_seconds()
        if not self.seconds:
            self.first, self.cpu_first = self.last - seconds, self.cpu_last
        self.seconds.append(seconds)

    def token_fetched(self, outcome: str) -> None:
        self.tokens[outcome] += 1


def idle_round(size: int, brokers: str) -> dict[str, float]:
    """One round, by a service as it is."""
    with OutsideProcess("--trekkpliktige", str(size), "--orders", "0", "--no-examples") as outside:
        settings, _ = bench_settings(outside, brokers)
        make_topics(KafkaAdmin(kafka_properties(settings)), settings.topic_prefix)
        _make_known(settings, outside.trekkpliktige)
        outside.control("behaviour", settings={"latency_seconds": LATENCY_SECONDS})
        outside.control("token-latency", seconds=LATENCY_SECONDS)
        answer_seconds = _answer_seconds(settings, outside.trekkpliktige[0], min(size, _SAMPLES_MAX))
        gc.collect()
        before = resident_bytes()
        calls, simulator_cpu = _Calls(), cpu_seconds_of(outside.pid)
        service = build_service(settings, calls, threading.Event(), once=True)
        service.run()
        simulator_cpu = cpu_seconds_of(outside.pid) - simulator_cpu
        failed = [name for each in service.rounds.values() for name in each.failed_for_good]
    if len(calls.seconds) != size or failed:
        raise RuntimeError(f"{len(calls.seconds)} calls for {size} employers; failed: {len(failed)}")
    wall, cpu = calls.last - calls.first, calls.cpu_last - calls.cpu_first
    bound = size * answer_seconds / CALLS_AT_ONCE
    return {
        "round_seconds": wall,
        "bound_seconds": bound,
        "of_bound_percent": _PERCENT * bound / wall,
        "answer_milliseconds": answer_seconds * 1000,
        "answer_under_load_milliseconds": statistics.mean(calls.seconds) * 1000,
        "tokens": float(calls.tokens["ok"]),
        "cpu_seconds_a_1000_calls": cpu / size * 1000,
        "cpu_seconds": cpu,
        "simulator_cpu_seconds": simulator_cpu,
        "megabytes": (peak_bytes() - before) / 1e6,
    }


def _make_known(settings: Settings, trekkpliktige: list[str]) -> None:
    """The positions after a round that found nothing."""
    topics = Topics.of(settings.topic_prefix)
    producer = Producer({**kafka_properties(settings), "queue.buffering.max.messages": 1_000_000})
    position = TrekkpliktigPosition(reconciled_at=now_microseconds())
    for trekkpliktig in trekkpliktige:
        lane = lane_of(trekkpliktig, PARTITIONS_DEFAULT)
        record = position_record(topics.positions, lane, trekkpliktig, position)
        producer.produce(record.topic, record.value, record.key, partition=lane)
    if producer.flush(_WRITE_SECONDS_MAX):
        raise RuntimeError("the positions could not be written in time")


def _answer_seconds(settings: Settings, trekkpliktig: str, samples: int) -> float:
    """The usual time of an answer that nothing else waits for, as the client sees it."""
    calls = _Calls()
    source = build_source(
        settings, calls, ServedTrekkpliktige(TrekkpliktigeList(settings, lambda _: None)), threading.Event()
    )
    for _ in range(samples):
        source.fetch_page(trekkpliktig, 0)
    return statistics.median(calls.seconds)
