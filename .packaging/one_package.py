"""Builds the wheel with a single top-level package, so that it clashes with nothing in a vendor's environment.

In this repository `producer`, `consumers`, `sandbox` and `schemas` are folders beside the library `trekkpaalegg`. As
top-level packages those names are too generic: pip would silently overwrite another distribution's `schemas`. The wheel
therefore has them below the library, as `trekkpaalegg.producer` and so on, with their import statements rewritten to
match. Nothing else is changed; an editable installation uses the folders as they are.
"""

from __future__ import annotations

import ast
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "trekkpaalegg"
MOVED = ("producer", "consumers", "sandbox", "schemas")


class OnePackage(BuildHookInterface[Any]):
    """Hatchling's hook: prepares the wheel's files in a temporary folder, which is removed afterwards."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to the wheel. An editable wheel only points to the repository."""
        if version == "editable":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="trekkpaalegg-wheel-"))
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        root = Path(self.root)
        shutil.copytree(root / LIBRARY, self._folder / LIBRARY, ignore=ignore)
        for name in MOVED:
            shutil.copytree(root / name, self._folder / LIBRARY / name, ignore=ignore)
        for path in self._folder.rglob("*.py"):
            path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
        scripts = self.metadata.core.scripts
        scripts.update({program: f"{LIBRARY}.{entry}" for program, entry in scripts.items()})
        build_data["force_include"][str(self._folder / LIBRARY)] = LIBRARY

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - the interface
        """Remove the temporary folder."""
        if version != "editable":
            shutil.rmtree(self._folder)


def rewritten(source: str) -> str:
    """The same module with imports of the moved packages taken from below the library.

    Raises ValueError for an import that binds the name of a moved package and its submodule at once
    (`import producer.domain`), which has no equivalent.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and _is_moved(node.module):
            _replace(lines, node.lineno, f"from {node.module}", f"from {LIBRARY}.{node.module}")
        elif isinstance(node, ast.Import):
            for name in [alias for alias in node.names if _is_moved(alias.name)]:
                if name.asname is None and "." in name.name:
                    raise ValueError(f"line {node.lineno}: write `from … import …` instead of `import {name.name}`")
                new = f"from {LIBRARY} import {name.name}" if "." not in name.name else f"import {LIBRARY}.{name.name}"
                _replace(lines, node.lineno, f"import {name.name}", new)
    return "".join(lines)


def _is_moved(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in MOVED


def _replace(lines: list[str], number: int, old: str, new: str) -> None:
    if old not in lines[number - 1]:
        raise ValueError(f"line {number}: expected {old!r}")
    lines[number - 1] = lines[number - 1].replace(old, new, 1)
