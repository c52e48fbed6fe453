"""The worker on a topic and a ledger in memory: what cannot be decoded, and what contradicts, is kept and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import schemas
from tests.kit.fakes.ledger import FakeLedger
from tests.kit.fakes.subscription import FakeTopic
from tests.unit.consumer_hall import STREAM, Hall
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import FatalError, RetryableError
from trekkpaalegg.exactly_once.worker import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hall() -> Iterator[Hall]:
    made = Hall()
    yield made
    made.close()


def test_undecodable_messages_are_kept_and_told(hall: Hall) -> None:
    hall.topic.write(STREAM[:5])
    hall.topic.write_raw(b"junk")
    hall.topic.write_raw(None, partition=1)
    assert hall.work().tally.undecodable == 2
    kept = FakeLedger(hall.database).undecodable()
    assert [(each.value, each.reason) for each in kept] == [
        (b"junk", "the value is in neither wire format: it begins with 6a75"),
        (None, "the message has no value"),
    ]
    told = [details for event, details in hall.told if event.startswith("undecodable")]
    assert sum(details["count"] for details in told) == 2


def test_more_undecodable_messages_than_allowed_stop_the_worker_and_keep_it_from_starting(hall: Hall) -> None:
    options = WorkerOptions(until_end=True, undecodable_max=1, batch_records_max=1)
    for _ in range(2):
        hall.topic.write_raw(b"junk")
    for _ in range(2):
        with pytest.raises(FatalError, match=r"2 messages could not be decoded.*retry"):
            hall.work(options)
    assert len(hall.subscriptions) == 1, "the second did not join at all"


def test_conflicts_are_kept_and_told(hall: Hall) -> None:
    hall.topic.write([*STREAM[:1], _other_content(STREAM[0])])
    assert hall.work().conflicts == 1
    assert len(hall.database.tables.conflicts) == 1
    assert any(event.startswith("conflict") for event in hall.events_told())


def _other_content(publication: Any) -> Any:
    other = msgspec.structs.replace(publication.trekkpaalegg, saksnummer="other")
    return msgspec.structs.replace(publication, trekkpaalegg=other)


class SilentRegistry:
    """Raises so many times, then knows no schema."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def fetch_schema(self, schema_id: int) -> str:
        if self.failures:
            self.failures -= 1
            raise RetryableError(f"could not get schema {schema_id}")
        return schemas.load("trekkpaalegg_versjon").canonical_json


def test_a_silent_registry_is_waited_for_and_nothing_counts_as_undecodable(hall: Hall) -> None:
    hall.decoder = Decoder(SilentRegistry(failures=3))
    hall.topic.write(STREAM[:1])
    (message,) = [each for kept in hall.topic.messages.values() for each in kept if each is not None]
    confluent = b"\x00\x00\x00\x00\x07" + message.value()[10:]
    hall.topic = FakeTopic()
    hall.topic.write_raw(confluent)
    worker = hall.work()
    assert (worker.tally.events, worker.tally.undecodable) == (1, 0)
    assert hall.events_told().count("call failed; retrying") == 1
