"""The tree as the tidy tests see it: every file that is, or would be, in git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("producer", "consumers", "schemas", "sandbox")


# What a working folder holds besides: looked at only where there is no git to ask.
IGNORED = {".git", ".venv", ".data", "dist", "__pycache__", "node_modules"}


def _listed(root: Path) -> set[str]:
    if shutil.which("git") is None:
        found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        return {str(path) for path in found if not any(_is_ignored(part) for part in path.parts)}
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607  git is where it is
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listing.stdout.splitlines())


def _is_ignored(part: str) -> bool:
    return part in IGNORED or part.endswith("_cache") or part in {".hypothesis", ".env"}


class Tree:
    """Files by their path from the root, and their text."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = sorted(path for path in _listed(root) if (root / path).is_file())

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def python(self, *folders: str) -> list[str]:
        """Python files in these top folders."""
        return [path for path in self.paths if path.endswith(".py") and path.split("/")[0] in folders]

    @property
    def product(self) -> list[str]:
        """Python files of everything but the tests."""
        return self.python(*PRODUCT)

    @property
    def all_python(self) -> list[str]:
        """Python files of everything."""
        return self.python(*PRODUCT, "tests")


@pytest.fixture(scope="session")
def tree() -> Tree:
    return Tree(ROOT)
