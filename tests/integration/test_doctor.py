"""`doctor` and `schemas` against the simulated outside world, a real Kafka and a real registry."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from producer.cli.main import run_command
from sandbox.control.world import OutsideWorld
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandbox.servers.kafka import EmbeddedKafka
    from sandbox.servers.registry import EmbeddedRegistry

pytestmark = pytest.mark.kafka
EMPLOYER = "312345609"
CHECKS = ["settings", "key", "token", "API", "Kafka", "topics", "registry", "schemas"]


@pytest.fixture(scope="module")
def world() -> Iterator[OutsideWorld]:
    with OutsideWorld() as outside:
        outside.register(EMPLOYER)
        yield outside


@pytest.fixture(autouse=True)
def _logs_aside() -> Iterator[None]:
    """Log as the program does, but not into what the test reads."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs(stream=io.StringIO())
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def environ(
    world: OutsideWorld,
    kafka: EmbeddedKafka,
    registry: EmbeddedRegistry,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    given = {
        **world.environment([EMPLOYER]),
        "KAFKA_BROKERS": kafka.bootstrap_servers,
        "KAFKA_SCHEMA_REGISTRY": registry.url,
        "TREKKPAALEGG_TOPIC_PREFIX": topic_prefix,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def examine(capsys: pytest.CaptureFixture) -> tuple[int, dict[str, Any], str]:
    """The exit code, the findings by name, and what was said on stderr."""
    capsys.readouterr()
    code = run_command(["doctor", "--json"])
    captured = capsys.readouterr()
    return code, {finding["name"]: finding for finding in json.loads(captured.out)}, captured.err


def verdicts(findings: dict[str, Any]) -> dict[str, str]:
    return {name: finding["verdict"] for name, finding in findings.items()}


@pytest.mark.usefixtures("environ")
def test_from_a_bare_cluster_to_all_well_by_doing_what_it_says(capsys: pytest.CaptureFixture) -> None:
    code, findings, told = examine(capsys)
    assert code == 1
    assert list(findings) == CHECKS
    assert {name for name, verdict in verdicts(findings).items() if verdict != "ok"} == {"topics"}
    assert "`trekkpaalegg-producer topics apply`" in findings["topics"]["todo"]
    assert told == "trekkpaalegg-producer: 1 of 8 checks failed: topics; see what to do beside each\n"
    assert run_command(["topics", "apply", "--partitions", "2"]) == 0
    assert run_command(["schemas", "register"]) == 0
    code, findings, _ = examine(capsys)
    assert (code, set(verdicts(findings).values())) == (0, {"ok"})
    assert "2 lanes" in findings["topics"]["found"]
    assert "HTTP 200 with 0 orders" in findings["API"]["found"]


def test_no_secret_is_told(environ: dict[str, str], capsys: pytest.CaptureFixture) -> None:
    _, findings, told = examine(capsys)
    private = json.loads(environ["MASKINPORTEN_CLIENT_JWK"])
    for part in ("d", "p", "q"):
        assert private[part] not in json.dumps(findings) + told


@pytest.mark.usefixtures("environ")
def test_it_continues_after_a_failure_and_skips_only_dependent_checks(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKINPORTEN_CLIENT_ID", "nobody")
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY", "http://127.0.0.1:1")
    code, findings, _ = examine(capsys)
    assert code == 1
    assert verdicts(findings) == {
        "settings": "ok",
        "key": "ok",
        "token": "failed",
        "API": "skipped",
        "Kafka": "ok",
        "topics": "failed",
        "registry": "failed",
        "schemas": "ok",
    }
    for finding in findings.values():
        assert bool(finding["todo"]) == (finding["verdict"] == "failed")


@pytest.mark.usefixtures("environ")
def test_wrong_settings_are_all_told_and_the_rest_is_tried(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TREKKPAALEGG_MAKS_ANTALL", "many")
    monkeypatch.setenv("MASKINPORTEN_CLIENT_JWK", "{}")
    _, findings, _ = examine(capsys)
    assert "TREKKPAALEGG_MAKS_ANTALL" in findings["settings"]["todo"]
    assert "MASKINPORTEN_CLIENT_JWK" in findings["settings"]["todo"]
    assert (findings["key"]["verdict"], findings["token"]["verdict"]) == ("skipped", "skipped")
    assert findings["Kafka"]["verdict"] == "ok"


@pytest.mark.usefixtures("environ")
def test_an_address_that_answers_something_else_is_told(
    world: OutsideWorld, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TREKKPAALEGG_API_URL", f"{world.control_url}/elsewhere/v1")
    _, findings, _ = examine(capsys)
    assert (findings["API"]["verdict"], bool(findings["API"]["todo"])) == ("failed", True)


def test_the_table_tells_the_same_for_people(environ: dict[str, str], capsys: pytest.CaptureFixture) -> None:
    run_command(["doctor"])
    shown = capsys.readouterr().out
    for name in CHECKS:
        assert name in shown
    assert environ["KAFKA_BROKERS"] in shown


@pytest.mark.usefixtures("environ")
def test_schemas_are_registered_once_and_checked_against_what_is_registered(capsys: pytest.CaptureFixture) -> None:
    assert run_command(["schemas", "register", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert len(first) == 3
    assert run_command(["schemas", "register", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert run_command(["schemas", "check", "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    assert {entry["checked"] for entry in checked} >= {entry["subject"] for entry in first}
    assert all(entry["faults"] == [] for entry in checked)


def test_registering_without_a_registry_is_a_fault_of_the_settings(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KAFKA_SCHEMA_REGISTRY", raising=False)
    assert run_command(["schemas", "register"]) == 2
    assert "KAFKA_SCHEMA_REGISTRY" in capsys.readouterr().err
    assert run_command(["schemas", "check"]) == 0
