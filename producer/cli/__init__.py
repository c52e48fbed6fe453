"""The command line of the producer: one module for each command or family of commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from trekkpaalegg.cli import Output, extra_hint
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from producer.settings.model import Need, Settings

PROGRAM = "trekkpaalegg-producer"
KAFKA: frozenset[Need] = frozenset({"kafka"})
"""What a command needs that only talks to Kafka."""

_log = structlog.get_logger(__name__)


def example(arguments: str) -> str:
    """The last line of a command's help."""
    return f"Example: {PROGRAM} {arguments}"


def output(*, as_json: bool = False) -> Output:
    """Where a command prints."""
    return Output(PROGRAM, as_json=as_json)


def settings_of(env_file: Path | None, needs: frozenset[Need], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a command; logs their warnings. `environ` are the variables, None for those of this process.

    Raises `SettingsError`, and `FatalError` when the packages of the producer's extra are not installed.
    """
    try:
        from producer.settings.model import load_settings  # noqa: PLC0415 - `--version` and completion do without
    except ModuleNotFoundError as error:
        raise FatalError(extra_hint(PROGRAM, error.name or "a package", "producer")) from error

    settings = load_settings(env_file, os.environ if environ is None else environ, needs=needs)
    for warning in settings.warnings:
        _log.warning(warning)
    return settings
