"""`subscriptions apply|list|delete` against the simulated Altinn, whose receiver answers, refuses and is away."""

from __future__ import annotations

import io
import itertools
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from producer.cli.main import run_command
from sandbox.altinn.event_log import RESOURCE
from sandbox.altinn.state import ApiFault, Behaviour
from sandbox.control.world import OutsideWorld
from tests.kit.receivers import EventReceiver
from tests.kit.waiting import until
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET, FORMER = "s3cret" * 6, "f0rmer" * 6
SUBJECT = "urn:altinn:organization:identifier-no:"
NUMBERS = itertools.count(310_200_001)
CALLS = ("subscribe", "delete")


class Stage:
    """A world, a receiver, three employers of this test's own, and the command run for them."""

    def __init__(self, outside: OutsideWorld, receiver: EventReceiver, capsys: Any, monkeypatch: Any, log: Any) -> None:
        self.outside = outside
        self.altinn = outside.altinn
        self.receiver = receiver
        self.employers = [str(next(NUMBERS)) for _ in range(3)]
        for each in self.employers:
            outside.register(each)
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self._log = log
        self.said = ""
        self.printed = ""
        self.set(
            **outside.environment(self.employers),
            TREKKPAALEGG_WEBHOOK_URL=receiver.url,
            TREKKPAALEGG_WEBHOOK_SECRET=SECRET,
        )

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)

    def run(self, *arguments: str) -> int:
        self._capsys.readouterr()
        code = run_command(["subscriptions", *arguments])
        captured = self._capsys.readouterr()
        self.printed, self.said = captured.out, captured.err
        assert SECRET not in self.printed + self.said + self._log.getvalue()
        return int(code)

    def rows(self, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
        assert self.run(*arguments, "--json") == code, self.said
        return {row["trekkpliktig"]: row for row in json.loads(self.printed)}

    def calls(self) -> int:
        return sum(count for (operation, _), count in self.altinn.calls.items() if operation in CALLS)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[OutsideWorld, EventReceiver]]:
    with OutsideWorld(seed=8) as outside, EventReceiver() as receiver:
        outside.altinn.behaviour = Behaviour(time_factor=0.0001)
        yield outside, receiver


@pytest.fixture
def stage(
    shared: tuple[OutsideWorld, EventReceiver],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Stage]:
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    log = io.StringIO()
    configure_logs(level="DEBUG", stream=log)
    outside, receiver = shared
    yield Stage(outside, receiver, capsys, monkeypatch, log)
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    outside.altinn.faults.clear()
    outside.altinn.refused.clear()
    outside.start_altinn()
    outside.start_maskinporten()
    receiver.status = 200
    receiver.start()


def test_the_first_apply_makes_them_and_the_second_changes_nothing(stage: Stage) -> None:
    rows = stage.rows("apply")
    assert {(row["done"], row["validated"]) for row in rows.values()} == {("made", True)}
    assert list(rows) == stage.employers
    assert {row["address"] for row in rows.values()} == {f"{stage.receiver.url}/notifications/***"}
    before = stage.calls()
    again = stage.rows("apply")
    assert {(row["done"], row["validated"]) for row in again.values()} == {("unchanged", True)}
    assert [row["id"] for row in again.values()] == [row["id"] for row in rows.values()]
    assert stage.calls() == before
    order = stage.outside.skatteetaten.create(stage.employers[0])
    subject = f"{SUBJECT}{order.owner}"
    until(lambda: [event for event in stage.receiver.events if event["subject"] == subject], 60)


def test_list_shows_existing_subscriptions_with_the_secret_masked(stage: Stage) -> None:
    assert {row["done"] for row in stage.rows("list").values()} == {"none"}
    stage.rows("apply", "--trekkpliktig", stage.employers[1])
    rows = stage.rows("list")
    assert [row["validated"] for row in rows.values()] == [None, True, None]
    assert stage.run("list") == 0
    assert "/notifications/***" in stage.printed
    assert "3 trekkpliktige: 1 exists, 2 none; 1 validated" in stage.printed


def test_one_customer_s_refusal_keeps_no_other_from_being_served(stage: Stage) -> None:
    refused = stage.employers[1]
    stage.altinn.refused.add(refused)
    rows = stage.rows("apply", code=1)
    assert [row["done"] for row in rows.values()] == ["made", "failed", "made"]
    assert "subscribe with HTTP 403" in rows[refused]["remark"]
    assert f"1 of 3 trekkpliktige are not as they should be: {refused}" in stage.said
    stage.altinn.refused.clear()
    assert [row["done"] for row in stage.rows("apply").values()] == ["unchanged", "made", "unchanged"]


def test_a_customer_without_a_system_user_is_told_too(stage: Stage) -> None:
    stage.outside.maskinporten.withdraw_system_user(stage.employers[2])
    rows = stage.rows("apply", code=1)
    assert [row["done"] for row in rows.values()] == ["made", "made", "failed"]
    assert "MP-302" in rows[stage.employers[2]]["remark"]


def test_a_missing_scope_names_the_setting(stage: Stage) -> None:
    stage.set(TREKKPAALEGG_ALTINN_SCOPES="skatteetaten:trekkpaalegg")
    rows = stage.rows("apply", code=1)
    assert {row["done"] for row in rows.values()} == {"failed"}
    assert "TREKKPAALEGG_ALTINN_SCOPES" in rows[stage.employers[0]]["remark"]


def test_a_receiver_that_does_not_answer_leaves_them_unvalidated_until_it_does(stage: Stage) -> None:
    stage.receiver.status = 503
    stage.altinn.behaviour = Behaviour(time_factor=1)
    rows = stage.rows("apply", "--wait-seconds", "0.1", code=1)
    assert {(row["done"], row["validated"]) for row in rows.values()} == {("made", False)}
    assert "got no 2xx" in rows[stage.employers[0]]["remark"]
    assert {row["validated"] for row in stage.rows("list").values()} == {False}
    stage.receiver.status = 200
    stage.altinn.behaviour = Behaviour(time_factor=0.0001)
    again = stage.rows("apply")
    assert {(row["done"], row["validated"]) for row in again.values()} == {("renewed", True)}
    assert [row["id"] for row in again.values()] == [row["id"] for row in rows.values()]


def test_a_new_secret_takes_the_place_of_the_old_one_and_leaves_other_vendors_alone(stage: Stage) -> None:
    one = stage.employers[0]
    stage.set(TREKKPAALEGG_WEBHOOK_SECRET=FORMER)
    assert stage.run("apply") == 0
    foreign = {
        "endPoint": "https://another.example.no/hook/secret",
        "resourceFilter": RESOURCE,
        "subjectFilter": f"{SUBJECT}{one}",
    }
    stage.altinn.subscribe(one, foreign)
    stage.set(TREKKPAALEGG_WEBHOOK_SECRET=SECRET)
    rows = stage.rows("apply")
    assert {(row["done"], row["remark"]) for row in rows.values()} == {("made", "1 removed")}
    standing = {each.end_point for each in stage.altinn.of_party(one)}
    assert standing == {f"{stage.receiver.url}/notifications/{SECRET}", foreign["endPoint"]}
    assert "another.example.no" not in stage.printed


def test_delete_removes_what_is_ours_also_of_who_is_not_in_the_list(stage: Stage) -> None:
    assert stage.run("apply") == 0
    gone, *left = stage.employers
    stage.set(TREKKPAALEGG_TREKKPLIKTIGE=",".join(left))
    assert stage.run("apply", "--trekkpliktig", gone) == 2
    assert stage.rows("delete", "--yes", "--trekkpliktig", gone)[gone]["done"] == "removed"
    assert stage.altinn.of_party(gone) == []
    assert {row["done"] for row in stage.rows("delete", "--yes").values()} == {"removed"}
    assert {row["done"] for row in stage.rows("delete", "--yes").values()} == {"none"}
    assert stage.run("delete", "--yes", "--trekkpliktig", "12345678901") == 2
    assert "12345678901" not in stage.said


def test_delete_asks_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stage.run("apply") == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert stage.run("delete") == 1
    assert "nothing was changed" in stage.said
    assert {row["validated"] for row in stage.rows("list").values()} == {True}


def test_a_temporary_failure_is_tried_again(stage: Stage) -> None:
    stage.altinn.faults += [ApiFault(503, "list"), ApiFault(429, "subscribe", retry_after_seconds=0)]
    assert {row["done"] for row in stage.rows("apply").values()} == {"made"}


def test_an_altinn_outage_fails_with_a_message_and_the_next_apply_repairs_it(stage: Stage) -> None:
    stage.outside.stop_altinn()
    rows = stage.rows("apply", code=1)
    assert {row["done"] for row in rows.values()} == {"failed"}
    assert "no connection" in rows[stage.employers[0]]["remark"]
    stage.outside.start_altinn()
    assert {row["done"] for row in stage.rows("apply").values()} == {"made"}


def test_many_without_an_answer_are_not_all_waited_for(stage: Stage) -> None:
    """A hundred thousand employers, three tries each: that Altinn is down is known long before."""
    stage.set(TREKKPAALEGG_TREKKPLIKTIGE=",".join(str(310_300_000 + number) for number in range(120)))
    stage.outside.stop_altinn()
    stage.outside.stop_maskinporten()
    rows = stage.rows("apply", code=1)
    assert sum(row["remark"].startswith("not tried") for row in rows.values()) > 50
    assert "120 of 120" in stage.said
    assert "and 100 more" in stage.said


def altinn_finding(stage: Stage) -> dict[str, Any]:
    stage._capsys.readouterr()  # noqa: SLF001  the doctor is no subcommand of subscriptions
    run_command(["doctor", "--json"])
    findings = json.loads(stage._capsys.readouterr().out)  # noqa: SLF001  as above
    return next(each for each in findings if each["name"] == "Altinn")


def test_the_doctor_tries_altinn_where_it_is_used(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = stage.employers[0]
    finding = altinn_finding(stage)
    assert finding["verdict"] == "failed"
    assert "has no subscription" in finding["found"]
    assert "subscriptions apply" in finding["todo"]
    assert stage.run("apply") == 0
    finding = altinn_finding(stage)
    assert (finding["verdict"], finding["found"]) == (
        "ok",
        f"a validated subscription of {one} to {stage.receiver.url}",
    )
    stage.set(TREKKPAALEGG_NOTIFICATION_TRANSPORT="pull")
    assert altinn_finding(stage)["found"] == f"it lists events about {one}"
    stage.set(TREKKPAALEGG_ALTINN_SCOPES="skatteetaten:trekkpaalegg")
    assert "ALTINN_SCOPES" in altinn_finding(stage)["todo"]
    monkeypatch.delenv("TREKKPAALEGG_WEBHOOK_URL")
    with pytest.raises(StopIteration):
        altinn_finding(stage)


def test_a_long_table_shows_only_rows_with_a_remark(stage: Stage) -> None:
    """Ten thousand rows that say "unchanged" hide the one that matters, and take a minute to draw."""
    many = [str(310_400_000 + number) for number in range(501)]
    for each in many[1:]:
        stage.outside.register(each)
    stage.set(TREKKPAALEGG_TREKKPLIKTIGE=",".join(many))
    assert stage.run("apply") == 1
    assert many[0] in stage.printed
    assert many[1] not in stage.printed
    assert "501 trekkpliktige: 1 failed, 500 made; 500 validated" in stage.printed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TREKKPAALEGG_WEBHOOK_URL", "", "TREKKPAALEGG_WEBHOOK_URL: missing"),
        ("TREKKPAALEGG_WEBHOOK_SECRET", "", "TREKKPAALEGG_WEBHOOK_SECRET: missing"),
        ("TREKKPAALEGG_WEBHOOK_SECRET", "short", "must be 32 to 512"),
        ("TREKKPAALEGG_WEBHOOK_SECRET", "with/slash" * 4, "must be 32 to 512"),
        ("TREKKPAALEGG_WEBHOOK_URL", "https://host/notifications/x", "the base address alone"),
        ("TREKKPAALEGG_WEBHOOK_URL", "host", "must be an address"),
        ("TREKKPAALEGG_ALTINN_URL", "platform.altinn.no", "must be an address"),
        ("TREKKPAALEGG_NOTIFICATION_TRANSPORT", "pigeon", "must be 'push' or 'pull'"),
        ("TREKKPAALEGG_TREKKPLIKTIGE", "", "TREKKPAALEGG_TREKKPLIKTIGE: missing"),
        ("MASKINPORTEN_CLIENT_ID", "", "MASKINPORTEN_CLIENT_ID: missing"),
    ],
)
def test_wrong_settings_are_told_and_nothing_is_asked(stage: Stage, name: str, value: str, words: str) -> None:
    stage.set(**{name: value})
    before = stage.calls()
    assert stage.run("apply") == 2
    assert words in stage.said
    assert stage.calls() == before
