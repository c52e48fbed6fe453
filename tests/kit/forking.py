"""Start programs of this project in milliseconds: fork them from a process that has imported all of them already.

A program started by `python -m` spends a second or two of CPU time on imports. End-to-end tests start hundreds. Here a
fork server, one for each process that runs tests, imports every module of producer and consumers once. A program is
then a child of it, with a process id, arguments, environment, working folder and log file of its own, that runs its
`__main__` and ends as an interpreter does. What the start of Python itself is part of, such as signals in the first
moments, is tested by programs that are started the ordinary way.

    python -m tests.kit.forking SOCKET
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sandbox.servers.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PACKAGES = ("trekkpaalegg", "producer", "consumers")
_START_SECONDS_MAX = 300.0
_STOPPED_SECONDS_MAX = 30.0
_REQUEST_BYTES_MAX = 1 << 20
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class ForkedProcess(ServerProcess):
    """As `ServerProcess`, for commands such as `python -m producer run` or `python script.py`: forked, not started.

    If this process dies, the program gets SIGKILL.
    """

    def _start(self, command: Sequence[str], environment: Mapping[str, str], working_folder: Path | None) -> Any:
        words = list(command)
        environment = {**os.environ, **environment}
        if words[0] == "/usr/bin/env":
            del words[0]
            while words[0] == "-u":
                environment.pop(words[1], None)
                del words[:2]
        if words[0] != sys.executable:
            raise ValueError(f"not a Python program: {words[0]}")
        self.log_file.touch()
        request = {
            "words": words[1:],
            "environment": environment,
            "folder": str(working_folder or Path.cwd()),
            "log": str(self.log_file),
        }
        return _Child(_fork_server(), request)

    def pause(self) -> None:
        """SIGSTOP; returns when every thread has stopped."""
        self.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOPPED_SECONDS_MAX
        while self.is_running() and not _is_stopped(self.pid):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not stopped")
            time.sleep(0.001)


def _is_stopped(pid: int) -> bool:
    states = set()
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.add(task.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0])
    return states == {"T"}


class _Child:
    """A forked program, with the part of `subprocess.Popen` that `ServerProcess` uses."""

    stdin = None

    def __init__(self, address: str, request: Mapping[str, Any]) -> None:
        self.returncode: int | None = None
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.connect(address)
        self._server.send(json.dumps(request).encode())
        self.pid = int(self._server.recv(64))

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._receive(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired`."""
        code = self._receive(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send one, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _receive(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._server], [], [], timeout)[0]:
            told = self._server.recv(64)
            self._server.close()
            # The server has died, and all its children with it.
            self.returncode = int(told) if told else -signal.SIGKILL
        return self.returncode


@cache
def _fork_server() -> str:
    """Address of this process's fork server, which ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="trekkpaalegg-forking-"))
    address = folder / "socket"
    command = [sys.executable, "-m", "tests.kit.forking", str(address)]
    root = Path(__file__).parents[2]
    server = ServerProcess(
        "fork-server", command, log_file=folder / "log", working_folder=root, temporary_folder=folder
    )
    atexit.register(server.kill)
    server.wait_until(address.exists, deadline_seconds=_START_SECONDS_MAX)
    return str(address)


def _serve(address: str) -> dict[str, Any]:
    """Fork a child for each request, and report its process id and its exit code. Returns in a child: its request."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Listening first under another name: whoever sees the socket may connect.
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(f"{address}.new")
    server.listen(64)
    Path(f"{address}.new").rename(address)
    callers: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([server.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _report_ended(callers)
        if server.fileno() in ready:
            caller, _ = server.accept()
            request: dict[str, Any] = json.loads(caller.recv(_REQUEST_BYTES_MAX))
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (server, caller, *callers.values()):
                    each.close()
                os.close(woken)
                os.close(wake)
                return request
            caller.send(str(pid).encode())
            callers[pid] = caller


def _report_ended(callers: dict[int, socket.socket]) -> None:
    while callers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with callers.pop(pid) as caller, contextlib.suppress(OSError):
            caller.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], die_with_parent: Any) -> None:
    """Make this process what the request wants, and run its program."""
    os.setsid()
    die_with_parent()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for kept, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(kept, number)
    os.close(log)
    os.close(null)
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    words = request["words"]
    try:
        _run(words)
    except SystemExit as ending:
        _end(ending.code)
    except Exception:  # noqa: BLE001 - as an interpreter does
        traceback.print_exc()
        _end(1)
    _end(0)


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


def _end(code: object) -> NoReturn:
    """As an interpreter ends, save that imported modules are not torn down, which takes 90 ms of CPU time."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads that are no daemons
    atexit._run_exitfuncs()  # noqa: SLF001 - what the program has registered
    gc.collect()  # clients that were left open disconnect
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _import_everything() -> None:
    for package in map(importlib.import_module, _PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".__main__") and ".migrations" not in module.name:
                importlib.import_module(module.name)
    importlib.import_module("producer.source.http").tls_context()


def main() -> None:
    """Run the server; in its children, the programs."""
    _import_everything()
    libc = ctypes.CDLL(None)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("an import has started a thread: a process with threads cannot be forked safely")
    gc.collect()
    gc.freeze()
    _become(_serve(sys.argv[1]), lambda: libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL))


if __name__ == "__main__":
    main()
