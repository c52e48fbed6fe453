"""Operators' commands on a real cluster: what they show, what they change, and when they refuse."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

SECONDS_MAX = 60.0


@pytest.fixture
def stage(kafka: Any, make_stage: Any) -> Any:
    """Employers without orders, on the broker that all tests share."""
    return make_stage(kafka, orders=0)


@pytest.fixture
def command(stage: Any) -> Any:
    """Run a command to its end: exit code, standard output, log."""

    def run(*arguments: str, code: int = 0, **settings: str) -> str:
        process = stage.begin(*arguments, **settings)
        ended = process.wait(SECONDS_MAX)
        output: str = process.log_file.read_text()
        assert ended == code, output
        return output

    return run


def rows(output: str) -> Any:
    """The JSON document among the log lines."""
    start = min(found.start() for found in re.finditer(r"^(\[|\{$)", output, re.MULTILINE))
    return json.JSONDecoder().raw_decode(output[start:])[0]


def test_position_is_shown_set_and_forgotten(stage: Any, command: Any) -> None:
    """Setting it lower publishes nothing twice; forgetting publishes all anew, as it says."""
    employer = stage.employers[0]
    order = stage.outside.skatteetaten.create(employer)
    stage.outside.skatteetaten.change(order.trekkid)
    stage.once()
    (shown,) = [row for row in rows(command("position", "show", "--json")) if row["trekkpliktig"] == employer]
    assert (shown["orders"], shown["versions_missing"]) == (1, 0)
    assert shown["position"] > 0
    command("position", "set", employer, "0", "--yes")
    stage.once()
    stage.prove()
    output = command("position", "forget", employer, "--yes")
    assert "with 1 orders" in output
    stage.once()
    versions = [each.identity for each in stage.versjoner() if each.identity[0] == order.trekkid]
    assert versions == [(order.trekkid, 1), (order.trekkid, 2)] * 2


def test_position_is_not_changed_without_a_yes(stage: Any, command: Any) -> None:
    assert "not confirmed" in command("position", "forget", stage.employers[0], code=1)


def test_rejected_record_is_listed_shown_and_released_once_it_is_mended(stage: Any, command: Any) -> None:
    """A version that could not be understood is published in its turn; the same bytes are refused again."""
    skatteetaten = stage.outside.skatteetaten
    order = skatteetaten.create(stage.employers[0])
    skatteetaten.replace_raw(
        order.trekkid, 1, json.dumps({"trekkid": order.trekkid, "trekkversjon": 1, "sekvensnummer": 5})
    )
    stage.once()
    assert stage.versjoner() == []
    (listed,) = rows(command("quarantine", "list", "--json"))
    assert (listed["trekkid"], listed["trekkversjon"], listed["reason"]) == (order.trekkid, 1, "missing_field")
    assert f'"trekkid": "{order.trekkid}"' in command("quarantine", "show", listed["id"])
    assert "still cannot be understood" in command("quarantine", "release", listed["id"], code=1)
    assert "no record" in command("quarantine", "show", f"{listed['id'].split('/')[0]}/999", code=1)
    command("quarantine", "show", "three", code=2)


def test_changed_content_is_held_back_until_it_is_released_as_a_correction(stage: Any, command: Any) -> None:
    skatteetaten = stage.outside.skatteetaten
    order = skatteetaten.create(stage.employers[0])
    stage.once()
    skatteetaten.rewrite(order.trekkid, 1, {"saksnummer": "CHANGED/1"})
    stage.once()
    stage.once()
    (listed,) = rows(command("quarantine", "list", "--json"))
    assert listed["reason"] == "changed_content"
    assert "--correction" in command("quarantine", "release", listed["id"], code=1)
    command("quarantine", "release", listed["id"], "--correction")
    first, corrected = stage.versjoner()
    assert corrected.identity == first.identity == (order.trekkid, 1)
    assert corrected.correction == 1
    assert corrected.ce_id == f"{order.trekkid}/1/1"
    assert corrected.origin == "release"
    assert corrected.event.saksnummer == "CHANGED/1"
    stage.once()
    assert len(stage.versjoner()) == 2
    assert "same content" in command("quarantine", "release", listed["id"], "--correction", code=1)


def test_backfill_and_reconcile_publish_what_polling_could_not_see(stage: Any, command: Any) -> None:
    """A version far below the position that became visible late: only a full comparison finds it."""
    skatteetaten = stage.outside.skatteetaten
    late = skatteetaten.create(stage.employers[0], visible=False)
    skatteetaten.create(stage.employers[0])
    stage.settings["TREKKPAALEGG_OVERLAP_SEKVENSNUMMER"] = "0"
    stage.once()
    skatteetaten.reveal(late.trekkid, 1)
    stage.once()
    assert late.trekkid not in {each.identity[0] for each in stage.versjoner()}
    document = rows(command("reconcile", "--json"))
    assert [each["trekkid"] for each in document["differences"]] == [late.trekkid]
    stage.prove()
    assert [each.origin for each in stage.versjoner() if each.identity[0] == late.trekkid] == ["reconcile"]
    assert "0 versions published" in command("backfill", "--trekkpliktig", stage.employers[0])
    command("backfill", "--trekkpliktig", "999999999", code=2)


def test_once_refuses_while_a_worker_runs(stage: Any) -> None:
    """It shares the lanes, waits for one session, in case the worker was killed, and gives up."""
    stage.outside.skatteetaten.create(stage.employers[0])
    worker = stage.run()
    stage.wait_until_published()
    process = stage.begin("once")
    assert process.wait(SECONDS_MAX) == 1
    assert re.search("another worker|are running", process.log_file.read_text())
    assert worker.is_running()
    stage.prove()
