"""What a command has to say in, text or JSON on stdout and remarks on stderr out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table


class Output:
    """Where a command prints. With `as_json` it prints one JSON document and nothing else on stdout."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    def json(self, document: object) -> None:
        """Print the document of a command that was asked for JSON."""
        self._out.print(json.dumps(document, ensure_ascii=False, indent=2), markup=False)

    def table(self, table: Table) -> None:
        """Print a table."""
        Console(highlight=False, width=None if self._out.is_terminal else 200).print(table)

    def line(self, text: str) -> None:
        """Print a line of the result."""
        self._out.print(text, markup=False)

    def note(self, text: str) -> None:
        """Print a remark that is no part of the result."""
        self._err.print(text, markup=False)
