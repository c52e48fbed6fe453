"""The documents of the stream, read as a stranger would: by their YAML alone."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
import yaml
from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMAS = Path(__file__).parents[2] / "schemas"


class AsyncapiDocument:
    """The AsyncAPI document. `raw` is the YAML as it stands."""

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
