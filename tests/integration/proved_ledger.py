"""One stream in a topic, and ledgers filled from it: for tests of `verify`."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from typing import TYPE_CHECKING

import sqlalchemy as sa
from confluent_kafka import Consumer, TopicPartition

from consumers.apply.worker import apply
from consumers.ledger import tables
from consumers.ledger.opening import open_engine, open_ledger
from consumers.settings.model import Settings
from consumers.verify.proof import ProofOptions, prove
from tests.kit.event_stream import ROUGH, EventTopics, make_stream
from tests.kit.waiting import Unseen
from trekkpaalegg.decode import Decoder
from trekkpaalegg.incoming import Advance, IncomingEvent, incoming_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from confluent_kafka import Message

    from consumers.verify.findings import Proof
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.postgresql import EmbeddedPostgresql

PARTITIONS = 2
STREAM = make_stream(11, 40, roughness=ROUGH)
CHECK_OF = {
    "trekkpaalegg": "ledger_newest",
    "trekkpaalegg_versjon": "ledger_history",
    "trekkpaalegg_versjon_replaced": "ledger_replaced",
    "trekkstoerrelse_for_periode": "ledger_periods",
}


class Stage:
    """One stream in a topic, and ledgers that are filled from it."""

    def __init__(self, kafka: EmbeddedKafka, prefix: str) -> None:
        self.prefix = prefix
        self.settings = Settings(kafka_brokers=kafka.bootstrap_servers, topic_prefix=prefix)
        self.topics = EventTopics(kafka.bootstrap_servers, prefix, partitions=PARTITIONS)
        self.topics.write(STREAM)

    def fill(self, url: str, role: str = "versjoner", share: float = 1.0) -> None:
        """Apply the first part of each partition, as the consumer does."""
        topic, decode = f"{self.prefix}-{role}", Decoder().decode_trekkpaalegg_versjon
        with contextlib.closing(open_ledger(url)) as ledger:
            for partition in range(PARTITIONS):
                messages = self._messages(topic, partition)
                messages = messages[: int(len(messages) * share)]
                batch = [incoming_of(message, topic, decode) for message in messages]
                assert all(isinstance(each, IncomingEvent) for each in batch)
                end = (messages[-1].offset() or 0) + 1
                with ledger.transaction({(topic, partition): Advance(0, end)}) as transaction:
                    apply(transaction, batch, newest_only=role == "gjeldende")

    def prove(self, url: str) -> Proof:
        return prove(self.settings, ProofOptions(ledger_url=url), Unseen())

    def _messages(self, topic: str, partition: int) -> list[Message]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.kafka_brokers,
                "group.id": self.prefix,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
            }
        )
        with contextlib.closing(consumer):
            consumer.assign([TopicPartition(topic, partition, 0)])
            polled = iter(lambda: consumer.poll(10), None)
            return list(itertools.takewhile(lambda message: message.error() is None, polled))


@contextlib.contextmanager
def stage_on(kafka: EmbeddedKafka) -> Iterator[Stage]:
    made = Stage(kafka, f"test-{uuid.uuid4().hex[:12]}")
    with contextlib.closing(made.topics):
        yield made


def url_of_no_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no ledger is yet, on the database that is the parameter of the request."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
    return f"{server.url}?options=-csearch_path%3Dverify_{uuid.uuid4().hex[:8]}"


def row_of(url: str, table: sa.Table) -> sa.Row:
    engine = open_engine(url, read_only=True)
    with engine.connect() as connection:
        row = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).first()
        assert row is not None
        return row


def at(table: sa.Table, row: sa.Row) -> sa.ColumnElement[bool]:
    return sa.and_(*[column == row._mapping[column] for column in table.primary_key.columns])  # noqa: SLF001 - public by SQLAlchemy's documentation


def found(proof: Proof) -> dict[str, list[tuple[str, str | None, int | None, tuple[str, ...]]]]:
    """What is not as it should be; holes of the stream, for which no positions stand, aside."""
    return {
        check.name: [(each.what, each.trekkid, each.trekkversjon, each.fields) for each in check.differences]
        for check in proof.checks
        if not check.ok and check.name != "complete"
    }


def expected(table: sa.Table, row: sa.Row, what: str, field: str | None) -> dict[str, list]:
    """The difference that a change to this row must be told as; a period is told with its place."""
    mapping = row._mapping  # noqa: SLF001 - as above
    fields: tuple[str, ...] = (field,) if field else ()
    version = mapping.get("trekkversjon")
    if table is tables.trekkstoerrelse_for_periode:
        place = f"[{mapping['nummer']}]"
        fields = (f"{place}.{field}" if field else place,)
        version = newest_version(mapping["trekkid"])
    return {CHECK_OF[table.name]: [(what, mapping["trekkid"], version, fields)]}


def newest_version(trekkid: str) -> int:
    return max(each.trekkpaalegg.trekkversjon for each in STREAM if each.trekkpaalegg.trekkid == trekkid)
