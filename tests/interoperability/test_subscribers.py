"""Strangers read the producer's real output: by the AsyncAPI document alone, with kcat, and in Java."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import fastavro
import httpx
import msgspec
import pytest

from sandbox.demo.proof import Published, faults_of, versions_of_source, with_canonical_json
from sandbox.servers.java import JAVA, fetch_jars
from trekkpaalegg.event import TrekkpaaleggVersjon, trekkpaalegg_versjon_from
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
EVENT_SCHEMA = HERE.parents[1] / "schemas" / "trekkpaalegg_versjon.avsc"
SUBSCRIBER = "PayrollSubscriber"
SAMPLE = HERE.parents[1] / "consumers" / "samples" / "java"
JVM = (JAVA, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
COMPILER = "org.eclipse.jdt:ecj:3.46.0"
SECONDS_MAX = 120
NOT_ALWAYS_THERE = {
    ("positions", "eventCursor"),
    ("observations", "observation"),
    ("observations", "question"),
    ("observations_urgent", "observation"),
}
"""What only notifications bring, and what homes delete."""

KEYS = {
    "lanes": "laneCount",
    "@observations": "observationOffsets",
    "@request": "requestState",
    "@schema": "stateSchema",
    "@events": "eventCursor",
    "@results": "results",
    "@known": "knownOrders",
}
"""Message of positions by its key, without the trekkpliktig before it."""


def headers_of(message: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers() or []}


def message_of(asyncapi: Any, channel: str, message: Any) -> str:
    """Name of the message of the document that this record must be, as key and headers tell."""
    key, headers = message.key().decode(), headers_of(message)
    match channel:
        case "versjoner" | "gjeldende":
            late = "lateVersjon" if "ce_late" in headers else "versjon"
            return "correctedVersjon" if "ce_correction" in headers else late
        case "positions":
            return "forgotten" if message.value() is None else message_of_positions(key)
        case "observations" if "question" in json.loads(headers["observation"]):
            return "question"
        case _:
            return next(iter(asyncapi.messages(channel)))


def message_of_positions(key: str) -> str:
    """As `message_of`, by the key alone."""
    name, separator, _ = key.partition("/")
    if separator and name not in {"@request", "@schema"}:
        return "handedOver" if name else "orderState"
    if name.endswith(("@events", "@results", "@known")):
        name = name.lstrip("0123456789*")
    return KEYS.get(name, "trekkpliktigState")


def test_every_record_is_a_message_of_the_document(asyncapi: Any, stream: Any) -> None:
    """Key, headers and payload of each; and every message of the document occurs, save those that need not."""
    faults, met = [], Counter()
    for channel in asyncapi.raw["channels"]:
        for record in stream.messages(channel):
            name = message_of(asyncapi, channel, record)
            met[channel, name] += 1
            pointer = asyncapi.messages(channel)[name]
            told = asyncapi.message_faults(pointer, record.key(), record.value(), headers_of(record))
            faults += [f"{channel} {record.partition()}/{record.offset()} {name}: {fault}" for fault in told]
    assert faults == []
    expected = {(channel, name) for channel in asyncapi.raw["channels"] for name in asyncapi.messages(channel)}
    assert expected - NOT_ALWAYS_THERE <= met.keys() <= expected


def test_every_way_to_an_event_was_tried(stream: Any) -> None:
    origins = {headers_of(record)["ce_origin"] for record in stream.messages("versjoner")}
    assert origins == {"poll", "gapfill", "reconcile", "release"}
    reasons = {headers_of(record)["ce_reason"] for record in stream.messages("quarantine")}
    assert reasons == {"changed_content", "not_an_object", "missing_field"}


def test_encodings_are_those_of_the_document(asyncapi: Any, stream: Any) -> None:
    """The registry's where there is one, single-object elsewhere; its id is the fingerprint in the header."""
    for channel in ("versjoner", "gjeldende", "quarantine", "positions"):
        for record in stream.messages(channel):
            if record.value() is None or record.key().startswith(b"@schema/"):
                continue  # deleted, or a schema: its text
            name, schema_id, _ = asyncapi.framing(record.value())
            if channel != "positions":
                assert name == ("confluent" if stream.registry_url else "single-object")
                fingerprint = headers_of(record)["ce_schemafingerprint"]
                assert stream.registry_url or schema_id.hex() == fingerprint
            else:
                assert name == "single-object"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_origin", "guess"),
        ("ce_late", "true"),
        ("ce_time", "2026-01-05 08:15:30"),
        ("ce_sekvensnummer", "0"),
        ("ce_trekkpliktig", "31000002"),
        ("ce_schemafingerprint", "812DB830CEC018EE"),
        ("ce_id", "10001"),
        ("ce_sekvensnumer", "1"),
        ("content-type", "avro/binary"),
        ("ce_subject", None),
    ],
)
def test_a_planted_fault_in_a_header_is_seen(asyncapi: Any, stream: Any, name: str, value: str | None) -> None:
    record = stream.messages("gjeldende")[0]
    headers = headers_of(record)
    pointer = asyncapi.messages("gjeldende")["versjon"]
    assert asyncapi.message_faults(pointer, record.key(), record.value(), headers) == []
    planted = (
        {**headers, name: value} if value is not None else {each: headers[each] for each in headers.keys() - {name}}
    )
    (fault, *_) = asyncapi.message_faults(pointer, record.key(), record.value(), planted)
    assert name in fault


def test_a_damaged_key_or_value_is_seen(asyncapi: Any, stream: Any) -> None:
    record = stream.messages("versjoner")[0]
    pointer, headers = asyncapi.messages("versjoner")["versjon"], headers_of(record)
    for key, value in [(b"", record.value()), (record.key(), record.value()[:-1]), (record.key(), None)]:
        assert asyncapi.message_faults(pointer, key, value, headers)


def published(record: dict[str, Any], event: TrekkpaaleggVersjon, headers: dict[str, str]) -> Published:
    correction = headers.get("ce_correction")
    return Published(
        partition=record["partition"],
        offset=record["offset"],
        key=record["key"],
        event=with_canonical_json(event),
        ce_id=headers["ce_id"],
        late=headers.get("ce_late") == "true",
        correction=int(correction) if correction else None,
    )


def assert_every_event_once(stream: Any, versjoner: list[Published], gjeldende: list[Published]) -> None:
    """Each version of the source was read once, in order, with the source's content."""
    source = versions_of_source(stream.outside.skatteetaten, stream.employers)
    assert len(source) > 30
    assert faults_of(versjoner, gjeldende, source) == []
    assert {each.correction for each in versjoner} == {None, 1}
    assert any(each.late for each in versjoner)


@pytest.fixture(scope="module")
def decode(stream: Any) -> Callable[[bytes], dict[str, Any]]:
    """A value by the public schema alone: got from the registry by plain HTTP, or from the schema's file."""
    by_id: dict[int, Any] = {}
    schema = fastavro.parse_schema(json.loads(EVENT_SCHEMA.read_text(encoding="utf-8")))

    def read(value: bytes) -> dict[str, Any]:
        if stream.registry_url is None:
            return fastavro.schemaless_reader(BytesIO(value[10:]), schema, None)
        schema_id = int.from_bytes(value[1:5], "big")
        if schema_id not in by_id:
            answer = httpx.get(f"{stream.registry_url}/schemas/ids/{schema_id}").raise_for_status()
            by_id[schema_id] = fastavro.parse_schema(json.loads(answer.json()["schema"]))
        return fastavro.schemaless_reader(BytesIO(value[5:]), by_id[schema_id], None)

    return read


def read_with_kcat(kcat: str, stream: Any, topic: str) -> Iterator[dict[str, Any]]:
    """Every record as kcat prints it with `-J`.

    Debian's kcat is built without Avro, so the value is decoded from what it prints: its bytes, as they are, in a JSON
    text that is UTF-8 in everything else.
    """
    command = [kcat, "-C", "-b", stream.bootstrap_servers, "-t", topic, "-o", "beginning", "-e", "-q", "-J"]
    told = subprocess.run(
        [*command, "-X", "isolation.level=read_committed"], capture_output=True, check=False, timeout=SECONDS_MAX
    )
    assert told.returncode == 0, told.stderr.decode(errors="replace")
    for line in told.stdout.splitlines():
        yield json.loads(line.decode("utf-8", "surrogateescape"))


def test_kcat_reads_every_event_once(program: Any, stream: Any, decode: Any) -> None:
    def read(topic: str) -> Iterator[Published]:
        for record in read_with_kcat(program("kcat"), stream, topic):
            headers = dict(zip(record["headers"][::2], record["headers"][1::2], strict=True))
            event = trekkpaalegg_versjon_from(decode(record["payload"].encode("utf-8", "surrogateescape")))
            yield published(record, event, headers)

    assert_every_event_once(stream, list(read(stream.topics.versjoner)), list(read(stream.topics.gjeldende)))


def dependency_of_the_sample() -> str:
    """The only dependency that the sample's pom names, by its Maven coordinates."""
    (dependency,) = ET.parse(SAMPLE / "pom.xml").iterfind("{*}dependencies/{*}dependency")  # noqa: S314 - a file of ours
    return ":".join(dependency.findtext(f"{{*}}{part}") or "" for part in ("groupId", "artifactId", "version"))


@pytest.fixture(scope="module")
def java_class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The subscriber, compiled, and what it needs from Maven Central. Eclipse's compiler is a jar: no JDK is needed."""
    checksums = HERE / "java.sha256"
    jars = fetch_jars("payroll-subscriber-3.1.7", dependency_of_the_sample(), checksums)
    (compiler,) = fetch_jars("ecj-3.46.0", COMPILER, checksums)
    class_path = os.pathsep.join(map(str, jars))
    classes = tmp_path_factory.mktemp("classes")
    options = ["-21", "-encoding", "UTF-8", "-proc:none", "-cp", class_path, "-d", str(classes)]
    compiled = subprocess.run(
        [*JVM, "-jar", str(compiler), *options, str(SAMPLE / "src/main/java" / f"{SUBSCRIBER}.java")],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert compiled.returncode == 0, compiled.stderr
    return f"{classes}{os.pathsep}{class_path}"


def test_a_stock_java_consumer_reads_every_event_once(java_class_path: str, stream: Any) -> None:
    """Apache Kafka's client, with Apicurio's deserializer through the registry, or Avro's decoder without."""
    schemas = EVENT_SCHEMA if stream.registry_url is None else stream.registry_url.replace("ccompat/v7", "registry/v3")
    topics = (stream.topics.versjoner, stream.topics.gjeldende)
    command = [*JVM, "-Dstdout.encoding=UTF-8", "-cp", java_class_path, SUBSCRIBER]
    told = subprocess.run(
        [*command, stream.bootstrap_servers, str(schemas), *topics],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=SECONDS_MAX,
    )
    assert told.returncode == 0, told.stderr
    read: dict[str, list[Published]] = {topic: [] for topic in topics}
    for record in map(json.loads, told.stdout.splitlines()):
        event = msgspec.convert(record["event"], TrekkpaaleggVersjon, dec_hook=lambda _, text: Foedselsnummer(text))
        read[record["topic"]].append(published(record, event, record["headers"]))
    assert_every_event_once(stream, *read.values())
