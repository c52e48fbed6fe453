"""`ExactlyOnce` on a real Kafka and on every database: a handler of one's own, and what it may meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.kit.event_stream import EventTopics, Roughness, make_stream
from trekkpaalegg.errors import FatalError
from trekkpaalegg.exactly_once import ExactlyOnce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sandbox.servers.kafka import EmbeddedKafka
    from trekkpaalegg.incoming import IncomingEvent

pytestmark = pytest.mark.kafka

STREAM = make_stream(5, 30, roughness=Roughness(late=0.1, corrected=0.2))
OWN = sa.Table("own", sa.MetaData(), sa.Column("trekkid", sa.String(200)), sa.Column("trekkversjon", sa.Integer))


@pytest.fixture
def topics(kafka: EmbeddedKafka, topic_prefix: str) -> Iterator[EventTopics]:
    with EventTopics(kafka.bootstrap_servers, topic_prefix) as made:
        yield made


@pytest.fixture
def make_consumer(topics: EventTopics, engine: sa.Engine) -> Callable[..., ExactlyOnce]:
    OWN.create(engine)

    def make(**options: Any) -> ExactlyOnce:
        consumer = ExactlyOnce(
            engine,
            {"bootstrap.servers": topics.bootstrap_servers},
            topics.prefix,
            topic=topics.topics.versjoner,
            report=lambda *_, **__: None,
            **options,
        )
        consumer.create_tables()
        return consumer

    return make


def write(connection: sa.Connection, events: Sequence[IncomingEvent]) -> None:
    rows = [{"trekkid": each.event.trekkid, "trekkversjon": each.event.trekkversjon} for each in events]
    connection.execute(OWN.insert(), rows)


def written(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(OWN)) or 0


def test_events_are_handled_once_whatever_the_handler_meets(
    topics: EventTopics, make_consumer: Callable[..., ExactlyOnce], engine: sa.Engine
) -> None:
    """Its own error ends the run and rolls the batch back; what was not handled is handled by the next run."""
    topics.write(STREAM)
    topics.write(STREAM[:5], commits=False)
    consumer = make_consumer(batch_records_max=len(STREAM) // 3)
    calls = []

    def fail_in_the_second(connection: sa.Connection, events: Sequence[IncomingEvent]) -> None:
        write(connection, events)
        calls.append(len(events))
        if len(calls) == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consumer.run(fail_in_the_second, until_end=True)
    assert written(engine) == calls[0] < len(STREAM)
    assert consumer.run(write, until_end=True).events == len(STREAM) - calls[0]
    assert consumer.run(write, until_end=True).events == 0
    assert written(engine) == len(STREAM)


def test_undecodable_messages_are_kept_up_to_a_limit(
    topics: EventTopics, make_consumer: Callable[..., ExactlyOnce], engine: sa.Engine
) -> None:
    topics.write(STREAM[:3])
    topics.write_raw(b"junk")
    topics.write_raw(None)
    assert make_consumer().run(write, until_end=True).undecodable == 2
    assert sorted(str(each.value) for each in make_consumer().undecodable()) == ["None", "b'junk'"]
    outcome = make_consumer().retry_undecodable(write)
    assert (outcome.applied, len(outcome.remaining), written(engine)) == (0, 2, 3)
    topics.write(STREAM[3:5])
    with pytest.raises(FatalError, match=r"2 messages .* more than undecodable_max 1 allows"):
        make_consumer(undecodable_max=1).run(write, until_end=True)


def test_an_offset_that_the_topic_no_longer_has_is_not_passed_over(
    topics: EventTopics, make_consumer: Callable[..., ExactlyOnce], engine: sa.Engine
) -> None:
    topics.write(STREAM[:3])
    make_consumer().run(write, until_end=True)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE trekkpaalegg_offset SET next_offset = next_offset + 1000"))
    topics.write(STREAM[3:9])
    with pytest.raises(FatalError, match=r"no longer has offset 1[0-9]{3}.*empty your tables and trekkpaalegg_offset"):
        make_consumer().run(write)
