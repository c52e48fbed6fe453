"""The glossary in `schemas/README.md` has exactly one true row for every field of the event."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator


class Row(NamedTuple):
    field: str
    norwegian: str
    meaning: str
    wire_name: str
    type: str


def glossary() -> list[Row]:
    text = files("schemas").joinpath("README.md").read_text(encoding="utf-8")
    section = text.split("## Glossary")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [Row(*(cell.strip().strip("`") for cell in line.strip("|").split("|"))) for line in lines]


def fields(declared: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Path and type of every field, as the glossary writes them."""
    for field in declared["fields"]:
        kind = field["type"]
        yield path + field["name"], type_text(kind)
        if isinstance(kind, dict) and kind["type"] == "record":
            yield from fields(kind, f"{path}{field['name']}.")
        if isinstance(kind, dict) and kind["type"] == "array":
            yield from fields(kind["items"], f"{path}{field['name']}[].")


def type_text(kind: Any) -> str:
    match kind:
        case ["null", branch]:
            return f"{type_text(branch)}?"
        case {"logicalType": "decimal"}:
            return f"decimal({kind['precision']},{kind['scale']})"
        case {"logicalType": logical_type}:
            return logical_type
        case {"type": "map", "values": values}:
            return f"map of {values}"
        case {"type": declared_type}:
            return declared_type
    return kind


def snake_case(wire_name: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", wire_name)


def test_every_field_has_one_row_with_its_type_and_no_row_is_about_nothing() -> None:
    declared = json.loads(schemas.load("trekkpaalegg_versjon").canonical_json)
    assert [(row.field, row.type) for row in glossary()] == list(fields(declared))


def test_wire_names_are_the_field_names_in_camel_case() -> None:
    for row in glossary():
        if row.field.endswith("ukjente_felter"):
            assert row.wire_name == "none", row.field
        else:
            step = row.wire_name.rpartition(".")[2]
            expected = {row.field, f"{row.field}.{step}"}
            assert snake_case(row.wire_name) in expected, row.field


def test_every_row_says_what_the_field_is() -> None:
    for row in glossary():
        assert row.norwegian, row.field
        assert len(row.meaning.split()) > 2, row.field
