"""Where the sandbox fetches jars from, and that none is used whose checksum is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.servers.java import FetchError, central_mirror, check_file, mirrors_central

if TYPE_CHECKING:
    from pathlib import Path


# Where jars are fetched follows Maven's own settings
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
def test_a_mirror_is_chosen_when_its_pattern_covers_central(mirror_of: str, *, taken: bool) -> None:
    assert mirrors_central(mirror_of) is taken


def test_the_first_file_with_a_mirror_of_central_decides(tmp_path: Path) -> None:
    (tmp_path / "plain.xml").write_text("<settings><mirrors/></settings>", encoding="utf-8")
    (tmp_path / "house.xml").write_text(SETTINGS, encoding="utf-8")
    files = [tmp_path / name for name in ("missing.xml", "plain.xml", "house.xml")]
    assert central_mirror(files) == "https://jars.example.org/maven"
    assert central_mirror(files[:2]) is None


# A fetched file with a wrong checksum is never used


@pytest.mark.parametrize("name", ["kafka_2.13-4.3.1.jar", "never-chosen.jar"])
def test_a_file_with_an_unlisted_checksum_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(FetchError, match=name):
        check_file(tmp_path / name)
