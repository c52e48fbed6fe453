"""Every ignored rule has a reason beside the ignore."""

from __future__ import annotations

import io
import re
import tokenize
from typing import Any

import pytest

MARK = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma:|mypy:|ruff:)")
REASONED = re.compile(
    r"#\s*(?:noqa:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*|type:\s*ignore\[[a-z-]+(?:,\s*[a-z-]+)*\]|pragma:\s*no cover)"
    r"\s+(?:[-#]\s*)?\S.{4,}"
)
IGNORED_RULE = re.compile(r'^\s*"[A-Z]+[0-9]*",')


def comments(source: str) -> list[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


@pytest.mark.parametrize(
    ("comment", "good"),
    [
        ("# noqa: S101 - checked above", True),
        ("# noqa: ANN401  as above", True),
        ("# type: ignore[override]  # as its parent does", True),
        ("# noqa: S101", False),
        ("# noqa", False),
        ("# type: ignore[override]", False),
        ("# type: ignore", False),
    ],
)
def test_the_rule_itself_asks_for_a_code_and_a_reason(comment: str, *, good: bool) -> None:
    assert MARK.search(comment)
    assert bool(REASONED.search(comment)) == good


def test_every_ignore_has_a_reason(tree: Any) -> None:
    faults = [
        f"{path}:{line}: {comment}"
        for path in tree.all_python
        for line, comment in comments(tree.text(path))
        if MARK.search(comment) and not REASONED.search(comment)
    ]
    assert faults == []


def test_every_rule_that_is_off_has_a_reason(tree: Any) -> None:
    lines = tree.text("pyproject.toml").splitlines()
    off = [line for line in lines if IGNORED_RULE.match(line)]
    assert off
    assert [line for line in off if "#" not in line] == []
