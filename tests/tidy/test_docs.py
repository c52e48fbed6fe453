"""The documents name only settings, commands, make targets and paths that exist; and no setting is left out."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any

import pytest
import typer

from producer.settings.model import SECRET_FILE_NAMES, SETTING_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS = (
    "README.md",
    "docs/exactly-once.md",
    "docs/upgrade-move-restore.md",
    "producer/DESIGN.md",
    "producer/notifications/README.md",
    "consumers/README.md",
    "consumers/ledger/README.md",
    "consumers/payout/README.md",
    "consumers/samples/java/README.md",
    "consumers/samples/python/README.md",
    "consumers/webhook/README.md",
    "sandbox/altinn/README.md",
    "sandbox/CONTAINERS.md",
    "producer/KAFKA-SECURITY.md",
    "producer/observe/RUNBOOK.md",
    "consumers/observe/RUNBOOK.md",
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
    "CHANGELOG.md",
)
PROGRAMS = {
    "trekkpaalegg-producer": "producer",
    "trekkpaalegg-consumer": "consumers",
    "trekkpaalegg-sandbox": "sandbox",
}
CODE = re.compile(r"```[a-z]*\n(.*?)```|``(.+?)``|`([^`\n]+)`", re.DOTALL)
SETTING = re.compile(r"\b(?:TREKKPAALEGG|MASKINPORTEN|KAFKA)_[A-Z_]+[A-Z]\b(?!_?\*|…)")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
PATH = re.compile(r"(?<![\w/.$:-])(?:\.{0,2}[\w-]+/)+[\w.-]*|\b[\w-]+\.(?:py|toml|md|lock|avsc)\b")
COMMAND = re.compile(rf"\b({'|'.join(PROGRAMS)})((?: +[^\s|#;&]+)*)")


def code_of(text: str) -> Iterator[str]:
    """Everything set as code."""
    for block, double, single in CODE.findall(text):
        yield block or double or single


def commands_of(command: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command below a group, as a tuple of its words."""
    for name, sub in getattr(command, "commands", {}).items():
        yield (*before, name)
        yield from commands_of(sub, (*before, name))


@pytest.fixture(scope="session")
def documents(tree: Any) -> dict[str, str]:
    there = {path: tree.text(path) for path in DOCUMENTS if path in tree.paths}
    assert "README.md" in there
    return there


@pytest.fixture(scope="session")
def code(documents: dict[str, str]) -> list[tuple[str, str]]:
    return [(path, snippet) for path, text in documents.items() for snippet in code_of(text)]


def test_settings_that_are_named_exist(code: list[tuple[str, str]]) -> None:
    there = SETTING_NAMES.keys() | SECRET_FILE_NAMES
    faults = [f"{path}: {name}" for path, snippet in code for name in SETTING.findall(snippet) if name not in there]
    assert faults == []


def test_every_setting_is_described_in_the_readme(documents: dict[str, str]) -> None:
    assert [name for name in SETTING_NAMES if f"`{name}`" not in documents["README.md"]] == []


def test_make_targets_that_are_named_exist(tree: Any, code: list[tuple[str, str]]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", tree.text("Makefile"), re.MULTILINE))
    faults = [f"{path}: make {name}" for path, snippet in code for name in MAKE.findall(snippet) if name not in targets]
    assert faults == []


def test_commands_that_are_named_exist(code: list[tuple[str, str]]) -> None:
    known = {
        program: set(commands_of(typer.main.get_command(importlib.import_module(f"{module}.cli.main").app)))
        for program, module in PROGRAMS.items()
    }
    faults = []
    for path, snippet in code:
        for program, rest in COMMAND.findall(snippet):
            words = tuple(word for word in rest.split() if re.fullmatch(r"[a-z]+(?:-[a-z]+)*", word))
            if words and not {words[:1], words[:2]} & known[program]:
                faults.append(f"{path}: {program}{rest}")
    assert faults == []


def test_paths_that_are_named_exist(tree: Any, code: list[tuple[str, str]]) -> None:
    """A path may start at the root or at the document's folder, or be its last parts."""
    folders = {"/".join(path.split("/")[:depth]) for path in tree.paths for depth in range(1, path.count("/") + 1)}
    there = set(tree.paths) | folders
    top = {path.split("/")[0] for path in tree.paths}
    faults = []
    for path, snippet in code:
        for named in PATH.findall(snippet):
            name = named.strip("/").removeprefix("./")
            if "/" in name and name.split("/")[0] not in top:
                continue
            if name not in there and not any(each.endswith(f"/{name}") for each in there):
                faults.append(f"{path}: {named}")
    assert faults == []
