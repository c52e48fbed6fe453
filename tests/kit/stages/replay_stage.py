"""A stream, a ledger, and the commands of the consumers run in this process: for tests of replays."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.cli.main import run_command
from consumers.ledger import tables
from consumers.settings.model import load_settings
from consumers.verify.proof import ProofOptions, prove
from tests.kit.stages.ledger_stage import by_hand, every_row
from tests.kit.waiting import Unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from producer.domain.trekkpaalegg import Publication
    from tests.kit.event_stream import EventTopics

_CALL_SECONDS_MAX = 30


class FailedError(AssertionError):
    """A command that was to succeed failed, or printed what it must not."""


class ReplayStage:
    """Topics that hold these events, and one ledger. The environment must hold `topics.settings`."""

    def __init__(self, topics: EventTopics, url: str, stream: Sequence[Publication]) -> None:
        self.topics = topics
        self.url = url
        self.people = {each.trekkpaalegg.skyldner.reveal() for each in stream}
        """National ids, none of which may ever be printed."""

    def command(self, name: str, *options: str) -> tuple[int, str]:
        """Exit code, and everything on stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run_command([name, "--ledger", self.url, *options])
        printed = out.getvalue() + err.getvalue()
        if any(person in printed for person in self.people):
            raise FailedError(f"{name} printed a national id")
        return code, printed

    def run(self, *options: str) -> None:
        """Apply the whole topic."""
        self._succeeding("run", "--until-end", *options)

    def replay(self, *options: str) -> str:
        """The output of a replay that must succeed."""
        return self._succeeding("replay", *options)

    def outcome(self, *options: str) -> dict[str, Any]:
        """The outcome of a replay, from its JSON."""
        printed = self.replay("--json", *options)
        found: dict[str, Any] = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
        return found

    def faults(self) -> dict[str, list[tuple[str, str | None]]]:
        """What `verify` finds wrong, by check, without the check of gaps, for which there are no positions."""
        proof = prove(load_settings(None, self.topics.settings), ProofOptions(ledger_url=self.url), Unseen())
        found = {check.name: [(each.what, each.trekkid) for each in check.differences] for check in proof.checks}
        return {name: faults for name, faults in found.items() if faults and name != "complete"}

    def rows(self, table: sa.Table) -> list[Any]:
        """All of them, by key."""
        return every_row(self.url, table)

    def everything(self) -> dict[str, list[Any]]:
        """The rows of every table."""
        return {table.name: self.rows(table) for table in tables.metadata.sorted_tables}

    def by_hand(self, *statements: sa.Executable) -> None:
        """Change the ledger as a person with a database tool would."""
        by_hand(self.url, *statements)

    def offsets(self, role: str) -> dict[int, int]:
        """How far the ledger has come in `…-versjoner` or `…-gjeldende`, by partition."""
        topic = f"{self.topics.prefix}-{role}"
        return {row.partition: row.next_offset for row in self.rows(tables.ledger_offset) if row.topic == topic}

    def delete_messages(self, role: str, partition: int, before: int) -> None:
        """As retention does."""
        admin = AdminClient({"bootstrap.servers": self.topics.bootstrap_servers})
        place = TopicPartition(f"{self.topics.prefix}-{role}", partition, before)
        for deleted in admin.delete_records([place]).values():
            deleted.result(_CALL_SECONDS_MAX)

    def _succeeding(self, name: str, *options: str) -> str:
        code, told = self.command(name, *options)
        if code != 0:
            raise FailedError(f"{name} ended with {code}: {told}")
        return told
