"""Where a partition begins and ends, asked of a broker that does not lead it yet, or not any more."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, NoReturn

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

import consumers.stream.partitions
from consumers.stream.partitions import answered, watermarks_of
from producer.publish.reader import end_of
from trekkpaalegg.kafka.diagnosis import LastReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN, END = 3, 8
REFUSED = KafkaError.TOPIC_AUTHORIZATION_FAILED
SECONDS_MAX = 0.2


class Asked:
    """A client whose broker answers with these errors before it tells."""

    def __init__(self, codes: Iterator[int]) -> None:
        self._codes = codes
        self.calls = 0
        self.polls = 0

    def get_watermark_offsets(self, place: TopicPartition, *, timeout: float) -> tuple[int, int]:
        assert (place.topic, place.partition) == ("t", 2)
        assert timeout > 0
        self.calls += 1
        for code in self._codes:
            raise KafkaException(KafkaError(code))
        return BEGIN, END

    def poll(self, seconds: float) -> None:
        assert seconds == 0, "nobody waits here"
        self.polls += 1


def consumers_end(client: Asked) -> int:
    low, end = watermarks_of(client, "t", 2, LastReason())  # type: ignore[arg-type]  # it is asked for no more
    assert low == BEGIN
    return end


def producers_end(client: Asked) -> int:
    return end_of(client, "t", 2, SECONDS_MAX)  # type: ignore[arg-type]  # as above


ends = pytest.mark.parametrize("find_end", [consumers_end, producers_end])


@ends
@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - librdkafka's own
    ],
)
def test_a_broker_that_does_not_lead_is_asked_again(find_end: Callable[[Asked], int], code: int) -> None:
    client = Asked(iter([code, code]))
    assert find_end(client) == END
    assert client.calls == 3


@ends
def test_one_that_refuses_is_not(find_end: Callable[[Asked], int]) -> None:
    client = Asked(repeat(REFUSED))
    with pytest.raises(KafkaException) as told:
        find_end(client)
    assert told.value.args[0].code() == REFUSED
    assert client.calls == 1


@ends
def test_one_that_never_leads_is_given_up(find_end: Callable[[Asked], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers.stream.partitions, "CALL_SECONDS_MAX", SECONDS_MAX)
    client = Asked(repeat(KafkaError.NOT_LEADER_FOR_PARTITION))
    with pytest.raises(KafkaException):
        find_end(client)
    assert client.calls > 1


def test_librdkafka_is_let_tell_its_reasons_and_a_refusal_ends_the_asking() -> None:
    reason = LastReason()

    class Refused(Asked):
        def poll(self, seconds: float) -> None:
            super().poll(seconds)
            reason.record(KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED))

    client = Refused(repeat(KafkaError._TRANSPORT))  # noqa: SLF001 - librdkafka's own
    with pytest.raises(KafkaException):
        watermarks_of(client, "t", 2, reason)  # type: ignore[arg-type]  # as above
    assert (client.calls, client.polls) == (1, 1)


def test_who_waits_no_longer_is_told_the_error() -> None:
    def call(_: float) -> NoReturn:
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))

    with pytest.raises(KafkaException):
        answered(call, lambda: False, SECONDS_MAX)
