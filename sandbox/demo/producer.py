"""The producer as a child process that can be killed, paused, stopped and waited for."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from sandbox.servers.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SETTING_PREFIXES = ("TREKKPAALEGG_", "MASKINPORTEN_", "KAFKA_")
_BEFORE_SANDBOX = __name__.removesuffix("sandbox.demo.producer")
"""Empty in the repository; in an installed wheel, the package that all programs are in."""


def module_of(package: str) -> str:
    """The module that `python -m` runs for `producer` or `consumers`."""
    return _BEFORE_SANDBOX + package


PRODUCER = (sys.executable, "-m", module_of("producer"))


class ProducerProcess(ServerProcess):
    """`trekkpaalegg-producer` with these arguments; it ends with this process, and has no settings but those given.

    `program` is what is run instead, with the same arguments.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        *,
        program: Sequence[str] = PRODUCER,
    ) -> None:
        inherited = [name for name in os.environ if name.startswith(_SETTING_PREFIXES) and name not in environment]
        without = [part for name in inherited for part in ("-u", name)]
        super().__init__(
            "producer",
            ["/usr/bin/env", *without, *program, *arguments],
            log_file=log_file,
            environment=environment,
            working_folder=log_file.parent,
        )

    def log_entries(self) -> list[dict[str, Any]]:
        """What it has logged so far; lines that are no JSON object are left out."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def has_logged(self, event: str) -> bool:
        """Whether an entry with this `event` is in the log."""
        return any(entry.get("event") == event for entry in self.log_entries())
