"""The least rights, on a broker that grants nothing by itself: with all of them everything works, without each it says.

Every command is the real one, run as a user that has a name and a password.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import AclOperation, ResourcePatternType, ResourceType

import consumers.cli.main
import producer.cli.main
from consumers.webhook.delivery import new_secret
from producer.admin.acls import admin_acls, consumer_acls, producer_acls
from producer.bootstrap import open_signal_log
from producer.settings.model import load_settings
from sandbox.control.world import OutsideWorld
from tests.kit.forking import ForkedProcess
from tests.kit.processes import PRODUCER as PRODUCER_PROGRAM
from tests.kit.receivers import PayrollReceiver
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.errors import GROUP, TOPIC, TRANSACTIONAL_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producer.admin.acls import Acl
    from tests.kit.servers.secured_kafka import SecuredKafka

pytestmark = pytest.mark.kafka
COMMAND_SECONDS_MAX = 90.0
PREFIX, APPLICATION = "rights", "rights-producer"
PRODUCER, CONSUMER, ADMIN = "User:trekk", "User:payroll", "User:topics"
KINDS = {
    TOPIC: ResourceType.TOPIC,
    GROUP: ResourceType.GROUP,
    TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
}
CONSUMER_ARGUMENTS = {
    "run": ("run", "--until-end"),
    "run --newest-only": ("run", "--until-end", "--newest-only"),
    "replay": ("replay",),
    "replay --newest-only": ("replay", "--newest-only"),
    "tail": ("tail", "--from-beginning", "--until-end"),
    "verify": ("verify", "--topics-only"),
    "webhook": ("webhook", "--until-end", "--state", "sqlite:///{folder}/state.db"),
}


def label(acl: Acl) -> str:
    return f"{acl.right.operation} {acl.resource}"


class Place:
    """A secured broker, the outside world, and the commands run as whom it is said."""

    def __init__(self, kafka: SecuredKafka, outside: OutsideWorld, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.kafka = kafka
        self.outside = outside
        self.folder = folder
        self._patch = patch
        employers = outside.generate(2, 6)
        self.settings = {
            **outside.environment(employers),
            "TREKKPAALEGG_TOPIC_PREFIX": PREFIX,
            "TREKKPAALEGG_APPLICATION_ID": APPLICATION,
        }
        for principal in (PRODUCER, CONSUMER, ADMIN):
            kafka.set_password(principal.removeprefix("User:"), f"secret of {principal}")

    def become(self, principal: str | None, **settings: str) -> None:
        """Who the commands are from now on; None is the super user."""
        environment = {**self.settings, "KAFKA_BROKERS": self.kafka.bootstrap_servers, **settings}
        self._patch.delenv("KAFKA_CA_PATH", raising=False)
        self._patch.delenv("KAFKA_PROPERTIES_FILE", raising=False)
        if principal is not None:
            own = self.folder / f"{principal.removeprefix('User:')}.properties"
            user = principal.removeprefix("User:")
            own.write_text(f"sasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\nsasl.password=secret of {principal}\n")
            environment |= {
                "KAFKA_BROKERS": self.kafka.address("SCRAM"),
                "KAFKA_CA_PATH": str(self.kafka.certificates.authority),
                "KAFKA_PROPERTIES_FILE": str(own),
            }
        for name, value in environment.items():
            self._patch.setenv(name, value)

    def revoke(self, acl: Acl) -> None:
        kind = KINDS[acl.right.kind]
        assert self.kafka.revoke(acl.principal, kind, acl.right.name, AclOperation[acl.right.operation]) == 1

    def grant(self, acl: Acl) -> None:
        pattern = ResourcePatternType.PREFIXED if acl.is_prefix else ResourcePatternType.LITERAL
        operation = AclOperation[acl.right.operation]
        self.kafka.grant(acl.principal, KINDS[acl.right.kind], acl.right.name, operation, pattern)

    def refused(self, acl: Acl, command: Any) -> str:
        """What is said when the command is run without that right, which is granted again afterwards."""
        self.revoke(acl)
        try:
            code, told = command()
        finally:
            self.grant(acl)
        assert (code, acl.right.operation in told, acl.right.name in told) == (1, True, True), told
        assert f"acls apply --{role_of(acl)}-principal {acl.principal}`" in told
        assert "secret of" not in told
        return told


def role_of(acl: Acl) -> str:
    return {PRODUCER: "producer", CONSUMER: "consumer", ADMIN: "admin"}[acl.principal]


@pytest.fixture(scope="module")
def place(secured: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("rights")
    with (
        OutsideWorld() as outside,
        PayrollReceiver(new_secret()) as receiver,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(folder)
        patch.setenv("TREKKPAALEGG_FORWARD_URL", receiver.url)
        patch.setenv("TREKKPAALEGG_FORWARD_SECRET", receiver.secret)
        yield Place(secured, outside, folder, patch)


@pytest.fixture
def run(capfd: pytest.CaptureFixture, tmp_path: Path) -> Any:
    """Runs a command line of the producer: its exit code, and all that it said."""

    def run_it(*arguments: str) -> tuple[int, str]:
        if arguments[0] in {"once", "reconcile"}:
            # In a process of its own, as it leaves its connections to the end of the process.
            log_file = tmp_path / f"{uuid.uuid4().hex}.log"
            process = ForkedProcess("producer", [*PRODUCER_PROGRAM, *arguments], log_file=log_file)
            return process.wait(COMMAND_SECONDS_MAX), log_file.read_text()
        capfd.readouterr()
        code = producer.cli.main.run_command(arguments)
        return code, "".join(capfd.readouterr())

    return run_it


@pytest.fixture
def consume(place: Place, capfd: pytest.CaptureFixture, tmp_path: Path) -> Any:
    """Runs one of `CONSUMER_ARGUMENTS`, each with a fresh ledger or state."""

    def run_it(command: str) -> tuple[int, str]:
        capfd.readouterr()
        arguments = [each.format(folder=tmp_path) for each in CONSUMER_ARGUMENTS[command]]
        place.become(CONSUMER, TREKKPAALEGG_LEDGER=f"sqlite:///{tmp_path / 'ledger.db'}")
        code = consumers.cli.main.run_command(arguments)
        return code, "".join(capfd.readouterr())

    return run_it


def store_a_signal() -> tuple[int, str]:
    """As who is told of a change, or asks a worker for something, does: how it ended, and what was said."""
    settings = load_settings(None, os.environ)
    with open_signal_log(settings) as signals:
        try:
            signals.store([(settings.trekkpliktige[0], None)])
        except RetryableError as error:
            return 1, str(error)
    return 0, ""


def test_the_administrator_needs_each_of_its_rights_to_make_the_topics(place: Place, run: Any) -> None:
    """In the order in which the command needs them: what is granted again lets it get one step further."""
    acls = admin_acls(ADMIN, PREFIX)
    place.become(None)
    assert run("acls", "apply", "--admin-principal", ADMIN)[0] == 0
    place.become(ADMIN)
    steps = ("DESCRIBE", "CREATE", "WRITE", "READ", "DESCRIBE_CONFIGS")
    for acl in sorted(acls, key=lambda each: steps.index(each.right.operation)):
        told = place.refused(acl, lambda: run("topics", "apply", "--partitions", "2"))
        assert f"{acl.right.operation} on topic {acl.right.name}" in told
    assert run("topics", "apply", "--partitions", "2")[0] == 0


def test_what_is_granted_is_told_and_granting_again_changes_nothing(place: Place, run: Any) -> None:
    place.become(None)
    roles = ("--producer-principal", PRODUCER, "--consumer-principal", CONSUMER, "--json")
    wanted = [*producer_acls(PRODUCER, PREFIX, APPLICATION), *consumer_acls(CONSUMER, PREFIX, None)]

    def states(*options: str) -> set[str]:
        code, told = run("acls", "apply", *roles, *options)
        rows = json.loads(told)
        assert (code, len(rows)) == (0, len(wanted))
        return {row["state"] for row in rows}

    assert states("--dry-run") == {"would be granted"}
    assert states() == {"granted"}
    assert states() == {"was granted"}


def test_with_exactly_the_rights_of_the_list_everything_works(place: Place, run: Any, consume: Any) -> None:
    place.become(PRODUCER)
    for arguments in (("once",), ("doctor",), ("quarantine", "list"), ("position", "show"), ("reconcile",)):
        code, told = run(*arguments)
        # Without a registry and with the operator's own checks of Skatteetaten, doctor finds everything in order too.
        assert code == 0, told
    for command in CONSUMER_ARGUMENTS:
        code, told = consume(command)
        assert code == 0, f"{command}: {told}"


@pytest.mark.parametrize("acl", producer_acls(PRODUCER, PREFIX, APPLICATION), ids=label)
def test_without_each_right_the_producer_says_which_one_is_missing(place: Place, run: Any, acl: Acl) -> None:
    place.become(PRODUCER)
    if acl.needed_by.startswith("notifications"):
        place.refused(acl, store_a_signal)
        assert store_a_signal()[0] == 0
        return
    arguments = ("quarantine", "list") if acl.needed_by.startswith("quarantine") else ("once",)
    place.refused(acl, lambda: run(*arguments))
    code, told = run("quarantine", "list")
    assert code == 0, told


@pytest.mark.parametrize(
    ("acl", "command"),
    [
        pytest.param(acl, command, id=f"{command} without {label(acl)}")
        for acl in consumer_acls(CONSUMER, PREFIX, None)
        for command in acl.needed_by.split(", ")
    ],
)
def test_without_each_right_a_consumer_says_which_one_is_missing(
    place: Place, consume: Any, acl: Acl, command: str
) -> None:
    place.refused(acl, lambda: consume(command))


def test_signals_are_stored_again_once_the_password_was_corrected_in_its_file(place: Place) -> None:
    place.become(PRODUCER)
    file = Path(os.environ["KAFKA_PROPERTIES_FILE"])
    right = file.read_text()
    file.write_text(right.replace("secret of", "no secret of"))
    settings = load_settings(None, os.environ)
    with open_signal_log(settings) as signals:
        refused = signals.begin(settings.trekkpliktige[0], None)
        file.write_text(right)
        with pytest.raises(RetryableError, match="try again"):
            refused.result(60)
        signals.store([(settings.trekkpliktige[0], None)])


def test_a_command_alone_needs_no_more_than_its_part_of_the_list(place: Place, consume: Any) -> None:
    """`tail` reads without any group: the right to one is no part of what it needs."""
    assert [each.right.kind for each in consumer_acls(CONSUMER, PREFIX, None, ["tail"])] == [TOPIC]
    for acl in consumer_acls(CONSUMER, PREFIX, None):
        if "tail" not in acl.needed_by:
            place.revoke(acl)
    try:
        assert consume("tail")[0] == 0
    finally:
        for acl in consumer_acls(CONSUMER, PREFIX, None):
            place.grant(acl)


def test_topics_are_adopted_with_the_rights_of_both_applications(place: Place, run: Any) -> None:
    place.become(None, TREKKPAALEGG_APPLICATION_ID="renamed")
    assert run("acls", "apply", "--producer-principal", PRODUCER)[0] == 0
    place.become(PRODUCER, TREKKPAALEGG_APPLICATION_ID="renamed")
    for acl in producer_acls(PRODUCER, PREFIX, APPLICATION):
        if acl.right.kind in {GROUP, TRANSACTIONAL_ID}:
            place.refused(acl, lambda: run("topics", "adopt", "--yes"))
    code, told = run("topics", "adopt", "--yes")
    assert code == 0, told
    place.become(PRODUCER)
    code, told = run("topics", "adopt", "--yes")
    assert code == 0, told
