"""Reports the longest modules and functions, as places to look at. It never fails: length follows from the subject."""

from __future__ import annotations

import ast
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("trekkpaalegg", "producer", "consumers", "schemas", "sandbox", "tests")
SHOWN = 8


def main() -> None:
    """Print both lists, longest first."""
    modules: list[tuple[int, str]] = []
    functions: list[tuple[int, str]] = []
    for path in chain.from_iterable((ROOT / folder).rglob("*.py") for folder in FOLDERS):
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(ROOT))
        modules.append((text.count("\n"), name))
        functions += [
            ((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}:{node.lineno} {node.name}")
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    for title, found in (("modules", modules), ("functions", functions)):
        print(f"Longest {title}, in lines:")
        for lines, name in sorted(found, reverse=True)[:SHOWN]:
            print(f"  {lines:5} {name}")


if __name__ == "__main__":
    main()
