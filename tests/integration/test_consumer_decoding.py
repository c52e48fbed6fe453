"""`run` and `retry` on a real Kafka, into SQLite: what they read through a registry, wait for, and keep undecodable."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

import schemas
from sandbox.servers.server import free_port
from tests.integration.run_place import STREAM, VERSIONS, Place, Running, place_maker
from tests.kit.event_stream import event_encoder
from tests.kit.waiting import until
from trekkpaalegg.exactly_once.worker import WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from producer.domain.trekkpaalegg import Publication
    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka

SCHEMA = schemas.load("trekkpaalegg_versjon")
UNKNOWN_ID = 4711


@pytest.fixture
def make_place(
    kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Iterator[Callable[..., Place]]:
    with place_maker(kafka, topic_prefix, tmp_path, monkeypatch, capfd) as make:
        yield make


@pytest.fixture
def place(make_place: Callable[..., Place]) -> Place:
    return make_place()


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


def write_with_schema_id(place: Place, publications: Sequence[Publication], schema_id: int) -> None:
    """In Confluent's wire format, with an id that no registry was asked for."""
    encoder = event_encoder(schema_id)
    for each in publications:
        encoded = encoder.encode(each)
        place.topics.write_raw(encoded.value, key=encoded.key, headers=encoded.headers)


def test_events_in_confluents_wire_format_are_read_through_the_registry(
    make_place: Callable[..., Place], registry: EmbeddedRegistry
) -> None:
    place = make_place(registry_url=registry.url)
    place.topics.write(STREAM)
    assert place.run()[0] == 0
    assert place.count("trekkpaalegg_versjon") == len(VERSIONS)


def test_a_required_registry_that_is_not_set_ends_it_with_a_message(place: Place) -> None:
    place.topics.write_raw(b"\x00\x00\x00\x00\x01rest")
    code, told = place.run()
    assert code == 1
    assert "set KAFKA_SCHEMA_REGISTRY" in told
    assert place.count("undecodable_message") == 0


def test_a_registry_that_is_down_is_waited_for_and_no_message_counts_as_undecodable(place: Place) -> None:
    port = free_port()
    place.topics.settings["KAFKA_SCHEMA_REGISTRY"] = f"http://127.0.0.1:{port}"
    write_with_schema_id(place, STREAM[:2], UNKNOWN_ID)
    with Running(place, WorkerOptions()) as running:
        until(lambda: running.has_told("no answer"), 30)
        with answering_registry(port, SCHEMA.canonical_json):
            until(lambda: place.count("trekkpaalegg_versjon") == 2, 30)
    assert (running.errors, place.count("undecodable_message")) == ([], 0)
    assert sum("call failed" in told for told in running.told) == 1


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


def test_too_many_undecodable_messages_stop_it_and_the_message_names_retry(place: Place) -> None:
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


def test_a_registered_schema_of_another_kind_is_undecodable(
    make_place: Callable[..., Place], registry: EmbeddedRegistry
) -> None:
    place = make_place(registry_url=registry.url)
    with SchemaRegistryClient({"url": registry.url}) as client:
        other = client.register_schema(f"{place.topics.prefix}-other", Schema('"string"', "AVRO"))
    place.topics.write_raw(b"\x00" + other.to_bytes(4, "big") + b"\x06abc")
    assert place.run()[0] == 0
    assert place.count("undecodable_message") == 1
