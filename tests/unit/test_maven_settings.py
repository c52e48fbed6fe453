"""Where jars are fetched follows Maven's own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.servers.java import central_mirror, mirrors_central

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """<settings xmlns="urn:settings"><mirrors>
  <mirror><id>blocker</id><mirrorOf>external:http:*</mirrorOf><url>http://0.0.0.0/</url></mirror>
  <mirror><id>house</id><mirrorOf>*,!internal</mirrorOf><url> https://jars.example.org/maven/ </url></mirror>
</mirrors></settings>"""


@pytest.mark.parametrize(
    ("mirror_of", "taken"),
    [
        ("*", True),
        ("central", True),
        ("external:*", True),
        ("internal, central", True),
        ("*,!central", False),
        ("external:http:*", False),
        ("internal", False),
        ("", False),
    ],
)
def test_a_mirror_is_taken_when_its_pattern_covers_central(mirror_of: str, *, taken: bool) -> None:
    assert mirrors_central(mirror_of) is taken


def test_the_first_file_with_a_mirror_of_central_decides(tmp_path: Path) -> None:
    (tmp_path / "plain.xml").write_text("<settings><mirrors/></settings>", encoding="utf-8")
    (tmp_path / "house.xml").write_text(SETTINGS, encoding="utf-8")
    files = [tmp_path / name for name in ("missing.xml", "plain.xml", "house.xml")]
    assert central_mirror(files) == "https://jars.example.org/maven"
    assert central_mirror(files[:2]) is None
