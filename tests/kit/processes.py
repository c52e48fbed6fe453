"""The programs and the simulated world as child processes."""

from __future__ import annotations

import itertools
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from sandbox.demo.program import ProgramProcess
from sandbox.servers.process import ServerProcess
from tests.kit.forking import ForkedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


PRODUCER = (sys.executable, "-m", "producer")
CONSUMER = (sys.executable, "-m", "consumers")


def document(output: str) -> Any:
    """The JSON document among the log lines."""
    start = min(found.start() for found in re.finditer(r"^(\[|\{$)", output, re.MULTILINE))
    return json.JSONDecoder().raw_decode(output[start:])[0]


class ProducerProcess(ProgramProcess):
    """`trekkpaalegg-producer` with these arguments."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        *,
        program: Sequence[str] = PRODUCER,
    ) -> None:
        super().__init__(arguments, environment, log_file, program=program)


class ForkedProducer(ForkedProcess, ProducerProcess):
    """`trekkpaalegg-producer` with these arguments, as `ProducerProcess`, ready a second sooner."""


class ConsumerProcess(ForkedProcess, ProgramProcess):
    """`trekkpaalegg-consumer` with these arguments, ready a second sooner."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        *,
        program: Sequence[str] = CONSUMER,
    ) -> None:
        super().__init__(arguments, environment, log_file, program=program)


VERIFY_SECONDS_MAX = 180.0


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


_START_SECONDS = 300.0
_CONTROL_SECONDS = 300.0


class OutsideProcess:
    """`trekkpaalegg-sandbox api` as a child that ends with its parent; steered by its control address."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trekkpaalegg-outside-")
        self._log_file = Path(self._folder.name) / "log"
        self._options = options
        self._process: ServerProcess | None = None
        self._said: dict[str, Any] = {}

    @property
    def api_url(self) -> str:
        """Base of the API, up to and with `/v1`."""
        return str(self._said["api_url"])

    @property
    def well_known_url(self) -> str:
        """Where the simulated Maskinporten describes itself."""
        return str(self._said["well_known_url"])

    @property
    def altinn_url(self) -> str:
        """Base of the simulated Altinn."""
        return str(self._said["altinn_url"])

    @property
    def control_url(self) -> str:
        """Base of the control address."""
        return str(self._said["control_url"])

    @property
    def trekkpliktige(self) -> list[str]:
        """The employers it was started with."""
        return list(self._said["trekkpliktige"])

    @property
    def pid(self) -> int:
        """Process id, for measuring its CPU time and memory. RuntimeError if it is not running."""
        if self._process is None:
            raise RuntimeError("the simulated world is not running")
        return self._process.pid

    def environment(self, trekkpliktige: list[str], authentication: str = "systembruker") -> dict[str, str]:
        """The contract's variables for a producer that serves these employers."""
        said = self.control("environment", trekkpliktige=trekkpliktige, authentication=authentication)
        return {str(name): str(value) for name, value in said.items()}

    def control(self, command: str, **arguments: Any) -> Any:  # JSON both ways
        """One command of the control address; httpx.HTTPStatusError if it is refused."""
        # It never speaks TLS, whose set-up takes 40 ms.
        address = f"{self.control_url}/{command}"
        answer = httpx.post(address, json=arguments, timeout=_CONTROL_SECONDS, verify=False)  # noqa: S501 - see above
        answer.raise_for_status()
        return answer.json()

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "sandbox", "api", "--json", *self._options]
        self._process = ServerProcess("outside", command, log_file=self._log_file, orphan_signal="TERM")
        self._process.wait_until(self._has_spoken, deadline_seconds=_START_SECONDS)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None
        self._folder.cleanup()

    def _has_spoken(self) -> bool:
        text = self._log_file.read_text(encoding="utf-8")
        if not text.endswith("\n"):
            return False
        try:
            self._said = json.loads(text.splitlines()[-1])
        except ValueError:
            return False
        return True
