"""Options that several commands take, and what they lead to: the settings read, a question asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from producer.settings import load_settings

if TYPE_CHECKING:
    from producer.settings import Need, Settings

PROGRAM = "trekkpaalegg-producer"

EnvFile = Annotated[
    Path | None,
    typer.Option("--env-file", help="Read settings from this file too; the environment wins.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_log = structlog.get_logger(__name__)


def example(arguments: str) -> str:
    """The last line of a command's help."""
    return f"Example: {PROGRAM} {arguments}"


def ask(question: str, *, yes: bool) -> None:
    """Go on only if the answer is yes, or was given beforehand."""
    if not yes:
        typer.confirm(question, abort=True, err=True)


def settings_of(env_file: Path | None, needs: frozenset[Need]) -> Settings:
    """The settings of a command, what is odd about them told. Raises `SettingsError`."""
    settings = load_settings(env_file, os.environ, needs=needs)
    for warning in settings.warnings:
        _log.warning(warning)
    return settings
