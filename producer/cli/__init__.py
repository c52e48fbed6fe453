"""The command line of the producer: one module for each command or family of commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from trekkpaalegg.cli import Output

if TYPE_CHECKING:
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


def settings_of(env_file: Path | None, needs: frozenset[Need]) -> Settings:
    """The settings of a command; logs their warnings. Raises `SettingsError`."""
    from producer.settings.model import load_settings  # noqa: PLC0415 - `--version` and completion do without

    settings = load_settings(env_file, os.environ, needs=needs)
    for warning in settings.warnings:
        _log.warning(warning)
    return settings
