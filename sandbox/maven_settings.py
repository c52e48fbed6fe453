"""The Maven settings of this user and machine come in; out goes where to fetch what Maven Central holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterable

CENTRAL = "central"


def settings_files() -> list[Path]:
    """Where Maven looks, in its order: the user's file, then that of the installation."""
    installation = Path(os.environ.get("MAVEN_HOME") or "/etc/maven")
    return [Path.home() / ".m2" / "settings.xml", installation / "conf" / "settings.xml", installation / "settings.xml"]


def central_mirror(files: Iterable[Path]) -> str | None:
    """Address of the first mirror of Maven Central in `files`, without a slash at its end; None if there is none.

    Passwords of mirrors are not read: such a mirror needs them in `~/.netrc`, from where they are taken.
    Source: Apache Maven, "Using Mirrors for Repositories".
    """
    for file in files:
        if not file.is_file():
            continue
        tree = ET.parse(file)  # noqa: S314 - the user's own settings file, which Maven trusts as well
        for mirror in tree.iterfind("{*}mirrors/{*}mirror"):
            address = (mirror.findtext("{*}url") or "").strip()
            if address and mirrors_central(mirror.findtext("{*}mirrorOf") or ""):
                return address.rstrip("/")
    return None


def mirrors_central(mirror_of: str) -> bool:
    """Whether a `mirrorOf` pattern takes in the repository `central`, which is neither local nor plain HTTP."""
    patterns = [pattern.strip() for pattern in mirror_of.split(",")]
    return f"!{CENTRAL}" not in patterns and any(pattern in {"*", "external:*", CENTRAL} for pattern in patterns)
