"""The forwarder in trouble of its own: a database that cuts it off, a receiver that cheats, a topic that changed."""

from __future__ import annotations

import random
import socket
import threading
import uuid
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import conninfo_to_dict

from consumers.ledger.address import PostgresqlAddress
from consumers.webhook.cloudevent import WebhookRequest, event_message
from consumers.webhook.delivery import DeliveryResult, ReceiverClient, ResultKind, SenderPool, Signer, new_secret
from consumers.webhook.forward import Forwarder, Limits
from consumers.webhook.opening import open_store, state_address
from tests.kit.event_stream import EventTopics, event_encoder, make_stream
from tests.kit.receivers import PayrollReceiver
from tests.kit.waiting import for_a_while, until
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.reader import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from consumers.webhook.cloudevent import EventMessage
    from consumers.webhook.store import ForwarderStore
    from producer.domain.trekkpaalegg import Publication
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.postgresql import EmbeddedPostgresql

DEADLINE_SECONDS = 300
MESSAGES_MAX = 7
QUICK = Limits()
PARCEL = WebhookRequest("10001/1", b"{}")


class Followed:
    """A real topic as the forwarder's source, a few messages at a time: each is a transaction that can fail."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._ahead: list[EventMessage] = []

    @property
    def has_reached_end(self) -> bool:
        return self._follower.has_reached_first_ends and not self._ahead

    def poll(self, seconds_max: float) -> list[EventMessage]:
        if not self._ahead:
            self._ahead = [event_message(each) for each in self._follower.poll(seconds_max)]
        given, self._ahead = self._ahead[:MESSAGES_MAX], self._ahead[MESSAGES_MAX:]
        return given


@pytest.fixture
def receiver() -> Iterator[PayrollReceiver]:
    with PayrollReceiver(new_secret()) as started:
        yield started


def own_schema(postgresql: EmbeddedPostgresql) -> str:
    """A schema and, so that its connections can be told from those of other tests, an `application_name`."""
    name = f"cut_{uuid.uuid4().hex[:12]}"
    return f"{postgresql.url}?options=-csearch_path%3D{name}&application_name={name}"


@contextmanager
def forwarding(
    kafka: EmbeddedKafka,
    topic: str,
    store: ForwarderStore,
    receiver: PayrollReceiver,
    begin: Callable[[], None] = lambda: None,
) -> Iterator[threading.Thread]:
    """A forwarder that runs until all is delivered that there was when it began, which it must; `begin` is called."""
    store.claim_ownership()
    properties = {"bootstrap.servers": kafka.bootstrap_servers}
    source = Follower(properties, [topic], {}, waits_for_open=True)
    with source as follower, SenderPool(ReceiverClient(receiver.url, Signer(receiver.secret)), 4) as senders:
        forwarder = Forwarder(store, Decoder(), QUICK, lambda _: None, threading.Event())
        errors: list[BaseException] = []

        def run() -> None:
            try:
                forwarder.run(Followed(follower), senders, until_end=True)
            except BaseException as error:  # noqa: BLE001 - told by the assertion below
                errors.append(error)

        running = threading.Thread(target=run)
        begin()
        running.start()
        yield running
        running.join(DEADLINE_SECONDS)
    assert (running.is_alive(), errors) == (False, [])
    assert store.pending() == []
    store.close()


def prove_delivered_once(receiver: PayrollReceiver, stream: Sequence[Publication]) -> None:
    for order in {each.trekkpaalegg.trekkid for each in stream}:
        wanted = [each.trekkpaalegg.trekkversjon for each in stream if each.trekkpaalegg.trekkid == order]
        assert receiver.accepted_of(order) == [f"{order}/{trekkversjon}" for trekkversjon in wanted]
    assert receiver.overtaking == []
    assert len(receiver.accepted) == len(stream)


@pytest.mark.kafka
def test_a_database_that_cuts_the_connection_is_waited_for(
    kafka: EmbeddedKafka, postgresql: EmbeddedPostgresql, topic_prefix: str, receiver: PayrollReceiver
) -> None:
    """Whether what was being written stands or not, nothing is lost and none overtakes another."""
    stream = make_stream(1, 60)
    receiver.delay_seconds = 0.01
    cuts = 0
    with EventTopics(kafka.bootstrap_servers, topic_prefix) as topics:
        topics.write(stream, gjeldende=False)
    url = own_schema(postgresql)
    store = open_store(state_address(url), make=True)
    with forwarding(kafka, topics.topics.versjoner, store, receiver):
        for share in (0.0, 0.2, 0.6):
            until(lambda share=share: len(receiver.accepted) >= share * len(stream), DEADLINE_SECONDS)
            cuts += cut_connections(url)
    assert cuts > 0
    prove_delivered_once(receiver, stream)


def cut_connections(url: str) -> int:
    """Cut the forwarder's connections, and no others of the shared server."""
    name = url.rpartition("=")[2]
    with psycopg.connect(url, application_name="cut", autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", [name]
        )
        return len(cut.fetchall())


class UnsteadyAddress(PostgresqlAddress):
    """A database that cuts one connection in four off at the end of a transaction, from `begin` until `mend`.

    Before the transaction stands, or after.
    """

    def __init__(self, url: str, seed: int) -> None:
        super().__init__({name: str(value) for name, value in conninfo_to_dict(url).items()})
        self._chance = random.Random(f"unsteady {seed}")
        self._is_steady = True
        self.lost: Counter[str] = Counter()

    def begin(self) -> None:
        self._is_steady = False

    def mend(self) -> None:
        self._is_steady = True

    def connect(self, *, read_only: bool = False) -> psycopg.Connection:
        connection = super().connect(read_only=read_only)
        commit = connection.commit

        def commit_or_cut() -> None:
            fate = "" if self._is_steady else self._chance.choice(("before", "after", *[""] * 6))
            if fate != "before":
                commit()
            if fate:
                self.lost[fate] += 1
                connection.close()
                raise psycopg.OperationalError("the connection is lost")

        connection.commit = commit_or_cut  # type: ignore[method-assign] # this connection alone
        return connection


@pytest.mark.kafka
@pytest.mark.parametrize("seed", range(3))
def test_a_commit_whose_answer_is_lost_leaves_nothing_behind_and_sends_nothing_twice(
    kafka: EmbeddedKafka, postgresql: EmbeddedPostgresql, topic_prefix: str, receiver: PayrollReceiver, seed: int
) -> None:
    """Of every transaction of the forwarder's: reading, taking, settling."""
    stream = make_stream(20 + seed, 20)
    with EventTopics(kafka.bootstrap_servers, topic_prefix) as topics:
        topics.write(stream, gjeldende=False)
    address = UnsteadyAddress(own_schema(postgresql), seed)
    store = open_store(address, make=True)
    with forwarding(kafka, topics.topics.versjoner, store, receiver, address.begin) as running:
        running.join(DEADLINE_SECONDS)
        address.mend()
    assert min(address.lost["before"], address.lost["after"]) > 3
    prove_delivered_once(receiver, stream)


@pytest.mark.kafka
def test_the_end_is_behind_what_is_being_committed_at_the_start(
    kafka: EmbeddedKafka, postgresql: EmbeddedPostgresql, topic_prefix: str, receiver: PayrollReceiver
) -> None:
    """A commit is answered before readers see it: what a producer wrote just now is not left behind."""
    stream = make_stream(2, 10)
    store = open_store(state_address(own_schema(postgresql)), make=True)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic_prefix})
    producer.init_transactions(DEADLINE_SECONDS)
    with EventTopics(kafka.bootstrap_servers, topic_prefix) as topics:
        producer.begin_transaction()
        for encoded in map(event_encoder().encode, stream):
            producer.produce(topics.topics.versjoner, encoded.value, encoded.key, headers=list(encoded.headers.items()))
        producer.flush(DEADLINE_SECONDS)
        with forwarding(kafka, topics.topics.versjoner, store, receiver) as running:
            for_a_while(running.is_alive)
            assert receiver.calls == [], "nothing is committed"
            producer.commit_transaction(DEADLINE_SECONDS)
    prove_delivered_once(receiver, stream)


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
                [topics.topics.versjoner],
                {Partition(topics.topics.versjoner, 0): next_offset},
            )


def send_to(url: str) -> DeliveryResult:
    client = ReceiverClient(url, Signer(new_secret()), answer_seconds=5.0)
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
        result = send_to(address)
    assert result.kind is ResultKind.DELIVERED


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\ncontent-le"])
def test_what_is_no_answer_is_a_failure(answer: bytes) -> None:
    with cheat(answer) as address:
        result = send_to(address)
    assert result.kind is ResultKind.FAILED
    assert result.reason.startswith("no answer from the receiver")


def test_a_name_that_does_not_exist_is_no_events_fault() -> None:
    result = send_to("https://payroll.invalid/hemmelig")
    assert result.kind is ResultKind.UNAVAILABLE
    assert "hemmelig" not in result.reason
