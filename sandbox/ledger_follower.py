"""A stream's settings and a ledger's URL in, a consumer that follows it and `verify` out, as child processes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from sandbox.consumer_process import ConsumerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERIFY_SECONDS_MAX = 90.0


class LedgerFollower:
    """Everything that was started ends with `close`. `settings` are the stream's, those of its source among them."""

    def __init__(self, settings: Mapping[str, str], ledger: str, folder: Path) -> None:
        self._settings = settings
        self._ledger = ledger
        self._folder = folder
        self._started: list[ConsumerProcess] = []
        self._numbers = itertools.count(1)

    def begin(self, *arguments: str) -> ConsumerProcess:
        """Start a consumer with this command line and do not wait."""
        log_file = self._folder / f"follower-{next(self._numbers)}.log"
        process = ConsumerProcess(arguments, {**self._settings, "TREKKPAALEGG_LEDGER": self._ledger}, log_file)
        self._started.append(process)
        return process

    def run(self) -> ConsumerProcess:
        """The service that applies events to the ledger."""
        return self.begin("run")

    def verify(self) -> tuple[int, str]:
        """Exit code and words of `verify --ledger --api`: topics, ledger and source against each other."""
        process = self.begin("verify", "--ledger", self._ledger, "--api", "--every-version")
        return process.wait(VERIFY_SECONDS_MAX), process.last_lines()

    def close(self) -> None:
        """End them all."""
        for process in self._started:
            process.kill()
