"""Synthetic event topics, consumers as child processes, and the proof that the ledger is equal to the topics."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from confluent_kafka import IsolationLevel

from consumers.ledger.opening import open_engine
from consumers.ledger.tables import ledger_offset
from consumers.settings.model import load_settings
from consumers.verify.proof import ProofOptions, prove
from sandbox.demo.proof import READ_SECONDS_MAX, properties_of
from sandbox.servers.process import print_last_lines
from tests.kit.event_stream import EventTopics
from tests.kit.processes import CONSUMER, ConsumerProcess
from tests.kit.waiting import Unseen, until
from trekkpaalegg.errors import FatalError
from trekkpaalegg.kafka.admin import Admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from producer.domain.trekkpaalegg import Publication


def every_row(url: str, table: sa.Table) -> list[sa.Row[Any]]:
    """All of them, by key."""
    engine = open_engine(url, read_only=True)
    with engine.connect() as connection:
        return list(connection.execute(sa.select(table).order_by(*table.primary_key.columns)))


def by_hand(url: str, *statements: sa.Executable) -> int:
    """Change the ledger as a person with a database tool would; how many rows were changed."""
    engine = open_engine(url)
    with engine.begin() as connection:
        return sum(connection.execute(statement).rowcount for statement in statements)


END_SECONDS_MAX = 180.0
TRAFFIC_INTERVAL_SECONDS = 0.05
TRAFFIC_RECORDS = 5


class NotProvedError(AssertionError):
    """The ledger is not what the topic says."""


class LedgerStage:
    """One prefix on a broker, one ledger, and the consumers that were started for them; `close` ends them all.

    `settings` is what every consumer gets besides the ordinary ones.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        prefix: str,
        ledger: str,
        folder: Path,
        *,
        partitions: int = 3,
        registry_url: str | None = None,
    ) -> None:
        self.topics = EventTopics(bootstrap_servers, prefix, partitions=partitions, registry_url=registry_url)
        self.ledger = ledger
        self.folder = folder
        self.settings = dict(self.topics.settings)
        self._started: list[ConsumerProcess] = []
        self._numbers = itertools.count(1)
        self._admin = Admin(properties_of(bootstrap_servers), seconds_max=READ_SECONDS_MAX)
        self._engine: tuple[str, sa.Engine] | None = None
        """On the ledger of this URL."""

    def set_kafka_properties(self, **properties: str) -> None:
        """Properties, with `_` for `.`, that every consumer from now on reads from its properties file."""
        path = self.folder / "kafka.properties"
        lines = [f"{name.replace('_', '.')}={value}\n" for name, value in properties.items()]
        path.write_text("".join(lines), encoding="utf-8")
        self.settings["KAFKA_PROPERTIES_FILE"] = str(path)

    def begin(self, *arguments: str, program: Sequence[str] = CONSUMER, **settings: str) -> ConsumerProcess:
        """Start a consumer with this command line and do not wait."""
        log_file = self.folder / f"consumer-{next(self._numbers)}.log"
        environment = {**self.settings, "TREKKPAALEGG_LEDGER": self.ledger, **settings}
        process = ConsumerProcess(arguments, environment, log_file, program=program)
        self._started.append(process)
        return process

    def apply_all(self, *options: str, **settings: str) -> None:
        """Run one consumer to the end of the topic, which must go well."""
        process = self.begin("run", "--until-end", *options, **settings)
        code = process.wait(END_SECONDS_MAX)
        if code != 0:
            raise NotProvedError(f"it ended with {code}:\n{process.last_lines()}")

    def wait_until(self, holds: Callable[[], object], what: str, deadline_seconds: float = 40.0) -> None:
        """Return when it holds. Raises `TimeoutError`, the last lines of the newest consumers printed."""
        until(holds, deadline_seconds, what, print_state=lambda: print_last_lines(self._started))

    def wait_until_shared(self, *processes: ConsumerProcess) -> None:
        """Until each of these has partitions, and all partitions are given out among them, each once."""
        partitions = len(self._ends())

        def shared() -> bool:
            owned = [self.owned_by(process) for process in processes]
            return all(owned) and sorted(itertools.chain(*owned)) == list(range(partitions))

        self.wait_until(shared, f"{len(processes)} consumers have the partitions")

    def owned_by(self, process: ConsumerProcess) -> set[int]:
        """The partitions that a consumer has, by its log; none once it has ended."""
        owned: set[int] = set()
        if not process.is_running():
            return owned
        for entry in process.log_entries():
            partitions = {int(each) for each in str(entry.get("partitions", "")).strip("[]").split(",") if each.strip()}
            if entry["event"] == "partitions assigned":
                owned |= partitions
            elif entry["event"] in {"partitions revoked", "partitions lost"}:
                owned -= partitions
        return owned

    @contextmanager
    def traffic(self, publications: Sequence[Publication]) -> Iterator[None]:
        """Write these in small transactions from a thread of its own meanwhile, and what is left of them at the end."""
        ending = threading.Event()
        errors: list[BaseException] = []

        def write() -> None:
            rest = list(publications)
            try:
                while rest and not ending.wait(TRAFFIC_INTERVAL_SECONDS):
                    self.topics.write(rest[:TRAFFIC_RECORDS])
                    del rest[:TRAFFIC_RECORDS]
                self.topics.write(rest)
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                errors.append(error)

        thread = threading.Thread(target=write, name="traffic", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join(END_SECONDS_MAX)
        if errors:
            raise errors[0]

    def is_applied(self) -> bool:
        """Whether the ledger holds everything that is committed in `…-versjoner` now."""
        return self.next_offsets() == {partition: end for partition, end in self._ends().items() if end}

    def _ends(self) -> dict[int, int]:
        """The end of every partition of `…-versjoner`, open transactions included."""
        partitions = self._admin.partitions(self.topics.topics.versjoner)
        ends = self._admin.ends(partitions, IsolationLevel.READ_UNCOMMITTED)
        return {each.partition: end for each, end in ends.items()}

    def next_offsets(self) -> dict[int, int]:
        """How far the ledger has come in `…-versjoner`, by partition; nothing while there is no ledger yet."""
        rows = sa.select(ledger_offset.c.partition, ledger_offset.c.next_offset)
        if self._engine is None or self._engine[0] != self.ledger:
            try:
                self._engine = self.ledger, open_engine(self.ledger, read_only=True)
            except FatalError:
                return {}
        with self._engine[1].connect() as connection:
            return {row.partition: row.next_offset for row in connection.execute(rows)}

    def prove(self) -> None:
        """Raises `NotProvedError` with every difference between topics and ledger."""
        settings = load_settings(None, self.settings)
        proof = prove(settings, ProofOptions(ledger_url=self.ledger), Unseen())
        if not proof.ok:
            found = [difference for check in proof.checks for difference in check.differences]
            raise NotProvedError(f"{len(found)} differences, such as {found[:5]}")

    def close(self) -> None:
        """End every consumer that was started."""
        for process in self._started:
            process.kill()
        self.topics.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
