"""Offsets of partitions when the broker does not lead them yet, no longer leads them, or refuses the client."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException

import trekkpaalegg.kafka.admin
from trekkpaalegg.errors import FatalError, RefusedError, RetryableError, TrekkpaaleggError, UnknownTopicError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin

if TYPE_CHECKING:
    from collections.abc import Iterator


PLACE, OTHER = Partition("t", 2), Partition("u", 0)
END = 8
SECONDS_MAX = 0.2
PROPERTIES = {"sasl.username": "we"}


class Answers:
    """An admin client whose broker answers with these errors before it gives an offset."""

    def __init__(self, codes: Iterator[int]) -> None:
        self._codes = codes
        self.asked: list[list[str]] = []
        self.record: Any = None

    def list_topics(self, topic: str, timeout: float) -> str:  # noqa: ARG002 - as the real one
        return topic

    def list_offsets(self, wanted: dict[Any, Any], **_: object) -> dict[Any, Future[Any]]:
        self.asked.append([each.topic for each in wanted])
        return {each: self._answer(each.topic) for each in wanted}

    def _answer(self, topic: str) -> Future[Any]:
        answer: Future[Any] = Future()
        code = next(self._codes, None) if topic == "t" else None
        if code is None:
            answer.set_result(type("Found", (), {"offset": END}))
        else:
            answer.set_exception(KafkaException(KafkaError(code)))
        return answer

    def poll(self, seconds: float) -> None:
        assert seconds == 0, "nobody waits here"
        if self.record is not None:
            self.record(KafkaError(KafkaError.SASL_AUTHENTICATION_FAILED))


def ask(monkeypatch: pytest.MonkeyPatch, client: Answers, *partitions: Partition, **options: Any) -> Any:
    def create(_properties: object, reason: Any) -> Answers:
        if client.record is not None:
            client.record = reason.record
        return client

    monkeypatch.setattr(trekkpaalegg.kafka.admin, "create_admin_client", create)
    admin = Admin(PROPERTIES, seconds_max=SECONDS_MAX, **options)
    return admin.ends(partitions or (PLACE,), IsolationLevel.READ_COMMITTED)


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
def test_after_a_wrong_leader_only_missing_partitions_are_requested_again(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    client = Answers(iter([code, code]))
    assert ask(monkeypatch, client, PLACE, OTHER) == {PLACE: END, OTHER: END}
    assert client.asked == [["t", "u"], ["t"], ["t"]]


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            RefusedError,
            "READ on topic t; grant it: .*--producer-principal User:we",
        ),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, UnknownTopicError, "t: no such topic"),
        (KafkaError.INVALID_REQUEST, FatalError, "t cannot be read"),
    ],
)
def test_a_permanent_error_is_raised_at_once(
    monkeypatch: pytest.MonkeyPatch, code: int, kind: type[TrekkpaaleggError], words: str
) -> None:
    client = Answers(repeat(code))
    with pytest.raises(kind, match=words):
        ask(monkeypatch, client)
    assert len(client.asked) == 1


def test_a_partition_that_never_has_a_leader_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answers(repeat(KafkaError.NOT_LEADER_FOR_PARTITION))
    with pytest.raises(RetryableError, match="not ready"):
        ask(monkeypatch, client)
    assert len(client.asked) > 1


def test_a_login_that_every_broker_refuses_is_not_tried_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trekkpaalegg.kafka.admin, "REFUSED_SECONDS_MAX", 0.0)
    client = Answers(repeat(KafkaError._TRANSPORT))  # noqa: SLF001 - librdkafka's own
    client.record = True
    with pytest.raises(RefusedError):
        ask(monkeypatch, client)
    assert len(client.asked) == 1


def test_a_caller_that_gives_up_gets_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answers(repeat(KafkaError.LEADER_NOT_AVAILABLE))
    with pytest.raises(RetryableError, match="not ready"):
        ask(monkeypatch, client, gives_up=lambda: True)
    assert len(client.asked) == 1


def test_an_answer_that_does_not_come_is_not_waited_for_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answers(repeat(0))
    monkeypatch.setattr(client, "_answer", lambda _topic: Future())
    with pytest.raises(RetryableError, match="given up"):
        ask(monkeypatch, client, gives_up=lambda: True)


def test_silence_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    silences: list[None] = []
    client = Answers(iter([KafkaError._TIMED_OUT, KafkaError._TIMED_OUT]))  # noqa: SLF001 - librdkafka's own
    assert ask(monkeypatch, client, on_silence=lambda: silences.append(None)) == {PLACE: END}
    assert silences == [None]
