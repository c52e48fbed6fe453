"""The forwarder in trouble of its own: a database that cuts it off, a receiver that cheats, a topic that changed."""

from __future__ import annotations

import socket
import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.decode import Decoder
from consumers.errors import FatalError
from consumers.stream.follow import Follower
from consumers.webhook.answer import Meaning
from consumers.webhook.cloudevent import Parcel
from consumers.webhook.delivery import Couriers, Receiver
from consumers.webhook.forward import Forwarder, Limits
from consumers.webhook.message import message_of
from consumers.webhook.opening import open_store, state_address
from consumers.webhook.signing import Signer, new_secret
from sandbox.event_stream import EventTopics, make_stream
from sandbox.payroll_receiver import PayrollReceiver
from sandbox.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.webhook.answer import Outcome
    from consumers.webhook.message import Message
    from sandbox.kafka import EmbeddedKafka
    from sandbox.postgresql import EmbeddedPostgresql

DEADLINE_SECONDS = 60
PARCEL = Parcel("10001/1", b"{}")


class Followed:
    """A real topic as the forwarder's source."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    @property
    def has_reached_end(self) -> bool:
        return self._follower.has_reached_end

    def poll(self, seconds_max: float) -> list[Message]:
        return [message_of(each) for each in self._follower.poll(seconds_max)]


@pytest.fixture
def receiver() -> Iterator[PayrollReceiver]:
    with PayrollReceiver(new_secret()) as started:
        yield started


@pytest.mark.kafka
def test_a_database_that_cuts_the_connection_is_waited_for(
    kafka: EmbeddedKafka, postgresql: EmbeddedPostgresql, topic_prefix: str, receiver: PayrollReceiver
) -> None:
    """Whether what was being written stands or not, nothing is lost and none overtakes another."""
    stream = make_stream(1, 60)
    state = state_address(f"{postgresql.url}?options=-csearch_path%3Dcut_{uuid.uuid4().hex[:12]}")
    properties = {"bootstrap.servers": kafka.bootstrap_servers}
    receiver.delay_seconds = 0.01
    store = open_store(state, make=True)
    store.take_over()
    cuts = 0
    with EventTopics(kafka.bootstrap_servers, topic_prefix) as topics:
        topics.write(stream, gjeldende=False)
        source = Follower(properties, topics.topics.versjoner, from_beginning=True, next_offsets={})
    with source as follower, Couriers(Receiver(receiver.url, Signer(receiver.secret)), 4) as couriers:
        forwarder = Forwarder(store, Decoder(), Limits(), lambda _: None, threading.Event())
        running = threading.Thread(
            target=forwarder.run, args=(Followed(follower), couriers), kwargs={"until_end": True}
        )
        running.start()
        for share in (0.0, 0.2, 0.6):
            until(lambda share=share: len(receiver.accepted) >= share * len(stream), DEADLINE_SECONDS)
            cuts += cut_connections(postgresql)
        running.join(DEADLINE_SECONDS)
    assert not running.is_alive()
    assert cuts > 0
    assert store.waiting() == []
    store.close()
    for order in {each.trekkpaalegg.trekkid for each in stream}:
        wanted = [each.trekkpaalegg.trekkversjon for each in stream if each.trekkpaalegg.trekkid == order]
        assert receiver.accepted_of(order) == [f"{order}/{trekkversjon}" for trekkversjon in wanted]
    assert receiver.overtaking == []
    assert len(receiver.accepted) == len(stream)


def cut_connections(postgresql: EmbeddedPostgresql) -> int:
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trekkpaalegg-consumer'"
        )
        return len(cut.fetchall())


@pytest.mark.kafka
@pytest.mark.parametrize(("next_offset", "words"), [(10_000, "it ends at"), (1, "messages from 1 to 2 are deleted")])
def test_a_topic_that_lost_or_never_had_what_comes_next_is_refused(
    kafka: EmbeddedKafka, topic_prefix: str, next_offset: int, words: str
) -> None:
    with EventTopics(kafka.bootstrap_servers, topic_prefix, partitions=1) as topics:
        topics.write(make_stream(2, 3), gjeldende=False)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for deleted in admin.delete_records([TopicPartition(topics.topics.versjoner, 0, 3)]).values():
            deleted.result(DEADLINE_SECONDS)
        with pytest.raises(FatalError, match=words):
            Follower(
                {"bootstrap.servers": kafka.bootstrap_servers},
                topics.topics.versjoner,
                from_beginning=True,
                next_offsets={0: next_offset},
            )


def send_to(url: str) -> Outcome:
    client = Receiver(url, Signer(new_secret()), answer_seconds=5.0)
    try:
        return client.send(PARCEL)
    finally:
        client.close()


@contextmanager
def cheat(answer: bytes) -> Iterator[str]:
    """The address of a server that answers one call with these bytes, whatever was asked, and hangs up."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        serving.join(DEADLINE_SECONDS)


def test_an_answer_without_end_is_cut_off_and_its_status_counts() -> None:
    with cheat(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n" * 20_000) as address:
        outcome = send_to(address)
    assert outcome.meaning is Meaning.DELIVERED


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\ncontent-le"])
def test_what_is_no_answer_is_a_failure(answer: bytes) -> None:
    with cheat(answer) as address:
        outcome = send_to(address)
    assert outcome.meaning is Meaning.FAILED
    assert outcome.words.startswith("no answer from the receiver")


def test_a_name_that_does_not_exist_is_no_events_fault() -> None:
    outcome = send_to("https://payroll.invalid/hemmelig")
    assert outcome.meaning is Meaning.UNAVAILABLE
    assert "hemmelig" not in outcome.words
