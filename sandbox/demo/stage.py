"""The servers, the simulated world and the programs of the demo; all of them end with it."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from producer.publish.topics import PARTITIONS_DEFAULT, Topics
from sandbox.control.world import OutsideWorld
from sandbox.demo.narrator import ClaimError
from sandbox.demo.producer import ProducerProcess, module_of
from sandbox.servers.kafka import EmbeddedKafka
from sandbox.servers.postgresql import EmbeddedPostgresql
from sandbox.servers.registry import EmbeddedRegistry
from sandbox.servers.server import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM_SECONDS_MAX = 60.0
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
_WIDTH = "80"
# What a program says on stderr goes to a file of its own: the first argument.
_ERRORS_APART = 'errors=$1; shift; exec "$@" 2>"$errors"'


class Ended(NamedTuple):
    """A program that has ended: its exit code, and what it said on stdout and on stderr."""

    code: int
    stdout: str
    stderr: str


class Program:
    """A program of this project as a child: `module` is producer or consumers."""

    def __init__(self, module: str, arguments: Sequence[str], environment: dict[str, str], files: Path) -> None:
        self._errors = files.with_suffix(".err")
        self._process = ProducerProcess(
            arguments,
            environment,
            files.with_suffix(".out"),
            program=(
                "/bin/sh",
                "-c",
                _ERRORS_APART,
                module,
                str(self._errors),
                sys.executable,
                "-m",
                module_of(module),
            ),
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

    def wait(self, seconds_max: float = PROGRAM_SECONDS_MAX) -> Ended:
        """Wait until it has ended. Raises `ClaimError` when it does not."""
        try:
            code = self._process.wait(seconds_max)
        except TimeoutError as error:
            raise ClaimError(f"a program has not ended within {seconds_max:g} s") from error
        return Ended(code, self.stdout_text(), self.stderr_text())

    def wait_for_words(self, words: str) -> None:
        """Wait until it has said this on stderr. Raises `ClaimError` when it does not."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while words not in self.stderr_text():
            self.check_running()
            if time.monotonic() > deadline:
                raise ClaimError(f"the program has not said {words!r} within {START_SECONDS_MAX:g} s")
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
        ended = self.wait(STOP_SECONDS_MAX)
        return ended, time.monotonic() - begun

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    @property
    def memory_bytes(self) -> int:
        """The most memory that it had when it was looked at."""
        return self._memory_bytes

    def _note_memory(self) -> None:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self._memory_bytes = max(self._memory_bytes, int(line.split()[1]) * 1024)


class Stage:
    """Kafka, registry, PostgreSQL and the simulated world, as a context manager."""

    def __init__(self, seed: int) -> None:
        self._open = ExitStack()
        self._started = 0
        self.kafka = EmbeddedKafka()
        self.registry = EmbeddedRegistry()
        self.postgresql = EmbeddedPostgresql()
        self.outside = OutsideWorld(seed=seed)
        self.topics = Topics.of("trekkpaalegg")
        self.lanes = PARTITIONS_DEFAULT
        self.trekkpliktige: list[str] = []
        self._receiver_port = free_port()
        self._receiver_secret = secrets.token_hex()
        # Within Kafka's own folder, whose watchdog removes it even if this process dies.
        self._folder = self.kafka.data_folder / "demo"
        self._folder.mkdir()

    def __enter__(self) -> Self:
        self._open.callback(self.outside.close)
        self._open.callback(self.kafka.close)
        self._open.callback(self.registry.close)
        self._open.callback(self.postgresql.close)
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def raise_curtain(self) -> None:
        """Start the servers, side by side. Raises `ServerStartError` or `FetchError` when one cannot be had."""
        with ThreadPoolExecutor() as starting:
            for started in [starting.submit(server.start) for server in (self.kafka, self.registry, self.postgresql)]:
                started.result()
        self.outside.start()

    def serve(self, trekkpliktige: list[str]) -> None:
        """Let the producer serve these employers too: it reads its list again when that changes."""
        self.trekkpliktige += trekkpliktige
        unfinished = self._folder / "trekkpliktige.unfinished"
        unfinished.write_text("".join(f"{each}\n" for each in self.trekkpliktige), encoding="ascii")
        unfinished.rename(self._list)

    def start(self, module: str, *arguments: str, notified: bool = False) -> Program:
        """Start a program of this project with the settings of this stage; `notified`: told of changes by Altinn."""
        self._started += 1
        environment = self._environment()
        if notified:
            environment["TREKKPAALEGG_SOURCE"] = "notification"
            del environment["TREKKPAALEGG_POLL_INTERVAL_SECONDS"]
        program = Program(module, arguments, environment, self._folder / f"{self._started:02}-{module}")
        self._open.callback(program.close)
        return program

    def run(self, module: str, *arguments: str, notified: bool = False) -> Ended:
        """Run a program to its end, as `start` does. Raises `ClaimError` unless it succeeds."""
        ended = self.start(module, *arguments, notified=notified).wait()
        if ended.code != 0:
            last = ended.stderr.splitlines()[-1:] or [""]
            raise ClaimError(f"{module} {' '.join(arguments)} ended with {ended.code}: {last[0]}")
        return ended

    def everything_said(self) -> str:
        """What all programs have said so far, on stdout and stderr."""
        files = [*self._folder.glob("*.out"), *self._folder.glob("*.err")]
        return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)

    @property
    def ledger_url(self) -> str:
        """Where the ledger lies."""
        return self.postgresql.url

    def path(self, name: str) -> Path:
        """A file of this name, which goes with the stage."""
        return self._folder / name

    def write(self, name: str, text: str) -> Path:
        """A file of this name with this text, which goes with the stage."""
        path = self.path(name)
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def _list(self) -> Path:
        return self._folder / "trekkpliktige"

    def _environment(self) -> dict[str, str]:
        settings = self.outside.environment(self.trekkpliktige)
        del settings["TREKKPAALEGG_TREKKPLIKTIGE"]
        return {
            **settings,
            "TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(self._list),
            "KAFKA_BROKERS": self.kafka.bootstrap_servers,
            "KAFKA_SCHEMA_REGISTRY": self.registry.url,
            "TREKKPAALEGG_LEDGER": self.ledger_url,
            "TREKKPAALEGG_POLL_INTERVAL_SECONDS": "1",
            "TREKKPAALEGG_MAKS_ANTALL": "100",
            # The name of its pod, say: a process that died and is started again has its lanes back at once.
            "TREKKPAALEGG_INSTANCE_ID": "demo-0",
            "TREKKPAALEGG_HTTP_HOST": "127.0.0.1",
            "TREKKPAALEGG_HTTP_PORT": "0",
            # Of no use while changes are polled.
            "TREKKPAALEGG_WEBHOOK_PORT": str(self._receiver_port),
            "TREKKPAALEGG_WEBHOOK_URL": f"http://127.0.0.1:{self._receiver_port}",
            "TREKKPAALEGG_WEBHOOK_SECRET": self._receiver_secret,
            "COLUMNS": _WIDTH,
        }
