"""No module and no function grows beyond what can be read in one go."""

from __future__ import annotations

import ast
from typing import Any

MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60


def test_modules_are_short(tree: Any) -> None:
    faults = []
    for path in tree.all_python:
        lines = len(tree.text(path).splitlines())
        if lines > MODULE_LINES_MAX:
            faults.append(f"{path}: {lines} lines")
    assert faults == []


def test_functions_are_short(tree: Any) -> None:
    faults = []
    for path in tree.all_python:
        for node in ast.walk(ast.parse(tree.text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    faults.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
    assert faults == []


def test_every_module_says_what_it_is_for(tree: Any) -> None:
    faults = [path for path in tree.all_python if not ast.get_docstring(ast.parse(tree.text(path)))]
    assert faults == []
