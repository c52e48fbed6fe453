"""`run` on a real Kafka, into SQLite: what it applies, refuses, waits for and says."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.cli.main import run_command
from sandbox.servers.server import free_port
from tests.integration.run_place import STREAM, VERSIONS, Place, Running, place_maker
from tests.kit.event_stream import event_encoder
from tests.kit.waiting import until
from trekkpaalegg.exactly_once.worker import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sandbox.servers.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka


@pytest.fixture
def make_place(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Iterator[Callable[..., Place]]:
    with place_maker(kafka, topic_prefix, tmp_path, monkeypatch, capfd) as make:
        yield make


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place()


def test_everything_committed_is_applied_once_and_aborted_events_are_not(place: Place) -> None:
    place.topics.write(STREAM[:100])
    place.topics.write(STREAM[100:120], commits=False)
    place.topics.write(STREAM[100:])
    code, told = place.run()
    assert code == 0, told
    assert (place.count("trekkpaalegg"), place.count("trekkpaalegg_versjon")) == (60, len(VERSIONS))
    assert place.count("trekkpaalegg_conflict") == 0
    code, told = place.run()
    assert (code, json.loads(told.splitlines()[-1])["events"]) == (0, 0)
    assert place.count("trekkpaalegg_versjon") == len(VERSIONS)


def test_the_newest_versions_alone_are_kept_when_no_history_is_wanted(place: Place) -> None:
    place.topics.write(STREAM)
    assert place.run("--newest-only")[0] == 0
    newest = place.rows("SELECT trekkid, trekkversjon, correction FROM trekkpaalegg ORDER BY trekkid")
    assert (place.count("trekkpaalegg_versjon"), len(newest)) == (0, 60)
    assert place.count("trekkstoerrelse_for_periode") > 0
    place.url = place.url.replace("ledger", "other")
    place.file = place.file.with_name("other.db")
    assert place.run()[0] == 0
    assert place.rows("SELECT trekkid, trekkversjon, correction FROM trekkpaalegg ORDER BY trekkid") == newest


def test_a_topic_that_is_not_there_is_told_with_what_to_do(place: Place) -> None:
    place.set("TREKKPAALEGG_TOPIC_PREFIX", "nowhere")
    code, told = place.run()
    assert code == 1
    assert "nowhere-versjoner: no such topic; set TREKKPAALEGG_TOPIC_PREFIX" in told


def test_the_end_takes_in_a_transaction_that_is_still_open_at_the_start(place: Place) -> None:
    """What was committed a moment ago may look so: the broker marks its partitions one after another."""
    place.topics.write(STREAM[:3])
    encoded = event_encoder().encode(STREAM[3])
    producer = Producer({"bootstrap.servers": place.topics.bootstrap_servers, "transactional.id": place.topics.prefix})
    producer.init_transactions(20)
    producer.begin_transaction()
    headers: Any = encoded.headers
    producer.produce(place.topics.topics.versjoner, encoded.value, encoded.key, headers=headers)
    producer.flush(20)
    committing = threading.Timer(2.0, producer.commit_transaction)
    committing.start()
    code, told = place.run()
    committing.join()
    assert code == 0, told
    assert place.count("trekkpaalegg_versjon") == 4


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("mysql://u:hemmelig@h/d", 2, "postgresql://"),
        ("sqlite:///no/such/folder/ledger.db", 1, "folder"),
        ("postgresql://u:hemmelig@127.0.0.1:{port}/d", 1, "PostgreSQL 127.0.0.1"),
    ],
)
def test_a_wrong_ledger_is_reported_without_its_password(place: Place, url: str, code: int, words: str) -> None:
    place.url = url.format(port=free_port())
    ended, told = place.run()
    assert ended == code, told
    assert words in told
    assert "hemmelig" not in told


def test_no_ledger_given_is_wrong_usage_and_the_setting_serves_as_well_as_the_option(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    place.topics.write(STREAM[:3])
    assert run_command(["run", "--until-end"]) == 2
    assert "TREKKPAALEGG_LEDGER" in capfd.readouterr().err
    place.set("TREKKPAALEGG_LEDGER", place.url)
    assert run_command(["run", "--until-end"]) == 0
    assert place.count("trekkpaalegg_versjon") == 3


def delete_up_to(place: Place, offset: int) -> None:
    """Retention takes the beginning of the only partition away."""
    admin = AdminClient({"bootstrap.servers": place.topics.bootstrap_servers})
    partition = TopicPartition(place.topics.topics.versjoner, 0, offset)
    for deleted in admin.delete_records([partition]).values():
        deleted.result(30)


def test_a_ledger_whose_next_message_was_deleted_is_sent_to_replay(make_place: Callable[..., Place]) -> None:
    place = make_place(partitions=1)
    place.topics.write(STREAM[:10])
    assert place.run()[0] == 0
    place.topics.write(STREAM[10:])
    delete_up_to(place, 20)
    code, told = place.run()
    assert code == 1
    assert "no longer has offset 11" in told
    assert "trekkpaalegg-consumer replay" in told


def test_a_new_ledger_begins_where_the_topic_now_does_and_says_so(make_place: Callable[..., Place]) -> None:
    place = make_place(partitions=1)
    place.topics.write(STREAM)
    delete_up_to(place, 20)
    code, told = place.run()
    assert code == 0, told
    assert "no longer has its beginning" in told
    assert place.count("trekkpaalegg_versjon") == len(
        {(each.trekkpaalegg.trekkid, each.trekkpaalegg.trekkversjon) for each in STREAM[20:]}
    )


def test_a_silent_kafka_is_reported_and_does_not_prevent_stopping(place: Place) -> None:
    place.topics.settings["KAFKA_BROKERS"] = f"127.0.0.1:{free_port()}"
    with Running(place, WorkerOptions()) as running:
        until(lambda: running.has_told("Kafka does not answer"), 30)
    assert running.errors == []


def test_progress_is_shown_to_the_group_named_after_the_ledger(place: Place) -> None:
    place.topics.write(STREAM)
    assert place.run()[0] == 0
    ((ledger,),) = place.rows("SELECT id FROM ledger")
    admin = AdminClient({"bootstrap.servers": place.topics.bootstrap_servers})
    group = ConsumerGroupTopicPartitions(f"trekkpaalegg-consumer-{ledger}")
    (found,) = admin.list_consumer_group_offsets([group]).values()
    shown = {each.partition: each.offset for each in found.result(30).topic_partitions}
    assert shown == dict(place.rows('SELECT "partition", next_offset FROM ledger_offset'))
