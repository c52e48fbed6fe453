"""Names: ASCII, the wire's own spelling, Norwegian nouns with English verbs, and no drawers for odds and ends."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "base"}
FORBIDDEN_WORDS = {
    "belop": "beloep",
    "orgnr": "organisasjonsnummer",
    "orgnummer": "organisasjonsnummer",
    "sekvensnr": "sekvensnummer",
    "saksnr": "saksnummer",
    "kontonr": "kontonummer",
    "fnr": "foedselsnummer",
    "fodselsnummer": "foedselsnummer",
    "trekkpalegg": "trekkpaalegg",
    "storrelse": "stoerrelse",
    "hent": "an English verb",
    "lagre": "an English verb",
    "oppdater": "an English verb",
    "withholding": "trekk",
    "debtor": "skyldner",
}
NOUNS = (
    "trekkpaalegg|trekkpliktig|skyldner|trekkid|trekkversjon|versjon|sekvensnummer|saksnummer|trekkstatus|periode|"
    "trekkstoerrelse|trekkbeloep|trekkprosent|beloep|betalingsinformasjon|betalingsmottaker|kidnummer|kontonummer|"
    "organisasjonsnummer|foedselsnummer|postering"
)
PLURAL = re.compile(rf"(?:{NOUNS})(?:s|es|ers)(?![a-z])")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Every name that the module makes, with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield 0, name


def words(name: str) -> list[str]:
    return [word.lower() for word in WORD.findall(name)]


def faults_of(name: str) -> list[str]:
    faults = []
    if not name.isascii():
        faults.append("is not ASCII")
    faults += [f"says {word}: {FORBIDDEN_WORDS[word]}" for word in words(name) if word in FORBIDDEN_WORDS]
    if PLURAL.search("_".join(words(name))):
        faults.append("has a plural -s on a Norwegian noun")
    return faults


@pytest.mark.parametrize(
    ("name", "faulty"),
    [
        ("hent_trekkpaalegg", True),
        ("hentTrekkpaalegg", True),
        ("trekk_belop", True),
        ("trekkpaaleggs", True),
        ("TrekkversjonsByTrekkid", True),
        ("trekkpålegg", True),
        ("orgnr", True),
        ("fetch_trekkpaalegg", False),
        ("TrekkpaaleggSource", False),
        ("trekkpliktige", False),
        ("versions", False),
        ("agent_henten", False),
    ],
)
def test_the_rule_distinguishes_good_names_from_bad(name: str, *, faulty: bool) -> None:
    assert bool(faults_of(name)) == faulty


def test_names_follow_the_house(tree: Any) -> None:
    faults = [
        f"{path}:{line}: {name} {fault}"
        for path in tree.all_python
        for line, name in identifiers(tree.text(path))
        for fault in faults_of(name)
    ]
    assert faults == []


def test_file_names_follow_the_house(tree: Any) -> None:
    faults = [f"{path} {fault}" for path in tree.paths for part in path.split("/") for fault in faults_of(part)]
    drawers = [
        path for path in tree.product for part in PurePosixPath(path).parts if part.removesuffix(".py") in DRAWERS
    ]
    assert faults + drawers == []


def test_nothing_is_called_a_manager(tree: Any) -> None:
    faults = [
        f"{path}:{node.lineno}: {node.name}"
        for path in tree.all_python
        for node in ast.walk(ast.parse(tree.text(path)))
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?|Handler)$", node.name)
    ]
    assert faults == []
