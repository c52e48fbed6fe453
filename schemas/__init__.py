"""The Avro schemas of this project, parsed and ready for use, by name or by fingerprint.

`<name>.avsc` is the current schema, `history/<name>.<n>.avsc` are all that were ever released, the current one among
them. Works from a checkout and from an installed package alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import fastavro.schema

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

NAMES = (
    "trekkpaalegg_versjon",
    "trekkpaalegg_rejected",
    "trekkpliktig_state",
    "order_state",
    "handed_over",
    "observation_offsets",
    "request_state",
    "known_orders",
    "event_cursor",
    "lane_count",
)
FINGERPRINT_BYTES = 8


class UnknownSchemaError(LookupError):
    """No released schema has this name or fingerprint."""


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema. `canonical_json` is the text to register, logical types and docs included, without white space.

    `fingerprint` is the CRC-64-AVRO of the parsing canonical form, its eight bytes in the order in which single-object
    encoding writes them (little-endian). It does not see docs, defaults and logical types.
    """

    name: str
    parsed: Any
    canonical_json: str
    fingerprint: bytes


def parse(name: str, text: str) -> Schema:
    """The schema that the JSON text holds. Raises ValueError or fastavro's SchemaParseException when it holds none."""
    declared = json.loads(text)
    parsed = fastavro.schema.parse_schema(declared)
    canonical_form = fastavro.schema.to_parsing_canonical_form(parsed)
    return Schema(
        name=name,
        parsed=parsed,
        canonical_json=json.dumps(declared, ensure_ascii=False, separators=(",", ":")),
        fingerprint=bytes.fromhex(fastavro.schema.fingerprint(canonical_form, "CRC-64-AVRO")),
    )


@cache
def load(name: str) -> Schema:
    """The current schema of that name. Raises `UnknownSchemaError`."""
    if name not in NAMES:
        raise UnknownSchemaError(f"no schema is called {name}; there are {', '.join(NAMES)}")
    return parse(name, _folder().joinpath(f"{name}.avsc").read_text(encoding="utf-8"))


@cache
def versions(name: str) -> tuple[Schema, ...]:
    """Every released schema of that name, oldest first. Raises `UnknownSchemaError`."""
    load(name)
    released: dict[int, Schema] = {}
    for file in _folder().joinpath("history").iterdir():
        stem, _, number = file.name.removesuffix(".avsc").rpartition(".")
        if stem == name:
            released[int(number)] = parse(name, file.read_text(encoding="utf-8"))
    return tuple(released[number] for number in sorted(released))


def by_fingerprint(fingerprint: bytes) -> Schema:
    """The released schema with these eight bytes; the newest, where only docs or defaults set several apart.

    Raises `UnknownSchemaError`.
    """
    schema = _released().get(fingerprint)
    if schema is None:
        raise UnknownSchemaError(f"no released schema has the fingerprint {fingerprint.hex()}")
    return schema


@cache
def _released() -> dict[bytes, Schema]:
    return {schema.fingerprint: schema for name in NAMES for schema in versions(name)}


def _folder() -> Traversable:
    return files(__name__)
