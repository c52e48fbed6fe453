"""The AsyncAPI document says what the code says, and the official parser takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import schemas
from producer.domain.observation import Observation, Question
from producer.domain.state import EventCursor
from producer.domain.trekkpaalegg import (
    Betalingsinformasjon,
    Origin,
    Publication,
    RejectionReason,
    Trekkpaalegg,
    Trekkstatus,
)
from producer.encode.event import EventEncoder
from producer.encode.observation import encode_observation, encode_question
from producer.publish.state import event_cursor_record
from producer.publish.topics import Topics, wanted_topics
from producer.settings.model import SETTING_NAMES
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
VALIDATOR = ROOT / ".ci" / "asyncapi" / "validate.mjs"
SECONDS_MAX = 300
VERSION = Trekkpaalegg(
    trekkid="10001",
    trekkversjon=2,
    sekvensnummer=4711,
    opprettet=1_767_600_930_123_456,
    saksnummer=None,
    trekkpliktig="310000025",
    skyldner=Foedselsnummer("01810112345"),
    trekkstatus=Trekkstatus.AKTIV,
    trekkstoerrelse_for_periode=(),
    betalingsinformasjon=Betalingsinformasjon("310000033", "123456782", "99999999999"),
)
QUESTION = Question("310000025", "a request")
EVENT_MESSAGES: dict[str, dict[str, Any]] = {
    "versjon": {},
    "lateVersjon": {"late": True},
    "correctedVersjon": {"correction": 1},
}
BROKEN = {
    "action": ("    action: send\n", "    action: publish\n"),
    "partitions": ("partitions: 6", "partitions: six"),
    "no_such.avsc": ("$ref: ./order_state.avsc", "$ref: ./no_such.avsc"),
    "signaler": ("$ref: '#/channels/signals'", "$ref: '#/channels/signaler'"),
    "location": ("      location: $message.header#/ce_id", "      location: ce_id"),
    "strong": ('"type": "string",\n      "doc": "Identity', '"type": "strong",\n      "doc": "Identity'),
}
"""A word of the parser's error → what is right in the document or a schema, and what is wrong instead of it."""


@pytest.fixture(scope="module")
def validate() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the official parser on documents; it is fetched from npm once, as `make check` does."""
    stamp = VALIDATOR.parent.joinpath("node_modules", ".package-lock.json").relative_to(ROOT)
    without_make = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    make = shutil.which("make") or pytest.fail("make is not installed")
    made = subprocess.run(
        [make, "--silent", str(stamp)],
        cwd=ROOT,
        env=without_make,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert made.returncode == 0, made.stderr

    def run(*documents: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "node"), str(VALIDATOR), *map(str, documents)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )

    return run


def test_the_official_parser_finds_nothing(validate: Any) -> None:
    told = validate(ROOT / "schemas" / "asyncapi.yaml")
    assert (told.returncode, told.stderr) == (0, "")
    assert "AsyncAPI 3.0.0, 7 channels" in told.stdout


def test_the_official_parser_reports_what_is_broken(validate: Any, tmp_path: Path) -> None:
    """Each in a copy of the document and its schemas; the parser starts once for all of them."""
    copies = {}
    for word, (right, wrong) in BROKEN.items():
        folder = tmp_path / str(len(copies))
        folder.mkdir()
        copies[word] = folder / "asyncapi.yaml"
        for file in (ROOT / "schemas").glob("*.*"):
            (folder / file.name).write_text(file.read_text(encoding="utf-8").replace(right, wrong), encoding="utf-8")
    told = validate(*copies.values())
    assert (told.returncode, told.stdout) == (1, "")
    for word, copy in copies.items():
        errors = [line.removeprefix(f"{copy}:") for line in told.stderr.splitlines() if line.startswith(f"{copy}:")]
        assert word in "\n".join(errors)


def test_channels_are_the_topics_as_they_are_made(asyncapi: Any) -> None:
    """Names, partitions and configuration, of `topics apply` without options."""
    default = asyncapi.at("components/parameters/prefix")["default"]
    told = {}
    for channel in asyncapi.raw["channels"].values():
        kafka = channel["bindings"]["kafka"]
        config = {
            name: ",".join(value) if isinstance(value, list) else str(value)
            for name, value in kafka["topicConfiguration"].items()
        }
        told[channel["address"].replace("{prefix}", default)] = (kafka["partitions"], config)
    assert told == {topic.name: (topic.partitions, topic.config) for topic in wanted_topics(default)}
    assert tuple(asyncapi.raw["channels"]) == Topics._fields


def test_every_schema_of_the_stream_is_the_payload_of_a_message(asyncapi: Any) -> None:
    messages = asyncapi.raw["components"]["messages"]
    payloads = {f"components/messages/{name}": message["payload"] for name, message in messages.items()}
    files = {each["schema"]["$ref"] for each in payloads.values() if "schemaFormat" in each}
    assert files == {f"./{name}.avsc" for name in schemas.NAMES}
    for pointer in payloads:
        parsed = asyncapi.avro(pointer)
        if parsed is not None:
            name = asyncapi.at(pointer)["payload"]["schema"]["$ref"].removeprefix("./").removesuffix(".avsc")
            assert parsed["name"] == schemas.load(name).parsed["name"]


@pytest.mark.parametrize("message", EVENT_MESSAGES)
def test_header_names_are_those_that_the_encoder_writes(asyncapi: Any, message: str) -> None:
    encoder = EventEncoder("https://api.test/v1", lambda _: b"", bytes(8))
    written = encoder.encode(Publication(VERSION, Origin.POLL, **EVENT_MESSAGES[message])).headers
    named = asyncapi.header_names(f"components/messages/{message}/headers")
    assert named == dict.fromkeys(written, True)


def test_words_in_headers_are_those_of_the_code(asyncapi: Any) -> None:
    shared = asyncapi.at("components/schemas/sharedHeaders/properties/ce_origin")
    assert shared["enum"] == [origin.value for origin in Origin]
    reasons = asyncapi.at("components/schemas/rejectedHeaders/allOf/1/properties/ce_reason")
    assert reasons["examples"] == [reason.value for reason in RejectionReason]


def test_examples_fit_their_own_headers_and_keys(asyncapi: Any) -> None:
    fingerprint = schemas.load("trekkpaalegg_versjon").fingerprint.hex()
    for name in EVENT_MESSAGES:
        for example in asyncapi.at(f"components/messages/{name}")["examples"]:
            assert asyncapi.json_faults(f"components/messages/{name}/headers", example["headers"]) == []
            assert set(example["headers"]) <= set(asyncapi.header_names(f"components/messages/{name}/headers"))
            assert example["headers"]["ce_schemafingerprint"] == fingerprint
            assert example["headers"]["ce_id"].startswith(
                f"{example['payload']['trekkid']}/{example['payload']['trekkversjon']}"
            )


def test_the_cursor_of_events_is_a_message_of_the_document(asyncapi: Any) -> None:
    """No command writes one without notifications; so here as the lane would write it."""
    record = event_cursor_record("positions", 0, "310000025", EventCursor("17", 1_767_600_930_123_456))
    assert asyncapi.message_faults("components/messages/eventCursor", record.key, record.value, {}) == []
    assert asyncapi.message_faults("components/messages/eventCursor", b"310000025", record.value, {})


def test_observations_are_messages_of_the_document(asyncapi: Any) -> None:
    """Homes delete them; so here as a lane would write them: an element, an order that the list lacks, a question."""
    version = msgspec.structs.replace(VERSION, raw=b"{}")
    shown = [Observation(b"10001", "310000025", Origin.POLL, each) for each in (version, None)]
    written = {"observation": [encode_observation(each) for each in shown], "question": [encode_question(QUESTION)]}
    for name, records in written.items():
        for value, headers in records:
            told = {header: each.decode() for header, each in headers.items()}
            assert asyncapi.message_faults(f"components/messages/{name}", b"10001", value, told) == []
            assert asyncapi.message_faults(f"components/messages/{name}", b"10001", value, {})


def test_settings_that_are_named_exist(asyncapi: Any) -> None:
    text = str(asyncapi.raw)
    assert {name for name in SETTING_NAMES if name in text} >= {"KAFKA_CA_PATH", "KAFKA_PROPERTIES_FILE"}
