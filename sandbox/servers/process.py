"""A server as a child process that never outlives the process that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LAST_LINES_MAX = 25

# The child is this shell, which leaves a watchdog behind and then becomes the server itself (same pid).
# The watchdog reads from a pipe that only the parent can write to. The word `done` sends it home; an end of file
# means that the parent is gone, by whatever death, and then it ends the server and removes a temporary folder.
# It is there before the server is, so there is no moment at which a dying parent leaves a server behind.
# It stays in the server's process group, which keeps the kernel from giving the server's pid to another process.
# PR_SET_PDEATHSIG is not used: it fires when the *thread* that started the server ends.
_WATCHED = """
signal=$1 folder=$2
shift 2
exec 3<&0 </dev/null
( {
  PATH=/usr/bin:/bin
  read -r word <&3
  if [ "$word" != done ]; then
    kill -s "$signal" $$
    tries=0
    while kill -0 $$ && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -s KILL $$
    [ -z "$folder" ] || rm -rf -- "$folder"
  fi
} >/dev/null 2>&1 & )
exec "$@" 3<&-
"""


class ServerStartError(Exception):
    """A server did not become ready; the message ends with the last lines of its log."""


class ServerProcess:
    """A running server, in a session of its own, so that Ctrl-C in a terminal reaches the parent alone.

    Everything it writes goes to `log_file`. If the parent dies, the server gets `orphan_signal` (and SIGKILL after
    5 seconds), and `temporary_folder`, if given, is removed. A parent that forks without exec keeps the server alive
    until the fork has ended too.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
        working_folder: Path | None = None,
        orphan_signal: str = "KILL",
        temporary_folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._orphan_signal = orphan_signal
        self._temporary_folder = temporary_folder
        self._child = self._start(command, environment or {}, working_folder)

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], working_folder: Path | None
    ) -> subprocess.Popen[bytes]:
        folder = "" if self._temporary_folder is None else str(self._temporary_folder)
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", _WATCHED, f"watchdog-{self.name}", self._orphan_signal, folder, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                cwd=working_folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        return self._child.pid

    def is_running(self) -> bool:
        """Whether the server has not ended; a paused server is running."""
        return self._child.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], *, deadline_seconds: float) -> None:
        """Return when `is_ready` says so.

        Raises `ServerStartError` when the server ends first or the deadline passes; the server is then stopped.
        """
        deadline = time.monotonic() + deadline_seconds
        while self.is_running() and time.monotonic() < deadline:
            if is_ready():
                return
            time.sleep(0.05)
        ended = f"ended with exit code {self._child.returncode}" if not self.is_running() else None
        self.kill()
        raise ServerStartError(
            f"{self.name} {ended or f'was not ready within {deadline_seconds:g} s'}. "
            f"Last lines of {self.log_file}:\n{self.last_lines()}"
        )

    def last_lines(self) -> str:
        """The end of the log, at most `LAST_LINES_MAX` lines."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES_MAX:])

    def stop(self, *, stop_signal: signal.Signals = signal.SIGTERM, deadline_seconds: float = 15) -> None:
        """End the server: `stop_signal`, and SIGKILL when the deadline has passed. Does nothing twice."""
        if self.is_running():
            self._child.send_signal(stop_signal)
            self._child.send_signal(signal.SIGCONT)  # a paused process takes no other signal
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(deadline_seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        self._child.kill()
        self._child.wait()
        self._dismiss_watchdog()

    def send_signal(self, number: signal.Signals) -> None:
        """Send one signal, and do not wait."""
        self._child.send_signal(number)

    def wait(self, deadline_seconds: float) -> int:
        """The exit code, negative for a signal that ended it. Raises `TimeoutError` when it runs on."""
        try:
            code = self._child.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{self.name} has not ended within {deadline_seconds:g} s. Last lines of its log:\n{self.last_lines()}"
            ) from None
        self._dismiss_watchdog()
        return code

    def pause(self) -> None:
        """SIGSTOP: the server keeps its connections and answers nothing.

        Waits until every thread has stopped: on a busy machine some run on for a while after the signal, and answer.
        """
        self._child.send_signal(signal.SIGSTOP)
        if self.is_running():
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._child.send_signal(signal.SIGCONT)

    def _dismiss_watchdog(self) -> None:
        pipe = self._child.stdin
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(b"done\n")
                pipe.flush()
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def print_last_lines(processes: Sequence[ServerProcess]) -> None:
    """Print the ends of the logs of the newest three."""
    for each in processes[-3:]:
        print(f"{each.log_file.name}:\n{each.last_lines()}")
