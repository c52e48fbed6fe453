"""Alert rules name only metrics and labels that exist; each has its paragraph, its link to it, and its cases."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import typer
import yaml

from consumers.observe.health import ConsumerHealth
from consumers.observe.prometheus import PrometheusLedgerObserver
from consumers.webhook.observe import ForwarderHealth, PrometheusForwarderObserver
from producer.observe.health import ProducerHealth
from producer.observe.port import LaneMetrics
from producer.observe.prometheus import CLASSES, PrometheusObserver
from trekkpaalegg.kafka.subscription import ClientStatus
from trekkpaalegg.retry import Service

SIDES = ("producer", "consumers")
CASES = {"producer": "tests/alerts/producer.yml", "consumers": "tests/alerts/consumer.yml"}
PROGRAMS = {"trekkpaalegg-producer": "producer", "trekkpaalegg-consumer": "consumers"}
OF_PROMETHEUS_ITSELF = {"up"}
HEADING = re.compile(r"^### (\w+)$", re.MULTILINE)
SELECTOR = re.compile(r"\b((?:trekkpaalegg|process)_[a-z_]+|up\b)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!=|!~|=)"([^"]*)"')
SAMPLE = re.compile(r"^([a-z_]+)(?:\{([^}]*)\})? ", re.MULTILINE)
COMMAND = re.compile(rf"`({'|'.join(PROGRAMS)})((?: [^`\s]+)*)`")


def rules_of(tree: Any, side: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(tree.text(f"{side}/observe/alerts.yml"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    assert len(rules) == len({rule["alert"] for rule in rules})
    return {rule["alert"]: rule for rule in rules}


def exposition_of(side: str) -> str:
    """The metrics of a process that has reported everything once."""
    if side == "producer":
        observer = PrometheusObserver()
        intervals = {"poll_interval_seconds": 300, "reconcile_interval_seconds": 86_400, "pull_interval_seconds": 30}
        observer.observe_process(ProducerHealth(), **intervals)
        observer.lane_acquired(0, 1, 1)
        ages = dict.fromkeys(CLASSES, 1.0)
        counts = dict.fromkeys(CLASSES, 1)
        observer.lane_metrics(0, LaneMetrics(counts, ages, ages, 1, 0, 0, {"urgent": 1, "bulk": 1}, 1, ages))
        for status in ("200", "429", "503", "failed", "404", "410", "400"):
            observer.call_finished("list", status, 1)
        return observer.exposition().decode()
    consumer = PrometheusLedgerObserver(ConsumerHealth())
    consumer.offsets_committed({0: 0})
    consumer.client_checked(
        ClientStatus(partitions=frozenset({0}), ends={0: 1}, partition_count=1, is_reachable=True, is_member=True)
    )
    consumer.call_failed(Service.LEDGER, "no answer")
    forwarder = PrometheusForwarderObserver(ForwarderHealth())
    return consumer.exposition().decode() + forwarder.exposition().decode()


def samples_of(side: str) -> dict[str, dict[str, set[str]]]:
    """Every series' name, and the values of each of its labels."""
    found: dict[str, dict[str, set[str]]] = {}
    for name, labels in SAMPLE.findall(exposition_of(side)):
        values = found.setdefault(name, {})
        for label, _, value in MATCHER.findall(labels):
            values.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("side", SIDES)
def test_each_alert_has_a_paragraph_and_each_paragraph_an_alert(tree: Any, side: str) -> None:
    headings = HEADING.findall(tree.text(f"{side}/observe/RUNBOOK.md"))
    assert headings == list(rules_of(tree, side)), "in the same order, too"


@pytest.mark.parametrize("side", SIDES)
def test_each_section_has_meaning_check_remedy_and_end(tree: Any, side: str) -> None:
    faults = []
    _, *paragraphs = re.split(r"^### ", tree.text(f"{side}/observe/RUNBOOK.md"), flags=re.MULTILINE)
    for paragraph in paragraphs:
        words = re.findall(r"\*\*(\w+)\*\*", paragraph)
        if not {"Means", "See", "Over"} <= set(words) or not {"Type", "type"} & set(words):
            faults.append(paragraph.splitlines()[0])
    assert faults == []


@pytest.mark.parametrize("side", SIDES)
def test_each_alert_is_complete_and_links_to_its_paragraph(tree: Any, side: str) -> None:
    faults = []
    for name, rule in rules_of(tree, side).items():
        told = rule.get("annotations", {})
        if rule.get("labels") not in ({"severity": "critical"}, {"severity": "warning"}):
            faults.append(f"{name}: its severity is neither critical nor warning")
        if told.keys() != {"summary", "description", "runbook"}:
            faults.append(f"{name}: its annotations are not summary, description and runbook")
        if told.get("runbook") != f"{side}/observe/RUNBOOK.md#{name.lower()}":
            faults.append(f"{name}: its runbook does not lead to its paragraph")
    assert faults == []


@pytest.mark.parametrize("side", SIDES)
def test_rules_name_only_metrics_and_labels_that_are_exposed(tree: Any, side: str) -> None:
    samples = samples_of(side)
    faults = []
    named = 0
    for name, rule in rules_of(tree, side).items():
        for metric, matchers in SELECTOR.findall(rule["expr"]):
            named += 1
            if metric in OF_PROMETHEUS_ITSELF:
                continue
            if metric not in samples:
                faults.append(f"{name}: {metric} is not exposed")
                continue
            for label, operator, value in MATCHER.findall(matchers):
                known = samples[metric].get(label, set())
                if not any(re.fullmatch(value, each) if "~" in operator else value == each for each in known):
                    faults.append(f"{name}: {metric} has no {label}{operator}{value}")
    assert named >= len(rules_of(tree, side))
    assert faults == []


@pytest.mark.parametrize("side", SIDES)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(tree: Any, side: str) -> None:
    found: dict[str, set[bool]] = {name: set() for name in rules_of(tree, side)}
    for group in yaml.safe_load(tree.text(CASES[side]))["tests"]:
        for case in group["alert_rule_test"]:
            found[case["alertname"]].add(bool(case["exp_alerts"]))
    assert [name for name, kinds in found.items() if kinds != {True, False}] == []


@pytest.mark.parametrize("side", SIDES)
def test_commands_of_the_run_books_exist_with_their_options(tree: Any, side: str) -> None:
    faults, seen = [], 0
    for program, rest in COMMAND.findall(tree.text(f"{side}/observe/RUNBOOK.md")):
        seen += 1
        command: Any = typer.main.get_command(importlib.import_module(f"{PROGRAMS[program]}.cli.main").app)
        words = rest.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.get_command(typer.Context(command), words.pop(0))
        options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        wrong = [word for word in words if word.startswith("--") and word not in options]
        if wrong or (hasattr(command, "commands") and not command.invoke_without_command):
            faults.append(f"{program}{rest}: {wrong or 'no such command'}")
            continue
        assert command.main(["--help"], standalone_mode=False) in (0, None)
    assert seen
    assert faults == []
