"""What all embedded servers share: data folder, ports, and to start, stop, kill, pause and resume."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from sandbox.servers.process import ServerStartError

if TYPE_CHECKING:
    from types import TracebackType

    from sandbox.servers.process import ServerProcess

LOOPBACK = "127.0.0.1"

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): a server that is stopped
# and started again must find its port still free.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS_MAX = 200


class Server(ABC):
    """A context manager: it has started inside the block, and is closed behind it, also when the start fails."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Start, and return when it answers; also after a stop."""

    @abstractmethod
    def close(self) -> None:
        """Stop for good, and remove what was temporary."""


class EmbeddedServer(Server):
    """A real server on 127.0.0.1, as a context manager; it ends when this process ends, however that happens.

    Without `data_folder` the data live in a temporary folder that is removed at the end; a chosen folder is made
    if it is missing, and kept. Ports and data stay the same over `stop` (or `kill`) and `start`.
    """

    name: ClassVar[str]

    def __init__(self, data_folder: Path | None = None) -> None:
        self._chosen_folder = data_folder
        self._folder: Path | None = None
        self._process: ServerProcess | None = None

    @property
    def data_folder(self) -> Path:
        """Folder of data and log; made on first use."""
        if self._folder is None:
            if self._chosen_folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix=f"trekkpaalegg-{self.name}-"))
            else:
                self._folder = self._chosen_folder.resolve()
                self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    @property
    def log_file(self) -> Path:
        """What the server has written, over all its starts."""
        return self.data_folder / f"{self.name}.log"

    @property
    def temporary_folder(self) -> Path | None:
        """The data folder if it is to vanish with the server, else None."""
        return self.data_folder if self._chosen_folder is None else None

    @property
    def pid(self) -> int:
        """Process id. Raises `RuntimeError` when the server has been stopped or never started."""
        return self._running().pid

    def is_running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._process is not None and self._process.is_running()

    def last_lines(self) -> str:
        """The end of the log, for a message. Raises `RuntimeError` before the first `start` and after `stop`."""
        return self._running().last_lines()

    def start(self) -> None:
        """Start and return when the server answers; also after `stop` or `kill`, on the same ports and data.

        Raises `ServerStartError` with the last lines of the log.
        """
        if not self.is_running():
            for port in self._ports():
                if not is_free(port):
                    raise ServerStartError(f"port {port} of {LOOPBACK} is in use; choose another, or 0 for a free one")
            self.stop()  # one that has ended by itself leaves its watchdog
            self._process = self._launch()

    def stop(self) -> None:
        """Stop cleanly; the data stay for another `start`."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL: the server gets no chance to tidy up; the data stay for another `start`."""
        self._running().kill()
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self._running().pause()

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._running().resume()

    def close(self) -> None:
        """Stop, and remove a temporary data folder."""
        self.stop()
        if self._chosen_folder is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @abstractmethod
    def _ports(self) -> tuple[int, ...]:
        """Every port it listens on."""

    @abstractmethod
    def _launch(self) -> ServerProcess:
        """Start the process and wait until it answers."""

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process


def free_port() -> int:
    """A TCP port on 127.0.0.1 on which nothing listens now. Raises `RuntimeError` if none is found."""
    for _ in range(_PORT_ATTEMPTS_MAX):
        port = secrets.choice(_PORTS)
        if is_free(port):
            return port
    raise RuntimeError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on the port of 127.0.0.1."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False
