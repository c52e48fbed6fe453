"""`trekkpaalegg-consumer tail` on a real Kafka and a real registry; as a program where signals and pipes matter."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING
from unittest.mock import patch

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

import schemas
from consumers.cli.main import run_command
from producer.domain import trekkpaalegg as domain
from producer.encode.avro import compile_encoder, confluent_prefix, single_object_prefix
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry
    from tests.kit.servers.proxy import KafkaProxy

pytestmark = pytest.mark.kafka

DEADLINE_SECONDS = 180
CURRENT = schemas.load("trekkpaalegg_versjon")
VERSION = domain.Trekkpaalegg(
    trekkid="10001",
    trekkversjon=1,
    sekvensnummer=38,
    opprettet=1_754_751_600_000_000,
    saksnummer=None,
    trekkpliktig="314150260",
    skyldner=Foedselsnummer("12928312345"),
    trekkstatus=domain.Trekkstatus.AKTIV,
    trekkstoerrelse_for_periode=(domain.TrekkstoerrelseForPeriode(date(2026, 1, 1), None, None, Decimal(12)),),
    betalingsinformasjon=domain.Betalingsinformasjon("971648198", "1234567", "76940512057"),
)


class Topic:
    """A topic under a prefix of its own, written to in transactions, and the program that reads it."""

    def __init__(self, bootstrap_servers: str, prefix: str) -> None:
        self.name = f"{prefix}-versjoner"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TREKKPAALEGG_", "KAFKA_"))},
            "KAFKA_BROKERS": bootstrap_servers,
            "TREKKPAALEGG_TOPIC_PREFIX": prefix,
        }
        self.encode = compile_encoder(CURRENT, single_object_prefix(CURRENT.fingerprint))
        self._started: list[subprocess.Popen[str]] = []
        new = NewTopic(self.name, num_partitions=3, replication_factor=1)
        admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        admin.create_topics([new])[self.name].result(30)
        self.producer = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": prefix})
        self.producer.init_transactions(30)

    def write(self, *versions: domain.Trekkpaalegg | bytes | None, commits: bool = True) -> None:
        """One transaction; raw bytes go in as they are."""
        self.producer.begin_transaction()
        for each in versions:
            value = self.encode(each) if isinstance(each, domain.Trekkpaalegg) else each
            key = each.trekkid if isinstance(each, domain.Trekkpaalegg) else "?"
            self.producer.produce(self.name, value, key, headers=[("ce_origin", b"poll")])
        if commits:
            self.producer.commit_transaction(30)
        else:
            self.producer.flush(30)
            self.producer.abort_transaction(30)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """The program, once it has begun to read."""
        command = [sys.executable, "-m", "consumers", "tail", *options]
        process = subprocess.Popen(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._started.append(process)
        assert process.stderr is not None
        assert "reading" in process.stderr.readline()
        return process

    def tail(self, *options: str) -> tuple[int, list[str], list[str]]:
        """Run in this process: exit code, lines printed, lines told."""
        printed, told = io.StringIO(), io.StringIO()
        with patch.dict(os.environ, self.environment, clear=True), redirect_stdout(printed), redirect_stderr(told):
            code = run_command(["tail", *options])
        return code, printed.getvalue().splitlines(), told.getvalue().splitlines()

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


def numbered(*numbers: int) -> list[domain.Trekkpaalegg]:
    return [msgspec.structs.replace(VERSION, trekkid=f"1000{number}") for number in numbers]


@pytest.fixture
def topic(kafka: EmbeddedKafka, topic_prefix: str) -> Iterator[Topic]:
    made = Topic(kafka.bootstrap_servers, topic_prefix)
    yield made
    made.close()


def test_committed_events_are_shown_masked_and_aborted_ones_are_not(topic: Topic) -> None:
    topic.write(*numbered(1, 2))
    topic.write(*numbered(3), commits=False)
    topic.write(*numbered(4))
    code, lines, told = topic.tail("--from-beginning", "--until-end")
    assert code == 0
    assert sorted(lines) == [
        f"314150260 1000{number}     v1  aktiv     *** poll      2026-01-01: 12 %" for number in (1, 2, 4)
    ]
    assert told[-1] == "trekkpaalegg-consumer: 3 shown of 3 read"


def test_events_behind_an_open_transaction_are_not_waited_for(topic: Topic, kafka: EmbeddedKafka) -> None:
    topic.write(*numbered(1))
    hanging = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"{topic.name}-hangs"})
    hanging.init_transactions(30)
    hanging.begin_transaction()
    hanging.produce(topic.name, topic.encode(VERSION), "hanging")
    hanging.flush(30)
    topic.write(*numbered(1, 2, 3, 4, 5, 6, 7, 8))
    code, lines, _ = topic.tail("--from-beginning", "--until-end")
    hanging.abort_transaction(30)
    assert code == 0
    assert 1 <= len(lines) < 9
    _, lines, _ = topic.tail("--from-beginning", "--until-end")
    assert len(lines) == 9


def test_undecodable_messages_are_shown_with_their_place_and_counted(topic: Topic) -> None:
    topic.write(*numbered(1), b"\xc3\x01junk", None, b'{"skyldner":"12928312345"}', *numbered(2))
    code, lines, told = topic.tail("--from-beginning", "--until-end")
    assert code == 0
    assert len(lines) == 5
    undecodable = [line for line in lines if line.startswith("undecodable")]
    assert len(undecodable) == 3
    assert all(re.match(rf"undecodable {topic.name}/\d/\d: \S", line) for line in undecodable)
    assert not re.search(r"\d{11}", "\n".join(lines))
    assert told[-1].endswith("2 shown of 5 read; 3 could not be decoded")


def test_filters_hold_and_json_is_masked(topic: Topic) -> None:
    ended = msgspec.structs.replace(VERSION, trekkid="20001", trekkstatus=domain.Trekkstatus.AVSLUTTET)
    other = msgspec.structs.replace(VERSION, trekkid="20002", trekkpliktig="310000003")
    topic.write(*numbered(1, 2), ended, other)
    code, lines, _ = topic.tail("--from-beginning", "--until-end", "--json", "--status", "avsluttet")
    assert code == 0
    (document,) = map(json.loads, lines)
    assert (document["event"]["trekkid"], document["event"]["skyldner"]) == ("20001", "***********")
    _, lines, _ = topic.tail("--from-beginning", "--until-end", "--trekkpliktig", "310000003")
    assert [line.split()[1] for line in lines] == ["20002"]
    _, lines, _ = topic.tail("--from-beginning", "--until-end", "--trekkid", "10001", "--trekkid", "10002")
    assert sorted(line.split()[1] for line in lines) == ["10001", "10002"]
    _, lines, _ = topic.tail("--from-beginning", "--until-end", "--max", "1")
    assert len(lines) == 1


def test_only_what_comes_after_the_start_is_shown_by_default(topic: Topic) -> None:
    topic.write(*numbered(1))
    process = topic.start("--max", "2")
    topic.write(*numbered(2))
    topic.write(*numbered(3))
    printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    assert [line.split()[1] for line in printed.splitlines()] == ["10002", "10003"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_viewer_exits_with_0(topic: Topic, ending: signal.Signals) -> None:
    process = topic.start()
    topic.write(*numbered(1))
    assert process.stdout is not None
    assert process.stdout.readline(), "shown at once, not when a buffer is full"
    process.send_signal(ending)
    _, told = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, told
    assert told == "trekkpaalegg-consumer: 1 shown of 1 read\n"


def test_stopping_before_the_requested_events_came_exits_with_4(topic: Topic) -> None:
    process = topic.start("--max", "1")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 4
    assert told.endswith("trekkpaalegg-consumer: stopped by a signal before it was done\n")


def test_a_reader_that_has_seen_enough_ends_it_without_complaint(topic: Topic) -> None:
    topic.write(*numbered(1))
    process = topic.start("--from-beginning")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    topic.write(*numbered(2))
    assert process.wait(DEADLINE_SECONDS) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_a_topic_that_is_not_there_is_told_with_what_to_do(topic: Topic) -> None:
    topic.environment["TREKKPAALEGG_TOPIC_PREFIX"] = "nowhere"
    code, lines, told = topic.tail("--until-end")
    assert (code, lines) == (1, [])
    assert len(told) == 1
    assert told[0].startswith("trekkpaalegg-consumer: nowhere-versjoner: no such topic; set TREKKPAALEGG_TOPIC_PREFIX")


def test_events_written_through_the_registry_are_read_through_it(topic: Topic, registry: EmbeddedRegistry) -> None:
    with SchemaRegistryClient({"url": registry.url}) as client:
        schema_id = client.register_schema(f"{topic.name}-value", Schema(CURRENT.canonical_json, "AVRO"))
    topic.encode = compile_encoder(CURRENT, confluent_prefix(schema_id))
    topic.write(*numbered(1))
    code, _, told = topic.tail("--from-beginning", "--until-end")
    assert code == 1
    assert "set KAFKA_SCHEMA_REGISTRY" in told[-1]
    topic.environment["KAFKA_SCHEMA_REGISTRY"] = registry.url
    code, lines, _ = topic.tail("--from-beginning", "--until-end")
    assert (code, len(lines)) == (0, 1)


def test_a_broker_that_goes_and_comes_back_is_waited_for(proxied_kafka: KafkaProxy, topic_prefix: str) -> None:
    topic = Topic(proxied_kafka.bootstrap_servers, topic_prefix)
    try:
        process = topic.start("--max", "1")
        assert process.stderr is not None
        proxied_kafka.go_down()
        assert "Kafka does not answer" in process.stderr.readline()
        proxied_kafka.come_up()
        topic.write(*numbered(1))
        printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert (process.returncode, len(printed.splitlines())) == (0, 1)
    finally:
        topic.close()
