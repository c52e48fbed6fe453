"""Sizes in, the simulated world in a process of its own out: for measurements that must not share an interpreter."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import httpx

from sandbox.process import ServerProcess

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

    def control(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401  # JSON both ways
        """One command of the control address; httpx.HTTPStatusError if it is refused."""
        answer = httpx.post(f"{self.control_url}/{command}", json=arguments, timeout=_CONTROL_SECONDS)
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
