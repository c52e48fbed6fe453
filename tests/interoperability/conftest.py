"""The documents as strangers read them, by their YAML alone; and a stream that was published for strangers to read."""

from __future__ import annotations

import json
import logging
import uuid
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
import yaml
from confluent_kafka import Producer
from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from producer.publish.topics import Topics
from sandbox.control.world import OutsideWorld
from sandbox.demo.proof import read_committed
from sandbox.skatteetaten.wire import EVERY_SHAPE
from tests.kit.processes import ForkedProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry

SCHEMAS = Path(__file__).parents[2] / "schemas"
COMMAND_SECONDS_MAX = 90.0
LANES = 3


class AsyncapiDocument:
    """The AsyncAPI document. `raw` is the YAML itself."""

    def __init__(self, file: Path) -> None:
        self.raw: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        self._folder = file.parent
        resource = Resource(contents=self.raw, specification=DRAFT7)
        self._registry = Registry().with_resource("urn:asyncapi", resource)

    def at(self, pointer: str) -> Any:
        """What stands there, references followed."""
        found: Any = self.raw
        for part in pointer.removeprefix("#/").split("/"):
            found = self._followed(found)
            found = found[int(part)] if isinstance(found, list) else found[part]
        return self._followed(found)

    def _followed(self, found: Any) -> Any:
        return self.at(found["$ref"]) if isinstance(found, dict) and "$ref" in found else found

    def messages(self, channel: str) -> dict[str, str]:
        """Name → pointer of every message of a channel."""
        return {
            name: message["$ref"].removeprefix("#/")
            for name, message in self.raw["channels"][channel]["messages"].items()
        }

    def json_faults(self, pointer: str, value: Any) -> list[str]:
        """Why `value` does not fit the JSON schema at that pointer."""
        schema = {"$ref": f"urn:asyncapi#/{pointer}"}
        validator = Draft7Validator(schema, registry=self._registry, format_checker=FormatChecker())
        return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(value)]

    def header_names(self, pointer: str) -> dict[str, bool]:
        """Every header that the schema at that pointer names → whether it must be there."""
        schema = self.at(pointer)
        names: dict[str, bool] = {}
        for number in range(len(schema.get("allOf", []))):
            for name, required in self.header_names(f"{pointer}/allOf/{number}").items():
                names[name] = names.get(name, False) or required
        for name, value in schema.get("properties", {}).items():
            if value is False:
                names.pop(name, None)
            else:
                names.setdefault(name, False)
        return names | dict.fromkeys(schema.get("required", []), True)

    def avro(self, message: str) -> Any:
        """The parsed Avro schema of a message's payload; None where it has none."""
        payload = self.at(message).get("payload", {})
        if "schemaFormat" not in payload:
            return None
        return fastavro.parse_schema(json.loads((self._folder / payload["schema"]["$ref"]).read_text(encoding="utf-8")))

    def framing(self, value: bytes) -> tuple[str, bytes, bytes]:
        """Encoding, id of the schema and Avro bytes of a value, by the first byte as the document tells it."""
        for name, encoding in self.raw["x-encodings"].items():
            marker = bytes.fromhex(encoding["marker"])
            if value.startswith(marker):
                begin = len(marker) + encoding["schemaIdBytes"]
                return name, value[len(marker) : begin], value[begin:]
        pytest.fail(f"in no encoding that the document knows: {value[:2].hex()}")

    def message_faults(self, message: str, key: bytes, value: bytes | None, headers: dict[str, str]) -> list[str]:
        """Why a record is not this message of the document; nothing when it is."""
        faults = [f"key: {each}" for each in self.json_faults(f"{message}/bindings/kafka/key", key.decode())]
        named = self.header_names(f"{message}/headers") if "headers" in self.at(message) else {}
        faults += [f"header {name} is not in the document" for name in headers if name not in named]
        if named:
            faults += [f"header {each}" for each in self.json_faults(f"{message}/headers", headers)]
        schema = self.avro(message)
        if schema is None:
            return faults + self.json_faults(f"{message}/payload", value)
        if value is None:
            return [*faults, "it has no value"]
        return faults + _avro_faults(schema, self.framing(value)[2])


def _avro_faults(schema: Any, body: bytes) -> list[str]:
    """Why the bytes are not one whole record of this schema, which written again gives the same bytes."""
    buffer = BytesIO(body)
    try:
        datum = fastavro.schemaless_reader(buffer, schema, None)
    except (ValueError, EOFError, KeyError, IndexError, TypeError, ArithmeticError) as error:
        return [f"value: {type(error).__name__}"]
    again = BytesIO()
    fastavro.schemaless_writer(again, schema, datum)
    return [] if buffer.tell() == len(body) and again.getvalue() == body else ["value: other bytes when written again"]


@pytest.fixture(scope="session")
def asyncapi() -> AsyncapiDocument:
    return AsyncapiDocument(SCHEMAS / "asyncapi.yaml")


@pytest.fixture(scope="session")
def read_yaml() -> Callable[[str], Any]:
    """A document of `schemas/` by its file name."""
    return lambda name: yaml.safe_load((SCHEMAS / name).read_text(encoding="utf-8"))


class PublishedStream:
    """One prefix on a broker, filled by the producer's own commands with records of every kind."""

    def __init__(self, outside: OutsideWorld, bootstrap_servers: str, registry_url: str | None, folder: Path) -> None:
        self.outside = outside
        self.bootstrap_servers = bootstrap_servers
        self.registry_url = registry_url
        self.prefix = f"test-{uuid.uuid4().hex[:12]}"
        self.topics = Topics.of(self.prefix)
        self.employers = [*outside.generate(2, 12, seed=3, shape=EVERY_SHAPE), outside.load_examples()]
        self._folder = folder

    def command(self, *arguments: str) -> None:
        """One command of the producer, which must go well."""
        settings: Mapping[str, str] = {
            **self.outside.environment(self.employers),
            "KAFKA_BROKERS": self.bootstrap_servers,
            "TREKKPAALEGG_TOPIC_PREFIX": self.prefix,
            "TREKKPAALEGG_APPLICATION_ID": self.prefix,
            "TREKKPAALEGG_OVERLAP_SEKVENSNUMMER": "0",
            **({"KAFKA_SCHEMA_REGISTRY": self.registry_url} if self.registry_url else {}),
        }
        process = ForkedProducer(arguments, settings, self._folder / "producer.log")
        try:
            assert process.wait(COMMAND_SECONDS_MAX) == 0, process.last_lines()
        finally:
            process.kill()

    def messages(self, channel: str) -> list[Any]:
        """All records of a channel of the document, read committed."""
        return read_committed(self.bootstrap_servers, getattr(self.topics, channel))

    def fill(self) -> None:
        """Polled, fetched by number, late, found by comparing, corrected, rejected, released and forgotten."""
        source = self.outside.skatteetaten
        first, second = self.employers[:2]
        gapped, holed, ended, changed = (source.create(first).trekkid for _ in range(4))
        hidden = source.create(first, visible=False).trekkid
        source.create(first, {"trekkid": "ordre/æ ø", "trekkstatus": "pausert", "nyttFelt": {"a": [1, None]}})
        self.command("topics", "apply", "--partitions", str(LANES))
        self.command("once")
        for trekkid in (gapped, holed):
            source.change(trekkid)
            source.change(trekkid)
        source.forget(holed, 2)
        source.rewrite(ended, 1, {"trekkstatus": "avsluttet"})
        source.rewrite(changed, 1, {"saksnummer": "CHANGED/1"})
        source.plant(second, "17")
        source.plant(second, json.dumps({"trekkid": "20002", "trekkversjon": 1}))
        self.command("once")
        source.restore(holed, 2)
        source.reveal(hidden, 1)
        self.command("reconcile")
        held = next(each for each in self.messages("quarantine") if each.key() == changed.encode())
        self.command("quarantine", "release", f"{held.partition()}/{held.offset()}", "--correction")
        self.command("position", "forget", second, "--yes")
        self._abort_a_transaction()

    def _abort_a_transaction(self) -> None:
        """Leave an event behind that only those see who do not read committed."""
        producer = Producer(
            {"bootstrap.servers": self.bootstrap_servers, "transactional.id": f"{self.prefix}-stranger"},
            logger=logging.getLogger(__name__),
        )
        producer.init_transactions(COMMAND_SECONDS_MAX)
        producer.begin_transaction()
        for topic in (self.topics.versjoner, self.topics.gjeldende):
            event = read_committed(self.bootstrap_servers, topic)[-1]
            producer.produce(topic, event.value(), event.key(), event.partition(), headers=event.headers())
        producer.flush(COMMAND_SECONDS_MAX)
        producer.abort_transaction(COMMAND_SECONDS_MAX)


@pytest.fixture(scope="module", params=["registry", "single-object"])
def stream(
    kafka: EmbeddedKafka, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PublishedStream]:
    """A stream in Confluent's wire format with a registry, and one in single-object encoding without."""
    registry: EmbeddedRegistry | None = None
    if request.param == "registry":
        registry = request.getfixturevalue("registry")
    with OutsideWorld(seed=9) as outside:
        made = PublishedStream(
            outside, kafka.bootstrap_servers, registry.url if registry else None, tmp_path_factory.mktemp("stream")
        )
        made.fill()
        yield made
