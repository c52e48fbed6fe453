"""What Kafka tells of partitions: why nothing can be written to them, with what to do."""

from __future__ import annotations

from producer.publish.availability import Replicas, standstill_of


def test_nothing_is_said_of_partitions_that_can_be_written_to():
    assert standstill_of([]) is None
    assert standstill_of([Replicas("versjoner", True, 2, 2), Replicas("positions", True, 1, 1)]) is None


def test_a_partition_with_too_few_replicas_is_told_once_a_topic_with_the_worst_of_it():
    partitions = [Replicas("versjoner", True, 2, 3), Replicas("versjoner", True, 1, 3), Replicas("signals", True, 3, 3)]
    told = standstill_of(partitions)
    assert told == (
        "versjoner accepts no writes with 1 replicas in sync, as its min.insync.replicas is 3: "
        "start the brokers that are down, or lower the setting"
    )


def test_a_partition_that_no_broker_leads_sends_to_the_disks():
    told = standstill_of([Replicas("positions", False, 1, 1), Replicas("gjeldende", False, 0, 2)])
    assert told is not None
    assert "no broker leads all of gjeldende, positions" in told
    assert "check the broker's disk" in told
