"""Nothing in the tree belongs to one machine, names a package registry, or looks like a real person."""

from __future__ import annotations

import re
from typing import Any

import pytest

ELEVEN_DIGITS = re.compile(r"(?<![0-9A-Za-z.])[0-9]{11}(?![0-9A-Za-z.])")
OFFICIAL_EXAMPLES = "sandbox/data/skatteetaten_eksempler.json"
ADDRESSES = re.compile(
    r"pypi\.org|pythonhosted\.org|repo1\.maven|repo\.maven\.apache|registry\.npmjs|proxy\.golang\.org|deb\.debian\.org|"
    r"docker\.io/|index-url\s*[=:]?\s*http",
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(?<![\w./])/(?:work|root|home/[a-z]|Users/)(?:/|\b)|\.pyenv")
BINARY = re.compile(r"\.(jar|whl|gz|zip|so|pyc|png|jpg|class|exe|db)$")


def is_like_a_real_person(number: str) -> bool:
    """Whether the digits begin with a day and month of an ordinary fødselsnummer or D-number.

    Synthetic ones have 40, 65 or 80 added to the month, and so have no such date.
    """
    day, month = int(number[:2]), int(number[2:4])
    return (1 <= day <= 31 or 41 <= day <= 71) and 1 <= month <= 12


@pytest.mark.parametrize(
    ("number", "real"),
    [("010190" + "12345", True), ("410190" + "12345", True), ("01810112345", False), ("99999999999", False)],
)
def test_the_rule_distinguishes_synthetic_numbers_from_real_ones(number: str, *, real: bool) -> None:
    assert is_like_a_real_person(number) == real


def test_no_number_may_be_of_a_real_person(tree: Any) -> None:
    official = set(ELEVEN_DIGITS.findall(tree.text(OFFICIAL_EXAMPLES)))
    faults = [
        f"{path}: {number[:4]}*******"
        for path in tree.paths
        if path != OFFICIAL_EXAMPLES and not BINARY.search(path)
        for number in ELEVEN_DIGITS.findall(tree.text(path))
        if is_like_a_real_person(number) and number not in official
    ]
    assert faults == []


def test_no_address_of_a_package_registry_and_no_path_of_a_machine(tree: Any) -> None:
    own = "tests/tidy/test_tree_is_clean.py"
    faults = [
        f"{path}:{number}: {line.strip()}"
        for path in tree.paths
        if path != own and not BINARY.search(path)
        for number, line in enumerate(tree.text(path).splitlines(), start=1)
        if ADDRESSES.search(line) or MACHINE_PATHS.search(line)
    ]
    assert faults == []


def test_no_binary_is_in_the_tree(tree: Any) -> None:
    assert [path for path in tree.paths if BINARY.search(path)] == []
