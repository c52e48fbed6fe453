"""What a lane's producer is told: the user's properties count, save those that the guarantee rests on."""

from __future__ import annotations

from producer.publish.kafka import producer_properties


def made(**given):
    properties = {name.replace("_", "."): value for name, value in given.items()}
    return producer_properties(properties, "app-3", 1_000_000)


def test_what_the_guarantee_rests_on_is_not_the_users_to_say():
    told = made(transactional_id="other", partitioner="consistent", transaction_timeout_ms="1")
    assert (told["transactional.id"], told["partitioner"]) == ("app-3", "murmur2_random")
    assert told["transaction.timeout.ms"] == "15000"


def test_a_transaction_that_begins_right_after_another_asks_again_sooner_than_librdkafka_would_unless_the_user_says():
    """Kafka refuses the offsets of the next until the markers of the one before are written, some milliseconds."""
    librdkafka_milliseconds = 100
    assert 0 < int(made()["retry.backoff.ms"]) <= librdkafka_milliseconds / 10
    assert made(retry_backoff_ms="250")["retry.backoff.ms"] == "250"
