"""The gate: what was released never changes, and every schema lives with every other of its name."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import pytest

import schemas
from schemas.compatibility import differences_between_all

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
