"""The producer's cases. Each runs in a fresh process."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import Producer
from figures import Figures, Stopwatch, measured
from raw_loop import compiled_encoder, fastavro_encoder, make_pages, raw_loop

from producer.admin.kafka import KafkaAdmin
from producer.bootstrap import build_service
from producer.observe.prometheus import PrometheusObserver
from producer.publish.kafka import producer_properties
from producer.publish.topics import Topics, wanted_topics
from producer.settings.model import load_settings
from sandbox.skatteetaten.generate import trekkpliktige
from tests.kit.processes import OutsideProcess
from trekkpaalegg.kafka.properties import kafka_properties
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.detect.decide import Decision
    from producer.settings.model import Settings

PAGE_SIZE = 2500
BATCH_BYTES_MAX = 1_000_000


class ProducerCase(msgspec.Struct, frozen=True):
    """One case. Raw loops (`encoder` is given) have no employers to read; `versions_max` is per order."""

    name: str
    what: str
    orders: int
    employers: int = 1
    versions_max: int = 1
    encoder: str | None = None

    def scaled(self, share: float) -> ProducerCase:
        return msgspec.structs.replace(
            self, orders=max(int(self.orders * share), 10), employers=max(int(self.employers * share), 1)
        )


PRODUCER_CASES = (
    ProducerCase("raw", "decode, fastavro, produce", 100_000, encoder="fastavro"),
    ProducerCase("raw-compiled", "decode, compiled encoder, produce", 100_000, encoder="compiled"),
    ProducerCase("backfill", "HTTP to committed, one employer", 100_000),
    ProducerCase("backfill-large", "HTTP to committed, one employer", 1_000_000),
    ProducerCase("employers", "10 000 employers, few orders each", 50_000, employers=10_000),
    ProducerCase("gapfill", "nearly every version by number", 800, versions_max=49),
)


class _Told(PrometheusObserver):
    """The service's own metrics, and what the bench wants to know."""

    def __init__(self) -> None:
        super().__init__()
        self.stopwatch = Stopwatch()
        self.versions = 0
        self._lock = threading.Lock()

    def lane_acquired(self, lane: int, trekkpliktige: int, orders: int) -> None:
        super().lane_acquired(lane, trekkpliktige, orders)
        self.stopwatch.touch()

    def transaction_finished(self, outcome: str, seconds: float) -> None:
        super().transaction_finished(outcome, seconds)
        self.stopwatch.touch()

    def published(self, lane: int, decisions: Sequence[Decision]) -> None:
        super().published(lane, decisions)
        with self._lock:
            self.versions += sum(len(each.publications) for each in decisions)


def run_producer_case(case: ProducerCase, kafka_brokers: str) -> Figures:
    """Run one case in this process."""
    configure_logs(level="WARNING")
    gc.freeze()  # both as the program's own entry does
    if case.encoder is not None:
        return _run_raw_loop(case, kafka_brokers)
    return _run_service(case, kafka_brokers)


def _run_raw_loop(case: ProducerCase, kafka_brokers: str) -> Figures:
    encode = {"fastavro": fastavro_encoder, "compiled": compiled_encoder}[case.encoder or ""]()
    pages = make_pages(trekkpliktige(0, 1)[0], case.orders, PAGE_SIZE)
    prefix = f"bench-{uuid.uuid4().hex[:12]}"
    properties = {"bootstrap.servers": kafka_brokers}
    make_topics(KafkaAdmin(properties), prefix)
    producer = Producer(producer_properties(properties, prefix, BATCH_BYTES_MAX))
    producer.init_transactions(30)

    def work() -> tuple[int, int, float]:
        begun = time.monotonic()
        count = raw_loop(pages, producer, Topics.of(prefix).versjoner, encode)
        return count, count, time.monotonic() - begun

    return measured(case.name, work)


def _run_service(case: ProducerCase, kafka_brokers: str) -> Figures:
    options = itertools.chain.from_iterable(
        (f"--{name}", str(value))
        for name, value in (
            ("trekkpliktige", case.employers),
            ("orders", case.orders),
            ("versions-max", case.versions_max),
        )
    )
    with OutsideProcess(*options, "--no-examples") as outside:
        settings, _ = bench_settings(outside, kafka_brokers)
        make_topics(KafkaAdmin(kafka_properties(settings)), settings.topic_prefix)
        told = _Told()
        service = build_service(settings, told, threading.Event(), once=True)

        def work() -> tuple[int, int, float]:
            service.run()
            return told.versions, case.orders, told.stopwatch.seconds

        figures = measured(case.name, work)
        expected = len(outside.control("identities")) if case.versions_max > 1 else case.orders
    failed = {name: why for each in service.rounds.values() for name, why in each.failed_for_good.items()}
    if failed or figures.versions != expected:
        raise RuntimeError(f"{case.name}: {figures.versions} of {expected} versions published; failed: {failed}")
    return figures


def bench_settings(outside: OutsideProcess, kafka_brokers: str) -> tuple[Settings, dict[str, str]]:
    """Settings under a prefix of their own, and the environment that gives them."""
    prefix = f"bench-{uuid.uuid4().hex[:12]}"
    environment = outside.environment(outside.trekkpliktige)
    environment["KAFKA_BROKERS"] = kafka_brokers
    environment["TREKKPAALEGG_TOPIC_PREFIX"] = environment["TREKKPAALEGG_APPLICATION_ID"] = prefix
    return load_settings(None, environment), environment


def make_topics(admin: KafkaAdmin, prefix: str) -> None:
    """The topics of this prefix, for the application of that id, once they are there."""
    admin.create(wanted_topics(prefix))
    admin.record_identity(Topics.of(prefix).positions, admin.inspect(prefix, prefix).present)
