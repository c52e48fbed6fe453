"""Alert rules as Prometheus itself checks them: their syntax, and for each when it fires and when it does not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SIDES = ("producer", "consumers")
CASES = {"producer": "tests/alerts/producer.yml", "consumers": "tests/alerts/consumer.yml"}


def told(promtool: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run([promtool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("side", SIDES)
def test_the_rules_are_rules(program: Callable[[str], str], side: str) -> None:
    code, words = told(program("promtool"), "check", "rules", f"{side}/observe/alerts.yml")
    assert (code, "SUCCESS" in words) == (0, True), words


@pytest.mark.parametrize("side", SIDES)
def test_each_alert_fires_when_it_should_and_stays_silent_when_it_should_not(
    program: Callable[[str], str], side: str
) -> None:
    code, words = told(program("promtool"), "test", "rules", CASES[side])
    assert (code, "SUCCESS" in words) == (0, True), words


def test_a_case_that_does_not_hold_is_told(program: Callable[[str], str], tmp_path: Path) -> None:
    """The cases can fail: with another threshold in the rules some do."""
    rules = (ROOT / "consumers/observe/alerts.yml").read_text(encoding="utf-8")
    cases = yaml.safe_load((ROOT / CASES["consumers"]).read_text(encoding="utf-8"))
    cases["rule_files"] = ["rules.yml"]
    cases["tests"] = [
        case
        for case in cases["tests"]
        if any(rule["alertname"] == "TrekkpaaleggLedgerStalled" for rule in case["alert_rule_test"])
    ]
    (tmp_path / "rules.yml").write_text(rules.replace("stalled_seconds > 300", "stalled_seconds > 100"))
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases, allow_unicode=True))
    code, words = told(program("promtool"), "test", "rules", str(tmp_path / "cases.yml"))
    assert code != 0
    assert "TrekkpaaleggLedgerStalled stays silent while it moves now and then" in words
