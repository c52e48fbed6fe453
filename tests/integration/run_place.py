"""`run` and other commands on topics and a ledger file, in this process: for tests of the consumer."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Self

from consumers.cli.main import run_command
from consumers.cli.run import work
from consumers.settings.model import load_settings
from tests.kit.event_stream import EventTopics, Roughness, make_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    from sandbox.servers.kafka import EmbeddedKafka
    from trekkpaalegg.exactly_once.worker import WorkerOptions

STREAM = make_stream(7, 60, roughness=Roughness(late=0.1, corrected=0.15))
VERSIONS = {(each.trekkpaalegg.trekkid, each.trekkpaalegg.trekkversjon) for each in STREAM}


class Place:
    """The topics of a prefix, a ledger file, and the program run in this process."""

    def __init__(self, topics: EventTopics, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
        self.topics = topics
        self.file = folder / "ledger.db"
        self.url = f"sqlite:///{self.file}"
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        for name, value in topics.settings.items():
            monkeypatch.setenv(name, value)

    def set(self, name: str, value: str) -> None:
        """A setting for what is run from now on."""
        self._monkeypatch.setenv(name, value)

    def command(self, name: str, *options: str) -> tuple[int, str]:
        """Exit code, and everything on stdout and stderr."""
        self._capfd.readouterr()
        code = run_command([name, "--ledger", self.url, *options])
        return code, "".join(self._capfd.readouterr())

    def run(self, *options: str) -> tuple[int, str]:
        return self.command("run", "--until-end", *options)

    def count(self, table: str) -> int:
        (row,) = self.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of our own
        return row[0]

    def rows(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(statement).fetchall()


@contextmanager
def place_maker(
    kafka: EmbeddedKafka, prefix: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Iterator[Callable[..., Place]]:
    """Makes places of topics with these options; all are closed at the end."""
    with ExitStack() as opened:

        def make(**options: Any) -> Place:
            topics = EventTopics(kafka.bootstrap_servers, prefix, **options)
            opened.callback(topics.close)
            return Place(topics, folder, monkeypatch, capfd)

        yield make


class Running:
    """`run` in a thread of its own."""

    def __init__(self, place: Place, options: WorkerOptions) -> None:
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        self.told: list[str] = []
        self._settings = load_settings(None, dict(place.topics.settings))
        self._arguments = (place.url, options)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        url, options = self._arguments
        try:
            work(self._settings, url, options, self.stopping, self._tell)
        except BaseException as error:  # noqa: BLE001 - kept for the test
            self.errors.append(error)

    def _tell(self, event: str, **details: object) -> None:
        self.told.append(f"{event} {details}")

    def has_told(self, words: str) -> bool:
        return any(words in told for told in self.told)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
