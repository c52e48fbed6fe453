"""Why Kafka accepts nothing: from what it says of partitions to the errors of a publisher."""

from __future__ import annotations

import pytest

from producer.errors import LaneFencedError, OutcomeUnknownError
from producer.publish.availability import ExplainedPublisher, Replicas, standstill_of
from tests.kit.fakes.publisher import FakeKafka, Fault
from trekkpaalegg.errors import RefusedError, RetryableError

# Errors of a publisher keep their type, and say why Kafka accepts nothing if there is a reason
FULL = "check the broker's disk"


class Failing:
    """A publisher that raises the given error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def acquire(self, is_stopping: object = None) -> None:  # noqa: ARG002 - the port gives it
        raise self.error

    def publish(self, records: object, signal_offset: int) -> None:  # noqa: ARG002 - as above
        raise self.error

    def close(self) -> None:
        pass


def never() -> str | None:
    pytest.fail("there is nothing to ask Kafka about")


def test_success_is_passed_on_without_asking_kafka():
    kafka = FakeKafka()
    publisher = ExplainedPublisher(kafka.publisher(), never)
    publisher.acquire()
    publisher.publish([], 7)
    assert kafka.signal_offset(0) == 7


def test_an_unknown_outcome_gets_the_reason_and_stays_one():
    kafka = FakeKafka()
    publisher = ExplainedPublisher(kafka.publisher(), lambda: FULL)
    publisher.acquire()
    kafka.fail(Fault.COMMIT_LOST, 0)
    with pytest.raises(OutcomeUnknownError, match=FULL):
        publisher.publish([], 1)


def test_a_lane_that_cannot_be_acquired_gets_the_reason_and_without_one_its_own_words():
    error = RetryableError("lane 0 cannot be taken: _TIMED_OUT", retry_after_seconds=3.0)
    with pytest.raises(RetryableError, match=f"_TIMED_OUT: {FULL}") as raised:
        ExplainedPublisher(Failing(error), lambda: FULL).acquire()
    assert raised.value.retry_after_seconds == 3.0
    with pytest.raises(RetryableError, match=r"_TIMED_OUT$"):
        ExplainedPublisher(Failing(error), lambda: None).acquire()


@pytest.mark.parametrize("error", [LaneFencedError("another"), RefusedError("WRITE on topic t")])
def test_an_error_that_explains_itself_is_not_changed(error):
    publisher = ExplainedPublisher(Failing(error), never)
    with pytest.raises(type(error)) as raised:
        publisher.acquire()
    assert raised.value is error


def test_one_that_is_to_stop_does_not_ask():
    publisher = ExplainedPublisher(Failing(RetryableError("left")), never)
    with pytest.raises(RetryableError, match="left"):
        publisher.acquire(lambda: True)


# Why nothing can be written to partitions, from their replicas, and what to do


def test_nothing_is_said_of_partitions_that_can_be_written_to():
    assert standstill_of([]) is None
    assert standstill_of([Replicas("versjoner", True, 2, 2), Replicas("positions", True, 1, 1)]) is None


def test_a_partition_with_too_few_replicas_is_reported_once_a_topic_with_the_worst_of_it():
    partitions = [Replicas("versjoner", True, 2, 3), Replicas("versjoner", True, 1, 3), Replicas("signals", True, 3, 3)]
    told = standstill_of(partitions)
    assert told == (
        "versjoner accepts no writes with 1 replicas in sync, as its min.insync.replicas is 3: "
        "start the brokers that are down, or lower the setting"
    )


def test_a_partition_without_a_leader_points_to_the_brokers_disks():
    told = standstill_of([Replicas("positions", False, 1, 1), Replicas("gjeldende", False, 0, 2)])
    assert told is not None
    assert "no broker leads all of gjeldende, positions" in told
    assert "check the broker's disk" in told
