"""A lone broker that is stopped while transactions are committed leaves none of them hanging; one that may is told."""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from producer.publish.lone_broker import WARNING, lone_broker_warnings
from sandbox.kafka import EmbeddedKafka
from sandbox.secured_kafka import SecuredKafka
from sandbox.waiting import until

pytestmark = pytest.mark.kafka

TOPIC = "ends"
PARTITIONS = 4
PRODUCERS = 12
STOPS = 2
CALL_SECONDS_MAX = 30.0
UNDER_WAY_SECONDS = 3.0


class Committing:
    """A producer that commits one small transaction after another, in a thread of its own, until Kafka is gone."""

    def __init__(self, bootstrap_servers: str, number: int) -> None:
        self._settings = {
            "bootstrap.servers": bootstrap_servers,
            "transactional.id": f"ends-{number}",
            "retry.backoff.ms": 4,
            "log_level": 0,
        }
        self.times = 0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"committing-{number}", daemon=True)

    def end_what_is_open(self) -> None:
        """As its next self does: Kafka aborts what was begun."""
        Producer(self._settings).init_transactions(CALL_SECONDS_MAX)

    def _run(self) -> None:
        try:
            producer = Producer(self._settings)
            producer.init_transactions(CALL_SECONDS_MAX)
            while not self.ending.is_set():
                producer.begin_transaction()
                for partition in range(PARTITIONS):
                    producer.produce(TOPIC, b"value", b"key", partition)
                producer.commit_transaction(UNDER_WAY_SECONDS)
                self.times += 1
        except KafkaException:
            return


def ends(kafka: EmbeddedKafka, isolation_level: str) -> list[int]:
    settings = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "ends", "isolation.level": isolation_level}
    consumer = Consumer(settings | {"log_level": 0})
    try:
        places = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
        return [consumer.get_watermark_offsets(place, timeout=CALL_SECONDS_MAX)[1] for place in places]
    finally:
        consumer.close()


def test_no_transaction_hangs_after_a_lone_broker_was_stopped() -> None:
    with EmbeddedKafka() as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(CALL_SECONDS_MAX)
        for _ in range(STOPS):
            committing = [Committing(kafka.bootstrap_servers, number) for number in range(PRODUCERS)]
            for each in committing:
                each.thread.start()
            until(lambda: all(each.times for each in committing), CALL_SECONDS_MAX, "each has committed")  # noqa: B023 - called at once
            time.sleep(1.0)  # the load under which it is stopped
            kafka.stop()
            for each in committing:
                each.ending.set()
                each.thread.join(CALL_SECONDS_MAX)
            kafka.start()
            for each in committing:
                each.end_what_is_open()
            until(
                lambda: ends(kafka, "read_committed") == ends(kafka, "read_uncommitted"), CALL_SECONDS_MAX, "none hangs"
            )


@pytest.mark.parametrize(("hands_over", "told"), [("true", [WARNING]), ("false", [])])
def test_a_lone_broker_that_hands_over_is_told(hands_over: str, told: list[str]) -> None:
    with EmbeddedKafka(properties={"controlled.shutdown.enable": hands_over}) as kafka:
        assert lone_broker_warnings({"bootstrap.servers": kafka.bootstrap_servers}) == told


def test_what_may_not_be_seen_is_not_told() -> None:
    with SecuredKafka() as kafka:
        kafka.set_password("trekk", "secret")
        assert lone_broker_warnings(kafka.scram_properties("trekk", "secret")) == []
