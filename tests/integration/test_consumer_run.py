"""`run` and `retry` on a real Kafka, into SQLite: what they apply, keep, refuse, wait for and say."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

import schemas
from consumers.cli import run_command
from consumers.commands.run import work
from consumers.settings import load_settings
from consumers.worker_options import WorkerOptions
from sandbox.event_stream import EventTopics, Roughness, event_encoder, make_stream
from sandbox.server import free_port
from sandbox.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from producer.domain.trekkpaalegg import Publication
    from sandbox.kafka import EmbeddedKafka
    from sandbox.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka

STREAM = make_stream(7, 60, roughness=Roughness(late=0.1, corrected=0.15))
VERSIONS = {(each.trekkpaalegg.trekkid, each.trekkpaalegg.trekkversjon) for each in STREAM}
SCHEMA = schemas.load("trekkpaalegg_versjon")
UNKNOWN_ID = 4711


class Place:
    """The topics of a prefix, a ledger file, and the program run in this process."""

    def __init__(self, topics: EventTopics, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
        self.topics = topics
        self.file = folder / "ledger.db"
        self.url = f"sqlite:///{self.file}"
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        for name, value in topics.settings.items():
            monkeypatch.setenv(name, value)

    def set(self, name: str, value: str) -> None:
        """A setting for what is run from now on."""
        self._monkeypatch.setenv(name, value)

    def command(self, name: str, *options: str) -> tuple[int, str]:
        """Exit code, and all that was printed and told."""
        self._capfd.readouterr()
        code = run_command([name, "--ledger", self.url, *options])
        return code, "".join(self._capfd.readouterr())

    def run(self, *options: str) -> tuple[int, str]:
        return self.command("run", "--until-end", *options)

    def count(self, table: str) -> int:
        (row,) = self.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of our own
        return row[0]

    def rows(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def make_place(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Iterator[Callable[..., Place]]:
    made: list[Place] = []

    def make(**options: Any) -> Place:
        topics = EventTopics(kafka.bootstrap_servers, topic_prefix, **options)
        made.append(Place(topics, tmp_path, monkeypatch, capfd))
        return made[-1]

    yield make
    for place in made:
        place.topics.close()


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


def test_events_in_confluents_wire_format_are_read_through_the_registry(
    make_place: Callable[..., Place], registry: EmbeddedRegistry
) -> None:
    place = make_place(registry_url=registry.url)
    place.topics.write(STREAM)
    assert place.run()[0] == 0
    assert place.count("trekkpaalegg_versjon") == len(VERSIONS)


def test_a_registry_that_is_needed_and_not_set_stops_it_with_words(place: Place) -> None:
    place.topics.write_raw(b"\x00\x00\x00\x00\x01rest")
    code, told = place.run()
    assert code == 1
    assert "set KAFKA_SCHEMA_REGISTRY" in told
    assert place.count("undecodable_message") == 0


@contextmanager
def answering_registry(port: int, schema: str | None) -> Iterator[None]:
    """A registry that knows this schema under every id, or none at all."""
    status, document = (200, {"schema": schema}) if schema else (404, {"error_code": 40403, "message": "not found"})

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Running:
    """`run` in a thread of its own."""

    def __init__(self, place: Place, options: WorkerOptions) -> None:
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        self.told: list[str] = []
        self._settings = load_settings(None, dict(place.topics.settings))
        self._arguments = (place.url, options)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        url, options = self._arguments
        try:
            work(self._settings, url, options, self.stopping, self._tell)
        except BaseException as error:  # noqa: BLE001 - kept for the test
            self.errors.append(error)

    def _tell(self, event: str, **details: object) -> None:
        self.told.append(f"{event} {details}")

    def has_told(self, words: str) -> bool:
        return any(words in told for told in self.told)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def write_with_schema_id(place: Place, publications: Sequence[Publication], schema_id: int) -> None:
    """In Confluent's wire format, with an id that no registry was asked for."""
    encoder = event_encoder(schema_id)
    for each in publications:
        encoded = encoder.encode(each)
        place.topics.write_raw(encoded.value, key=encoded.key, headers=encoded.headers)


def test_a_registry_that_is_down_is_waited_for_and_no_message_counts_as_undecodable(place: Place) -> None:
    port = free_port()
    place.topics.settings["KAFKA_SCHEMA_REGISTRY"] = f"http://127.0.0.1:{port}"
    write_with_schema_id(place, STREAM[:2], UNKNOWN_ID)
    with Running(place, WorkerOptions()) as running:
        until(lambda: running.has_told("no answer"), 30)
        with answering_registry(port, SCHEMA.canonical_json):
            until(lambda: place.count("trekkpaalegg_versjon") == 2, 30)
    assert (running.errors, place.count("undecodable_message")) == ([], 0)
    assert sum("in trouble" in told for told in running.told) == 1


def test_what_cannot_be_decoded_is_kept_with_its_place_and_applied_by_a_retry_after_the_fix(place: Place) -> None:
    write_with_schema_id(place, STREAM[:3], UNKNOWN_ID)
    place.topics.write_raw(b"junk", key=b"\xff\xfe", headers={"ce_late": b"true"})
    place.topics.write_raw(None, key=None)
    place.topics.write(STREAM[3:])
    port = free_port()
    place.set("KAFKA_SCHEMA_REGISTRY", f"http://127.0.0.1:{port}")
    with answering_registry(port, None):
        code, told = place.run()
        assert code == 0, told
        assert place.count("undecodable_message") == 5
        code, told = place.command("retry")
        assert (code, "0 applied, 5 remain" in told) == (1, True)
    with answering_registry(port, SCHEMA.canonical_json):
        code, told = place.command("retry")
    assert (code, "3 applied, 2 remain" in told) == (1, True), told
    assert place.count("trekkpaalegg_versjon") == len(VERSIONS)
    kept = place.rows('SELECT "key", value, headers FROM undecodable_message ORDER BY value')
    assert [(key, value) for key, value, _ in kept] == [(None, None), (b"\xff\xfe", b"junk")]
    assert json.loads(kept[1][2]) == {"ce_late": "true"}


def test_too_many_undecodable_messages_stop_it_and_the_word_tells_of_retry(place: Place) -> None:
    place.topics.write(STREAM[:5])
    for number in range(3):
        place.topics.write_raw(b"junk %d" % number)
    for _ in range(2):
        code, told = place.run("--undecodable-max", "2")
        assert code == 1
        assert "3 messages could not be decoded, more than --undecodable-max 2 allows" in told
        assert "trekkpaalegg-consumer retry" in told
    assert place.run("--undecodable-max", "3")[0] == 0
    assert place.command("retry")[0] == 1


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
def test_a_wrong_ledger_is_told_without_its_password(place: Place, url: str, code: int, words: str) -> None:
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


def test_a_kafka_that_is_silent_is_told_and_no_reason_to_ignore_the_word_to_stop(place: Place) -> None:
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


def test_a_registered_schema_of_another_kind_is_undecodable(
    make_place: Callable[..., Place], registry: EmbeddedRegistry
) -> None:
    place = make_place(registry_url=registry.url)
    with SchemaRegistryClient({"url": registry.url}) as client:
        other = client.register_schema(f"{place.topics.prefix}-other", Schema('"string"', "AVRO"))
    place.topics.write_raw(b"\x00" + other.to_bytes(4, "big") + b"\x06abc")
    assert place.run()[0] == 0
    assert place.count("undecodable_message") == 1
