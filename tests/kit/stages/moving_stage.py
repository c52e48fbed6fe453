"""A producer's stage whose topics are lost, backed up, restored and moved, as operators do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import IsolationLevel, Message, Producer
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # it is not in its __all__

from consumers.settings.model import load_settings
from consumers.verify.proof import ProofOptions, prove
from producer.admin.kafka import KafkaAdmin
from producer.publish.topics import Topics
from tests.kit.waiting import Unseen, until
from trekkpaalegg.errors import FatalError, RetryableError
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.clients import create_admin_client
from trekkpaalegg.kafka.reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.verify.findings import Proof
    from tests.kit.stages.producer_stage import ProducerStage

SECONDS_MAX = 180.0
UNREADABLE = "unreadable"

Backup = dict[str, list[Message]]
"""The records of topics by role; those of a partition in their order."""


class MovingStage:
    """The topics of one stage, and the commands that are run on them. No worker runs."""

    def __init__(self, stage: ProducerStage) -> None:
        self.stage = stage
        self.topics = stage.topics
        self.properties = {"bootstrap.servers": stage.kafka.bootstrap_servers}
        self._admin = KafkaAdmin(self.properties)
        self._client = create_admin_client(self.properties)

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run a command of the producer to its end; what it printed and logged."""
        process = self.stage.begin(*arguments)
        ended = process.wait(SECONDS_MAX)
        told = process.log_file.read_text(encoding="utf-8")
        assert ended == code, told
        return told

    def apply(self, code: int = 0) -> str:
        """`topics apply`, which ends with 1 where the topics are recorded otherwise."""
        return self.command("topics", "apply", "--partitions", str(self.stage.lanes), code=code)

    def refused(self, *words: str) -> None:
        """A start is refused in these words."""
        told = self.command("once", code=1)
        assert all(word in told for word in words), told

    def faults(self, **settings: str) -> dict[str, set[str]]:
        """What `verify` says: the differences, in words, of each check that does not hold."""
        given = {
            "KAFKA_BROKERS": self.properties["bootstrap.servers"],
            "TREKKPAALEGG_TOPIC_PREFIX": self.stage.prefix,
            **settings,
        }
        proofs: list[Proof] = []

        def is_read() -> bool:
            try:
                proofs.append(prove(load_settings(None, given), ProofOptions(), Unseen()))
            except RetryableError:
                return False
            return True

        try:
            until(is_read)
        except FatalError as error:
            return {UNREADABLE: {str(error)}}
        return {each.name: {one.what for one in each.differences} for each in proofs[0].checks if not each.ok}

    def ends(self) -> dict[str, int]:
        """How many records there are of events and of the quarantine."""
        return {role: len(each) for role, each in self.backup("versjoner", "gjeldende", "quarantine").items()}

    def once(self) -> None:
        """A full round, after which everything is there once, and `verify` holds."""
        self.stage.once()
        self.stage.prove()
        assert self.faults() == {}

    def once_publishes_nothing(self) -> None:
        """As `once`, and nothing is published or quarantined by it."""
        before = self.ends()
        self.once()
        assert self.ends() == before

    def lives_on(self) -> None:
        """Orders change and are made, and are published once."""
        skatteetaten = self.stage.outside.skatteetaten
        for version in list(skatteetaten.book.newest_of_all())[::4]:
            if version.trekkid:
                skatteetaten.change(version.trekkid)
        for employer in self.stage.employers:
            skatteetaten.create(employer)
        self.once()

    def merge(self, employer: str, into: str) -> None:
        """The orders of an employer become another's, and it is taken off the list."""
        skatteetaten = self.stage.outside.skatteetaten
        for version in list(skatteetaten.book.newest_of_all()):
            if version.owner == employer and version.trekkid:
                skatteetaten.move(version.trekkid, into)
        self.stage.employers.remove(employer)

    def delete(self, roles: Iterable[str] = Topics._fields) -> None:
        """Delete topics, all by default."""
        names = [getattr(self.topics, role) for role in roles]
        for deleted in self._client.delete_topics(names).values():
            deleted.result(SECONDS_MAX)
        until(lambda: not self._admin.describe(names))

    def add_partition(self, role: str) -> None:
        """Add one partition to a topic."""
        topic = getattr(self.topics, role)
        self._client.create_partitions([NewPartitions(topic, self.stage.lanes + 1)])[topic].result(SECONDS_MAX)
        until(lambda: self._admin.describe([topic])[topic].partitions == self.stage.lanes + 1)

    def backup(self, *roles: str, isolation: IsolationLevel = IsolationLevel.READ_COMMITTED) -> Backup:
        """All records of these topics, of all if none is named."""
        admin, found = Admin(self.properties), Backup()
        with RangeReader(self.properties, isolation=isolation) as reader:
            for role in roles or Topics._fields:
                partitions = admin.partitions(getattr(self.topics, role))
                ends = admin.ends(partitions, IsolationLevel.READ_UNCOMMITTED)
                found[role] = [each for batch in reader.read(admin.begins(partitions), ends) for each in batch]
        return found

    def restore(self, backup: Mapping[str, list[Message]], *, commit: bool = True) -> None:
        """Write the records of a backup behind what is in the topics, as they were, times included: all or nothing."""
        producer = Producer({**self.properties, "transactional.id": f"restore-{self.stage.prefix}"})
        producer.init_transactions(SECONDS_MAX)
        producer.begin_transaction()
        for role, messages in backup.items():
            for each in messages:
                producer.produce(
                    getattr(self.topics, role),
                    each.value(),
                    each.key(),
                    each.partition() or 0,
                    timestamp=each.timestamp()[1],
                    headers=each.headers(),
                )
        if commit:
            producer.commit_transaction(SECONDS_MAX)
        else:
            producer.flush(SECONDS_MAX)
            producer.abort_transaction(SECONDS_MAX)
