"""The tree as the tidy tests see it: every file that is, or would be, in git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("producer", "consumers", "schemas", "sandbox")


class Tree:
    """Files by their path from the root, and their text."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607  git is where it is
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.paths = sorted(path for path in set(listing.splitlines()) if (root / path).is_file())

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
