"""The schemas: fingerprints, compatibility, and that what was released never changes."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import avro.schema
import pytest

import schemas
from schemas.compatibility import differences, differences_between_all

# The schemas as loaded: fingerprints that other implementations compute too, and failures that say what is known


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


def test_fingerprint_is_in_the_order_of_single_object_encoding() -> None:
    # The Avro specification gives 0x7275d51a3f395c8f for "int"; little-endian on the wire.
    assert schemas.parse("int", '"int"').fingerprint == bytes.fromhex("8f5c393f1ad57572")


def test_unknown_name_names_those_that_exist() -> None:
    with pytest.raises(schemas.UnknownSchemaError, match="trekkpaalegg_versjon"):
        schemas.load("trekk")


def test_unknown_fingerprint_is_named() -> None:
    with pytest.raises(schemas.UnknownSchemaError, match="0102030405060708"):
        schemas.by_fingerprint(bytes.fromhex("0102030405060708"))


# Every kind of incompatible change is found and named; every compatible change passes
Declared = dict[str, Any]
Change = Callable[[Declared], object]


def current() -> Declared:
    return json.loads(schemas.load("trekkpaalegg_versjon").canonical_json)


def schema_of(declared: Declared) -> schemas.Schema:
    return schemas.parse("trekkpaalegg_versjon", json.dumps(declared))


def field(declared: Declared, *names: str) -> Declared:
    """The field of that name; further names go into records inside, through arrays."""
    name, *deeper = names
    found = next(each for each in declared["fields"] if each["name"] == name)
    if not deeper:
        return found
    return field(found["type"].get("items", found["type"]), *deeper)


def without(name: str) -> Change:
    return lambda declared: declared["fields"].remove(field(declared, name))


def with_field(**attributes: Any) -> Change:
    return lambda declared: declared["fields"].append({"name": "ny", **attributes})


def with_type(*names: str, type: Any) -> Change:  # noqa: A002 - Avro's own word
    return lambda declared: field(declared, *names).update(type=type)


PERIODE = "trekkstoerrelse_for_periode"
OPEN_DATE = ["null", {"type": "int", "logicalType": "date"}]


def decimal(precision: int, scale: int) -> list[Any]:
    return ["null", {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}]


BREAKS: list[tuple[str, Change, str]] = [
    ("field added without default", with_field(type="string"), "ny: the field was added without a default"),
    ("field without default removed", without("trekkid"), "trekkid: the field was removed"),
    ("type changed", with_type("trekkversjon", type="string"), "trekkversjon: the type changed from long to string"),
    ("long narrowed", with_type("sekvensnummer", type="int"), "sekvensnummer: the type changed from long to int"),
    ("text to bytes", with_type("trekkid", type="bytes"), "trekkid: the type changed from string to bytes"),
    (
        "scale changed",
        with_type(PERIODE, "trekkbeloep", type=decimal(14, 3)),
        "trekkstoerrelse_for_periode[].trekkbeloep: the scale changed from 2 to 3.",
    ),
    (
        "precision changed",
        with_type(PERIODE, "trekkprosent", type=decimal(7, 2)),
        "trekkstoerrelse_for_periode[].trekkprosent: the precision changed from 5 to 7.",
    ),
    (
        "logical type changed",
        with_type("opprettet", type={"type": "long", "logicalType": "timestamp-millis"}),
        "opprettet: the logical type changed from timestamp-micros to timestamp-millis.",
    ),
    (
        "logical type dropped",
        with_type(PERIODE, "startdato", type="int"),
        "trekkstoerrelse_for_periode[].startdato: the logical type changed from date to none.",
    ),
    (
        "null no longer allowed",
        lambda declared: field(declared, "saksnummer").update(type="string", default=""),
        "saksnummer: the type changed from a union to string",
    ),
    ("null allowed", with_type("trekkid", type=["null", "string"]), "trekkid: the type changed from string to a union"),
    (
        "branch added",
        with_type("saksnummer", type=["null", "string", "long"]),
        "saksnummer: long was not allowed before",
    ),
    (
        "branch removed",
        with_type(PERIODE, "sluttdato", type=["null"]),
        "trekkstoerrelse_for_periode[].sluttdato: int is no longer allowed",
    ),
    (
        "symbol removed",
        lambda declared: field(declared, "trekkstatus")["type"]["symbols"].remove("avsluttet"),
        "trekkstatus: the symbol avsluttet was removed",
    ),
    (
        "default of the enum removed",
        lambda declared: field(declared, "trekkstatus")["type"].pop("default"),
        "trekkstatus: the enum's default changed from ukjent to none.",
    ),
    (
        "default of the enum changed",
        lambda declared: field(declared, "trekkstatus")["type"].update(default="aktiv"),
        "trekkstatus: the enum's default changed from ukjent to aktiv.",
    ),
    (
        "values of a map changed",
        with_type("ukjente_felter", type={"type": "map", "values": "bytes"}),
        "ukjente_felter{}: the type changed from string to bytes.",
    ),
    (
        "record renamed",
        lambda declared: field(declared, "betalingsinformasjon")["type"].update(name="Betaling"),
        "betalingsinformasjon: the type changed from record no.trekkpaalegg.Betalingsinformasjon",
    ),
    ("top record renamed", lambda declared: declared.update(name="Trekk"), "the whole: the type changed from record"),
]
ALLOWED: list[tuple[str, Change]] = [
    ("nothing", lambda declared: declared),
    ("field added with default", with_field(type=["null", "string"], default=None)),
    ("field with default removed", without("saksnummer")),
    ("symbol added", lambda declared: field(declared, "trekkstatus")["type"]["symbols"].append("midlertidig")),
    ("symbols in another order", lambda declared: field(declared, "trekkstatus")["type"]["symbols"].reverse()),
    ("fields in another order", lambda declared: declared["fields"].reverse()),
    ("doc changed", lambda declared: declared.update(doc="Another text.")),
]


@pytest.mark.parametrize(("change", "sentence"), [each[1:] for each in BREAKS], ids=[each[0] for each in BREAKS])
def test_break_is_found_and_is_the_only_one_reported(change: Change, sentence: str) -> None:
    changed = current()
    change(changed)
    found = differences(schema_of(current()), schema_of(changed))
    assert len(found) == 1
    assert found[0].startswith(sentence)


@pytest.mark.parametrize("change", [each[1] for each in ALLOWED], ids=[each[0] for each in ALLOWED])
def test_allowed_change_passes_both_ways(change: Change) -> None:
    changed = current()
    change(changed)
    assert differences(schema_of(current()), schema_of(changed)) == []


def test_symbol_added_to_an_enum_without_default_is_found() -> None:
    older = current()
    field(older, "trekkstatus")["type"].pop("default")
    newer = copy.deepcopy(older)
    field(newer, "trekkstatus")["type"]["symbols"].append("midlertidig")
    (sentence,) = differences(schema_of(older), schema_of(newer))
    assert sentence.startswith("trekkstatus: the symbol midlertidig was added")


def test_break_between_versions_that_are_no_neighbours_is_found() -> None:
    """Removed with a default, added again with another type: each step passes, the first and the last do not."""
    first, second, third = current(), current(), current()
    without("saksnummer")(second)
    field(third, "saksnummer").update(type=["null", "long"])
    first, second, third = schema_of(first), schema_of(second), schema_of(third)
    assert differences(first, second) == differences(second, third) == []
    assert len(differences_between_all([first, second, third])) == 2


def test_named_types_are_followed_and_recursion_ends() -> None:
    def tree(value: Any) -> schemas.Schema:
        children = {"name": "children", "type": {"type": "array", "items": "Tree"}}
        amount = {"name": "value", "type": value}
        return schema_of({"type": "record", "name": "Tree", "fields": [amount, children]})

    assert differences(tree("long"), tree("long")) == []
    assert differences(tree("long"), tree("int")) == ["value: the type changed from long to int."]


def test_type_may_be_declared_at_its_first_use_or_named_at_a_later_one() -> None:
    first = {"type": "record", "name": "Beloep", "fields": [{"name": "kroner", "type": "long"}]}
    older = {"a": first, "b": "Beloep"}
    newer = {"b": first, "a": "Beloep"}

    def pair(types: dict[str, Any]) -> schemas.Schema:
        fields = [{"name": name, "type": kind} for name, kind in types.items()]
        return schema_of({"type": "record", "name": "Pair", "fields": fields})

    assert differences(pair(older), pair(newer)) == []


def test_fixed_of_another_size_is_found() -> None:
    def fixed(size: int) -> schemas.Schema:
        return schema_of({"type": "fixed", "name": "Hash", "size": size})

    assert differences(fixed(8), fixed(16)) == ["the whole: the size changed from 8 to 16 bytes."]


# The gate: what was released never changes, and every schema is compatible with every other of its name
HISTORY = files("schemas").joinpath("history")
FROZEN = dict(
    reversed(line.split()) for line in HISTORY.joinpath("frozen.sha256").read_text(encoding="utf-8").splitlines()
)


def history_files() -> set[str]:
    return {file.name for file in HISTORY.iterdir() if file.name.endswith(".avsc")}


def test_released_schemas_are_as_they_were_frozen() -> None:
    """A change is a new file and a new line in `frozen.sha256`; neither is ever edited."""
    found = {name: hashlib.sha256(HISTORY.joinpath(name).read_bytes()).hexdigest() for name in history_files()}
    assert found == FROZEN


@pytest.mark.parametrize("name", schemas.NAMES)
def test_releases_are_numbered_from_one_without_a_gap(name: str) -> None:
    expected = {f"{name}.{number}.avsc" for number in range(1, len(schemas.versions(name)) + 1)}
    assert {file for file in history_files() if file.startswith(f"{name}.")} == expected


def test_every_file_of_the_history_belongs_to_a_schema() -> None:
    assert {name.split(".")[0] for name in history_files()} == set(schemas.NAMES)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_current_schema_is_the_newest_release(name: str) -> None:
    """Changed on purpose? Copy it to `schemas/history/` under the next number, and add its line to `frozen.sha256`."""
    newest = schemas.versions(name)[-1]
    assert json.loads(schemas.load(name).canonical_json) == json.loads(newest.canonical_json)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_every_release_is_compatible_with_every_other(name: str) -> None:
    assert differences_between_all(schemas.versions(name)) == []
