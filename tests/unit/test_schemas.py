"""The schemas as loaded: fingerprints that other implementations compute too, and failures that say what is known."""

from __future__ import annotations

import json

import avro.schema
import pytest

import schemas


@pytest.mark.parametrize("name", schemas.NAMES)
def test_fingerprint_is_the_one_that_apache_avro_computes(name: str) -> None:
    schema = schemas.load(name)
    # Apache's Python leaves out one step of the specification: {"type": "long"} becomes "long". Done for it here.
    plain = json.loads(schema.canonical_json, object_hook=lambda part: part["type"] if "logicalType" in part else part)
    assert schema.fingerprint == avro.schema.parse(json.dumps(plain)).fingerprint("CRC-64-AVRO")
    assert len(schema.fingerprint) == schemas.FINGERPRINT_BYTES


@pytest.mark.parametrize("name", schemas.NAMES)
def test_text_to_register_keeps_logical_types_and_docs(name: str) -> None:
    folder = schemas.files("schemas")
    on_disk = json.loads(folder.joinpath(f"{name}.avsc").read_text(encoding="utf-8"))
    assert json.loads(schemas.load(name).canonical_json) == on_disk


@pytest.mark.parametrize("name", schemas.NAMES)
def test_every_released_schema_is_found_by_its_fingerprint(name: str) -> None:
    released = schemas.versions(name)
    assert released
    for schema in released:
        assert schemas.by_fingerprint(schema.fingerprint).name == name


def test_fingerprint_stands_in_the_order_of_single_object_encoding() -> None:
    # The Avro specification gives 0x7275d51a3f395c8f for "int"; little-endian on the wire.
    assert schemas.parse("int", '"int"').fingerprint == bytes.fromhex("8f5c393f1ad57572")


def test_unknown_name_names_those_that_exist() -> None:
    with pytest.raises(schemas.UnknownSchemaError, match="trekkpaalegg_versjon"):
        schemas.load("trekk")


def test_unknown_fingerprint_is_named() -> None:
    with pytest.raises(schemas.UnknownSchemaError, match="0102030405060708"):
        schemas.by_fingerprint(bytes.fromhex("0102030405060708"))
