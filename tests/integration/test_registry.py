"""The registry adapter against a real Apicurio: what it registers, what it refuses, and how failures are told."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

import schemas
from producer.domain.trekkpaalegg import Betalingsinformasjon, Trekkpaalegg, Trekkstatus, TrekkstoerrelseForPeriode
from producer.encode.avro import compile_encoder, confluent_prefix
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import FatalError, RetryableError, UndecodableError
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.registry import SchemaRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.servers.registry import EmbeddedRegistry

CURRENT = schemas.load("trekkpaalegg_versjon")

VERSION = Trekkpaalegg(
    trekkid="10001",
    trekkversjon=1,
    sekvensnummer=1,
    opprettet=1_767_225_600_000_000,
    saksnummer=None,
    trekkpliktig="314150260",
    skyldner=Foedselsnummer("12345678901"),
    trekkstatus=Trekkstatus.AKTIV,
    trekkstoerrelse_for_periode=(TrekkstoerrelseForPeriode(date(2026, 1, 1), None, Decimal("5000.50"), None),),
    betalingsinformasjon=Betalingsinformasjon("971648198", "1234567", "76940512057"),
)


def changed(change: Callable[[list[dict[str, Any]]], object]) -> schemas.Schema:
    declared = json.loads(CURRENT.canonical_json)
    change(declared["fields"])
    return schemas.parse(CURRENT.name, json.dumps(declared))


def set_type(name: str, kind: object) -> Callable[[list[dict[str, Any]]], object]:
    return lambda fields: next(field for field in fields if field["name"] == name).update(type=kind)


OTHER_LOGICAL_TYPE = changed(set_type("opprettet", {"type": "long", "logicalType": "timestamp-millis"}))
OTHER_TYPE = changed(set_type("trekkversjon", "string"))
NEW_FIELD = changed(lambda fields: fields.append({"name": "ny", "type": ["null", "string"], "default": None}))


@pytest.fixture
def client(registry: EmbeddedRegistry) -> Iterator[SchemaRegistry]:
    adapter = SchemaRegistry(registry.url)
    yield adapter
    adapter.close()


@pytest.fixture
def plain(registry: EmbeddedRegistry) -> Iterator[SchemaRegistryClient]:
    """An unrelated client, to see what stands in the registry."""
    with SchemaRegistryClient({"url": registry.url}) as unrelated:
        yield unrelated


@pytest.fixture
def subject(topic_prefix: str) -> str:
    return f"{topic_prefix}-versjoner-value"


def test_a_registered_schema_is_found_by_its_id(
    client: SchemaRegistry, plain: SchemaRegistryClient, subject: str
) -> None:
    schema_id = client.register(subject, CURRENT)
    assert json.loads(plain.get_schema(schema_id).schema_str) == json.loads(CURRENT.canonical_json)
    assert client.register(subject, CURRENT) == schema_id
    assert plain.get_versions(subject) == [1]


def test_same_schema_has_one_id_under_all_subjects(client: SchemaRegistry, topic_prefix: str) -> None:
    """The same bytes go to two topics, so both subjects must give the same id."""
    subjects = [f"{topic_prefix}-{topic}-value" for topic in ("versjoner", "gjeldende")]
    assert len({client.register(subject, CURRENT) for subject in subjects}) == 1


def test_subject_is_set_to_full_transitive(client: SchemaRegistry, plain: SchemaRegistryClient, subject: str) -> None:
    client.register(subject, CURRENT)
    assert plain.get_config(subject).compatibility_level == "FULL_TRANSITIVE"


def test_compatible_schema_becomes_the_next_version(
    client: SchemaRegistry, plain: SchemaRegistryClient, subject: str
) -> None:
    first = client.register(subject, CURRENT)
    assert client.check(subject, NEW_FIELD) == []
    assert client.register(subject, NEW_FIELD) != first
    assert plain.get_versions(subject) == [1, 2]
    assert client.register(subject, CURRENT) == first


def test_check_of_an_unknown_subject_finds_nothing_and_creates_nothing(
    client: SchemaRegistry, plain: SchemaRegistryClient, subject: str
) -> None:
    assert client.check(subject, CURRENT) == []
    assert subject not in plain.get_subjects()


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (OTHER_TYPE, "Version 1: trekkversjon: the type changed from long to string."),
        (
            OTHER_LOGICAL_TYPE,
            "Version 1: opprettet: the logical type changed from timestamp-micros to timestamp-millis.",
        ),
    ],
    ids=["type", "logical type, which the registry lets through"],
)
def test_incompatible_schema_is_refused_with_the_reason(
    client: SchemaRegistry, plain: SchemaRegistryClient, subject: str, other: schemas.Schema, sentence: str
) -> None:
    client.register(subject, CURRENT)
    assert client.check(subject, other) == [sentence]
    with pytest.raises(FatalError, match=r"schemas/README\.md") as refusal:
        client.register(subject, other)
    assert sentence in str(refusal.value)
    assert plain.get_versions(subject) == [1]


def test_event_is_read_through_the_registry_by_our_reader_and_by_an_ordinary_one(
    client: SchemaRegistry, plain: SchemaRegistryClient, registry: EmbeddedRegistry, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}-versjoner"
    value = compile_encoder(CURRENT, confluent_prefix(client.register(f"{topic}-value", CURRENT)))(VERSION)

    # Without the strategy's name it would ask an address that Apicurio does not have, and at times leaves unanswered.
    deserialize = AvroDeserializer(plain, conf={"subject.name.strategy": topic_subject_name_strategy})
    ordinary = deserialize(value, SerializationContext(topic, MessageField.VALUE))
    assert ordinary["skyldner"] == "12345678901"
    assert ordinary["opprettet"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert ordinary["trekkstoerrelse_for_periode"][0]["trekkbeloep"] == Decimal("5000.50")

    source = SchemaRegistry(registry.url)
    event = Decoder(source).decode_trekkpaalegg_versjon(value)
    source.close()
    assert event.skyldner.reveal() == "12345678901"
    assert event.trekkstoerrelse_for_periode[0].trekkbeloep == Decimal("5000.50")


def test_reader_tells_an_unknown_id_from_a_registry_out_of_reach(
    registry: EmbeddedRegistry, unused_address: str
) -> None:
    source, lost = SchemaRegistry(registry.url), SchemaRegistry(unused_address)
    with pytest.raises(UndecodableError, match="knows no schema with id 999999"):
        source.fetch_schema(999_999)
    with pytest.raises(RetryableError, match="no answer"):
        lost.fetch_schema(1)
    source.close()
    lost.close()


def test_registry_out_of_reach_is_worth_a_retry(unused_address: str) -> None:
    adapter = SchemaRegistry(unused_address)
    with pytest.raises(RetryableError, match="no answer from"):
        adapter.register("x-value", CURRENT)
    with pytest.raises(RetryableError, match="no answer from"):
        adapter.check("x-value", CURRENT)
    adapter.close()


def test_wrong_path_is_fatal_and_names_the_setting(registry: EmbeddedRegistry) -> None:
    adapter = SchemaRegistry(registry.url.removesuffix("/v7"))
    with pytest.raises(FatalError, match=r"KAFKA_SCHEMA_REGISTRY.*/apis/ccompat/v7"):
        adapter.register("x-value", CURRENT)
    adapter.close()


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, b"{}", FatalError, "KAFKA_SCHEMA_REGISTRY_USER"),
        (403, b"<html>", FatalError, "KAFKA_SCHEMA_REGISTRY_USER"),
        (409, b'{"error_code": 409, "message": "reader has no default"}', FatalError, "reader has no default"),
        (422, b'{"error_code": 42201, "message": "no schema"}', FatalError, "no schema"),
        (200, b"<html>Welcome</html>", FatalError, "no schema registry at"),
        (418, b"", FatalError, "answered 418"),
        (429, b"{}", RetryableError, "answered 429"),
        (503, b"", RetryableError, "answered 503"),
    ],
)
def test_an_answer_decides_what_to_do(
    serve: Callable[[int, bytes], str], status: int, body: bytes, error: type[Exception], words: str
) -> None:
    adapter = SchemaRegistry(serve(status, body), "user", "secret")
    with pytest.raises(error, match=words) as failure:
        adapter.register("x-value", CURRENT)
    assert "secret" not in str(failure.value)
    adapter.close()


@pytest.fixture
def serve() -> Iterator[Callable[[int, bytes], str]]:
    """A server that gives one answer to everything: (status, body) → its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class OneAnswer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_POST = do_GET  # noqa: N815 - named by http.server

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), OneAnswer)
        servers.append(server)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def unused_address() -> str:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"
