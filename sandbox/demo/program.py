"""The producer and the consumers as child processes that can be killed, paused, stopped and waited for."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.demo.narrator import ClaimError
from sandbox.servers.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SETTING_PREFIXES = ("TREKKPAALEGG_", "MASKINPORTEN_", "KAFKA_")
_BEFORE_SANDBOX = __name__.removesuffix("sandbox.demo.program")
"""Empty in the repository; in an installed wheel, the package that all programs are in."""
_PROGRAM_SECONDS_MAX = 180.0
_START_SECONDS_MAX = 90.0
_STOP_SECONDS_MAX = 15.0
# What a program says on stderr goes to a file of its own: the first argument.
_ERRORS_APART = 'errors=$1; shift; exec "$@" 2>"$errors"'


class ProgramProcess(ServerProcess):
    """A program of this project with these arguments; it ends with this process, and has no settings but those given.

    `program` is the command that the arguments are added to. What it prints and what it logs go to `log_file`.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log_file: Path, *, program: Sequence[str]
    ) -> None:
        inherited = [name for name in os.environ if name.startswith(_SETTING_PREFIXES) and name not in environment]
        without = [part for name in inherited for part in ("-u", name)]
        super().__init__(
            log_file.stem,
            ["/usr/bin/env", *without, *program, *arguments],
            log_file=log_file,
            environment=environment,
            working_folder=log_file.parent,
        )
        self._entries: list[dict[str, Any]] = []
        self._bytes_parsed = 0

    def log_entries(self) -> list[dict[str, Any]]:
        """What it has logged so far; lines that are no JSON object are left out."""
        with self.log_file.open("rb") as log:
            log.seek(self._bytes_parsed)
            *lines, _unfinished = log.read().split(b"\n")
        self._bytes_parsed += sum(len(line) + 1 for line in lines)
        objects = [line for line in lines if line.startswith(b"{") and line.endswith(b"}")]
        self._entries += [json.loads(line.decode(errors="replace")) for line in objects]
        return self._entries

    def has_logged(self, event: str) -> bool:
        """Whether an entry with this `event` is in the log."""
        return any(entry.get("event") == event for entry in self.log_entries())


class Ended(NamedTuple):
    """A program that has ended: its exit code, and what it said on stdout and on stderr."""

    code: int
    stdout: str
    stderr: str


class Program:
    """A program of this project as a child: `module` is producer or consumers."""

    def __init__(self, module: str, arguments: Sequence[str], environment: dict[str, str], files: Path) -> None:
        self._errors = files.with_suffix(".err")
        command = (sys.executable, "-m", _BEFORE_SANDBOX + module)
        self._process = ProgramProcess(
            arguments,
            environment,
            files.with_suffix(".out"),
            program=("/bin/sh", "-c", _ERRORS_APART, module, str(self._errors), *command),
        )
        self._memory_bytes = 0

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def stderr_text(self) -> str:
        """What it has said on stderr so far."""
        return self._errors.read_text(encoding="utf-8", errors="replace") if self._errors.exists() else ""

    def stdout_text(self) -> str:
        """What it has said on stdout so far."""
        return self._process.log_file.read_text(encoding="utf-8", errors="replace")

    def check_running(self) -> None:
        """Raises `ClaimError` with its last words when it has ended by itself."""
        if not self._process.is_running():
            last = self.stderr_text().splitlines()[-1:] or ["and said nothing"]
            raise ClaimError(f"the program has ended by itself: {last[0]}")
        self._note_memory()

    def wait(self, seconds_max: float = _PROGRAM_SECONDS_MAX) -> Ended:
        """Wait until it has ended. Raises `ClaimError` when it does not."""
        try:
            code = self._process.wait(seconds_max)
        except TimeoutError as error:
            raise ClaimError(f"a program has not ended within {seconds_max:g} s") from error
        return Ended(code, self.stdout_text(), self.stderr_text())

    def wait_for_words(self, words: str) -> None:
        """Wait until it has said this on stderr. Raises `ClaimError` when it does not."""
        deadline = time.monotonic() + _START_SECONDS_MAX
        while words not in self.stderr_text():
            self.check_running()
            if time.monotonic() > deadline:
                raise ClaimError(f"the program has not said {words!r} within {_START_SECONDS_MAX:g} s")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to tidy up."""
        self._note_memory()
        self._process.kill()

    def stop(self) -> tuple[Ended, float]:
        """SIGTERM; how it ended, and in how many seconds."""
        self._note_memory()
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        ended = self.wait(_STOP_SECONDS_MAX)
        return ended, time.monotonic() - begun

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    @property
    def memory_bytes(self) -> int:
        """The most memory that was observed."""
        return self._memory_bytes

    def _note_memory(self) -> None:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self._memory_bytes = max(self._memory_bytes, int(line.split()[1]) * 1024)
