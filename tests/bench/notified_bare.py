"""The least that a notified change can cost here: a loop that only reads and writes, beside the producer's own.

One thread a lane, as the producer has: a signal is consumed, one page of its employer is read by HTTP, and what came
is written to the same three topics with the signal's offset, in one transaction. Nothing is detected, encoded or
remembered, and nothing else runs meanwhile. So its latency is that of the broker, of the simulated API and of this
machine.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import httpx
from confluent_kafka import Consumer, Producer, TopicPartition
from producer_cases import BATCH_BYTES_MAX, bench_settings, make_topics
from producer_stage import Arrivals, until

from producer import bootstrap
from producer.admin.kafka import KafkaAdmin
from producer.observe.port import NullObserver
from producer.publish.kafka import producer_properties
from producer.publish.topics import PARTITIONS_DEFAULT, Topics
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from producer.settings.model import Settings
    from tests.kit.processes import OutsideProcess


EVENT_BYTES = 400
STATE_BYTES = 60
_POLL_SECONDS = 0.1


def bare_waits(changes: int, changes_a_second: float, outside: OutsideProcess, brokers: str) -> dict[str, list[float]]:
    """Milliseconds from each signal to its event read committed, of each call to the API, of each transaction."""
    settings, _ = bench_settings(outside, brokers)
    make_topics(KafkaAdmin(kafka_properties(settings)), settings.topic_prefix)
    arrivals = Arrivals(brokers, Topics.of(settings.topic_prefix).versjoner)
    loop = _BareLoop(settings)
    sent: dict[str, float] = {}
    chosen = random.Random(0)
    try:
        with (
            bootstrap.open_signal_log(settings) as signals,
            httpx.Client(base_url=outside.control_url) as control,
        ):
            begun = time.monotonic()
            for number in range(changes):
                time.sleep(max(begun + number / changes_a_second - time.monotonic(), 0.0))
                employer = chosen.choice(outside.trekkpliktige)
                made = control.post("create", json={"trekkpliktig": employer}).raise_for_status().json()
                sent[made["trekkid"]] = time.monotonic()
                signals.begin(employer, b"{}")
            until(lambda: sent.keys() <= arrivals.at.keys(), "every change has come by the bare loop")
    finally:
        loop.close()
        arrivals.close()
    return {
        "bare": [(arrivals.at[name] - at) * 1000 for name, at in sent.items()],
        "call": loop.calls,
        "transaction": loop.transactions,
    }


class _BareLoop:
    """Turns in a thread for each lane, until closed; all have their producers when it is made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        served = ServedTrekkpliktige(TrekkpliktigeList(settings, lambda _: None))
        self._source = bootstrap.build_source(settings, NullObserver(), served, self._stopping)
        self.calls: list[float] = []
        self.transactions: list[float] = []
        ready = threading.Barrier(PARTITIONS_DEFAULT + 1)
        self._threads = [
            threading.Thread(target=self._turn, args=(lane, ready), daemon=True) for lane in range(PARTITIONS_DEFAULT)
        ]
        for each in self._threads:
            each.start()
        ready.wait()

    def close(self) -> None:
        self._stopping.set()
        for each in self._threads:
            each.join()

    def _turn(self, lane: int, ready: threading.Barrier) -> None:
        topics, properties = Topics.of(self._settings.topic_prefix), kafka_properties(self._settings)
        producer = Producer(producer_properties(properties, f"{self._settings.application_id}-{lane}", BATCH_BYTES_MAX))
        producer.init_transactions(30)
        consumer = Consumer({**properties, "group.id": self._settings.application_id, "enable.auto.commit": "false"})
        consumer.assign([TopicPartition(topics.signals, lane, 0)])
        cursors: dict[str, int] = {}
        ready.wait()
        while not self._stopping.is_set():
            message = consumer.poll(_POLL_SECONDS)
            if message is None or message.error() is not None:
                continue
            employer = message.key().decode()
            begun = time.monotonic()
            elements = self._source.fetch_page(employer, cursors.get(employer, 0)).elements
            read = time.monotonic()
            cursors[employer] = max([cursors.get(employer, 0), *(each.sekvensnummer for each in elements)])
            producer.begin_transaction()
            for each in elements:
                producer.produce(topics.versjoner, bytes(EVENT_BYTES), each.trekkid)
                producer.produce(topics.gjeldende, bytes(EVENT_BYTES), each.trekkid)
                producer.produce(topics.positions, bytes(STATE_BYTES), f"{employer}/{each.trekkid}", lane)
            producer.produce(topics.positions, bytes(STATE_BYTES), employer, lane)
            offset = TopicPartition(topics.signals, lane, message.offset() + 1)
            producer.send_offsets_to_transaction([offset], consumer.consumer_group_metadata())
            producer.commit_transaction()
            self.calls.append((read - begun) * 1000)
            self.transactions.append((time.monotonic() - read) * 1000)
        consumer.close()
