"""The command line of the consumers: one module for each command."""

from __future__ import annotations

from typing import Annotated

import typer

from trekkpaalegg.cli import Output

PROGRAM = "trekkpaalegg-consumer"

_output = Output(PROGRAM)
note, write = _output.note, _output.write

LedgerUrl = Annotated[
    str | None, typer.Option("--ledger", help="postgresql://… or sqlite:///…; else TREKKPAALEGG_LEDGER.", metavar="URL")
]
