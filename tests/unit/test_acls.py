"""The least rights: for which names, how they differ from those found, and that the document lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

import producer.admin
from producer.admin.acls import Acl, admin_acls, compare, consumer_acls, producer_acls
from producer.cli.acls import EXAMPLE, acl_table
from producer.cli.main import run_command
from producer.publish.topics import Topics
from producer.settings.model import Settings
from trekkpaalegg.kafka.errors import GROUP, TOPIC, Right, not_permitted


def test_the_document_lists_what_the_code_grants() -> None:
    document = Path(producer.admin.__file__).with_name("ACLS.md").read_text(encoding="utf-8")
    assert acl_table(Settings(), EXAMPLE) in document


def test_names_follow_the_settings() -> None:
    names = {each.right.name for each in producer_acls("User:p", "own", "app")}
    assert names == {*Topics.of("own"), "app-", "app"}
    assert {each.right.name for each in admin_acls("User:a", "own")} < names


def test_a_consumer_needs_only_what_its_commands_need() -> None:
    assert [str(each.right) for each in consumer_acls("User:c", "own", None, ["tail"])] == [
        "READ on topic own-versjoner"
    ]
    group = consumer_acls("User:c", "own", "payroll", ["run"])[-1]
    assert (group.right, group.is_prefix) == (Right("READ", GROUP, "payroll"), False)


def test_what_differs_is_missing_beyond_or_denied() -> None:
    wanted = producer_acls("User:p", "own", "app")
    beyond = Acl("User:p", Right("DELETE", TOPIC, "own-versjoner"))
    denied = Acl("User:p", Right("WRITE", TOPIC, "own-versjoner"), denies=True)
    found = compare(wanted, [*wanted[1:], beyond, denied])
    assert (found.missing, found.beyond, found.denied) == ([wanted[0]], [beyond], [denied])


@pytest.mark.parametrize(
    ("properties", "who"),
    [
        ({"sasl.username": "trekk", "sasl.password": "secret-1"}, "User:trekk"),
        ({"ssl.certificate.location": "/var/c.pem"}, "the owner of /var/c.pem"),
        ({}, "this client"),
    ],
)
def test_a_missing_right_is_reported_with_who_lacks_it_and_no_secret(properties: dict[str, str], who: str) -> None:
    told = str(not_permitted([Right("WRITE", TOPIC, "t")], properties))
    assert told.startswith(
        f"Kafka does not permit {who}: WRITE on topic t; grant it: `trekkpaalegg-producer acls apply"
    )
    assert "secret-1" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list", "--consumer-principal", "payroll"), "payroll: not the name of a principal"),
        (("list", "--consumer-command", "payout"), "--consumer-command payout: there is none that asks Kafka"),
        (("apply",), "give at least one"),
    ],
)
def test_wrong_usage_is_reported(
    arguments: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:9092")
    assert run_command(["acls", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_only_the_producer_may_read_observations_which_hold_raw_elements() -> None:
    rows = {"own-observations", "own-observations-urgent"}
    of_consumers = [str(each.right) for each in consumer_acls("User:c", "own", None) if each.right.name in rows]
    of_administrators = {each.right.operation for each in admin_acls("User:a", "own") if each.right.name in rows}
    assert (of_consumers, of_administrators) == ([], {"CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"})
