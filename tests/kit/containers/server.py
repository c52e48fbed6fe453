"""What all servers in containers share: to start, stop, kill, pause and resume them.

The words are those of `sandbox.servers.server.EmbeddedServer`, so that a test runs on either.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, cast

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.wait_strategies import WaitStrategy

from sandbox.servers.process import LAST_LINES_MAX, ServerStartError
from sandbox.servers.server import LOOPBACK, Server
from tests.kit.containers.engine import EngineError, translated, trouble_of_image
from tests.kit.containers.watchdog import watch_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from testcontainers.core.waiting_utils import WaitStrategyTarget

    from tests.kit.containers.images import Image

START_SECONDS_MAX = 180
STOP_SECONDS_MAX = 15

_POLL_SECONDS = 0.2
_ENDED = {"exited", "dead", "removing"}


class Answers(WaitStrategy):
    """Ready when the server answers its own clients, through the published port; also after a restart.

    A log line would be there from the start before; a port is open as soon as the engine forwards it.
    """

    def __init__(self, answers: Callable[[], bool]) -> None:
        super().__init__()
        self._answers = answers
        self.with_startup_timeout(START_SECONDS_MAX).with_poll_interval(_POLL_SECONDS)

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        """Return when it answers. Raises `ServerStartError` when it ends first or the deadline passes."""
        has_ended = False

        def is_decided() -> bool:
            nonlocal has_ended
            container.reload()
            has_ended = container.status in _ENDED
            return has_ended or self._answers()

        if not self._poll(is_decided):
            raise ServerStartError(f"it was not ready within {START_SECONDS_MAX} s")
        if has_ended:
            raise ServerStartError("it ended")


class ContainerServer(Server):
    """A real server in a container, published on 127.0.0.1, as a context manager; it ends when this process ends.

    Ports and data stay the same over `stop` (or `kill`) and `start`; they go with `close`.
    """

    name: ClassVar[str]
    image: ClassVar[Image]

    def __init__(self, port: int, inner_port: int) -> None:
        self.port = port
        self._inner_port = inner_port
        self._container: DockerContainer | None = None

    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        if self._container is None:
            return False
        with translated(f"{self.name} was looked at"):
            self._container.reload()
            return self._container.status in {"running", "paused"}

    def last_lines(self) -> str:
        """The end of its log, for a message. Raises `RuntimeError` before the first `start` and after `close`."""
        with translated(f"the log of {self.name} was read"):
            log: bytes = self._made().get_wrapped_container().logs(tail=LAST_LINES_MAX)
        return log.decode("utf-8", errors="replace").rstrip()

    def start(self) -> None:
        """Start and return when the server answers; also after `stop` or `kill`, on the same port and data.

        Raises `ServerStartError` with the last lines of the log, `EngineError` when the engine is the trouble.
        """
        if self.is_running():
            return
        if self._container is None:
            self._make()
            return
        wrapped = self._container.get_wrapped_container()
        with translated(f"{self.name} was started"):
            wrapped.start()
        self._wait(self._container)

    def stop(self) -> None:
        """Stop cleanly; the data stay for another `start`."""
        if self._container is not None:
            with translated(f"{self.name} was stopped"):
                self._container.get_wrapped_container().stop(timeout=STOP_SECONDS_MAX)

    def kill(self) -> None:
        """SIGKILL to the server, which is the container's first process; the data stay for another `start`."""
        with translated(f"{self.name} was killed"):
            wrapped = self._made().get_wrapped_container()
            wrapped.kill()
            wrapped.wait()

    def pause(self) -> None:
        """Freeze every process of the container: connections stay open, nothing is answered."""
        with translated(f"{self.name} was paused"):
            self._made().get_wrapped_container().pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        with translated(f"{self.name} was resumed"):
            self._made().get_wrapped_container().unpause()

    def close(self) -> None:
        """Remove the container and its data."""
        if self._container is not None:
            container, self._container = self._container, None
            with translated(f"{self.name} was removed"):
                container.stop()
                # testcontainers leaves each container's connections to the engine open.
                container.get_docker_client().client.close()

    @abstractmethod
    def _describe(self, container: DockerContainer) -> None:
        """Give the container its variables."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server answers its clients."""

    def _make(self) -> None:
        trouble = trouble_of_image(self.image)
        if trouble is not None:
            raise EngineError(trouble)
        # Its watchdog is an image that would have to be pulled, and it is given the engine's socket.
        testcontainers_config.ryuk_disabled = True
        watch_over(f"{LABEL_SESSION_ID}={SESSION_ID}")
        with translated(f"{self.name} was made"):
            container = DockerContainer(self.image.name)
            # Docker's library takes an address with the port, of which testcontainers' types know nothing.
            container.ports[str(self._inner_port)] = cast("int", (LOOPBACK, self.port))
            self._describe(container)
            self._container = container
            container.start()
        self._wait(container)

    def _wait(self, container: DockerContainer) -> None:
        try:
            with translated(f"{self.name} was waited for"):
                Answers(self._answers).wait_until_ready(container)
        except ServerStartError as error:
            if isinstance(error, EngineError):
                raise
            raise ServerStartError(
                f"{self.name} ({self.image.name}): {error}. Its last lines:\n{self.last_lines()}"
            ) from None

    def _made(self) -> DockerContainer:
        if self._container is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._container
