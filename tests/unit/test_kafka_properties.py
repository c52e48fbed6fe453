"""The librdkafka properties of both programs: from settings and the user's file, with credentials as they are now."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import structlog

import consumers.settings.model
import producer.settings.model
from trekkpaalegg.cli import ExitCode, ending_of
from trekkpaalegg.errors import KafkaSettingsError, RetryableError, SettingsError
from trekkpaalegg.kafka.clients import create_producer
from trekkpaalegg.kafka.properties import (
    REFUSED_PROPERTIES,
    RenewableProperties,
    kafka_properties,
    parse_properties,
    security_faults,
    security_protocol,
    tolerate_renewal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trekkpaalegg.settings import KafkaSettings

    Load = Callable[[Mapping[str, str]], KafkaSettings]

SASL = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "we", "sasl.password": "secret-1"}
BROKERS = {"KAFKA_BROKERS": "127.0.0.1:9092"}
NAMES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")


def load_producer(environ: Mapping[str, str]) -> KafkaSettings:
    return producer.settings.model.load_settings(None, environ, needs=frozenset({"kafka"}))


def load_consumer(environ: Mapping[str, str]) -> KafkaSettings:
    return consumers.settings.model.load_settings(None, environ)


@pytest.fixture(params=[load_producer, load_consumer])
def load(request: pytest.FixtureRequest) -> Load:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The user's own file."""
    return tmp_path / "kafka.properties"


def written(properties: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())


# From settings to properties.


@pytest.mark.parametrize("name", sorted(REFUSED_PROPERTIES))
def test_both_programs_refuse_a_property_that_the_guarantee_rests_on_with_exit_2(
    load: Load, name: str, path: Path
) -> None:
    path.write_text(f"linger.ms=5\n{name}=x\nnonsense\nlinger.ms=6\n")
    with pytest.raises(SettingsError) as raised:
        load({**BROKERS, "KAFKA_PROPERTIES_FILE": str(path)})
    assert [fault.partition(": ")[2] for fault in raised.value.faults] == [
        f"line 2: {name} is set by the program, for exactly-once; remove it",
        "line 3 is not of the form key=value",
        "line 4: linger.ms is given twice",
    ]
    assert ending_of(raised.value)[0] is ExitCode.WRONG_USAGE


def test_the_user_s_own_properties_win_over_those_of_the_platform(load: Load, path: Path, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-")
    path.write_text("# tuned\nlinger.ms = 50\nsasl.password=a=b\n")
    settings = load({**BROKERS, "KAFKA_CA_PATH": str(ca), "KAFKA_PROPERTIES_FILE": str(path)})
    program = "producer" if load is load_producer else "consumer"
    assert kafka_properties(settings) == {
        "client.id": f"trekkpaalegg-{program}",
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "ssl",
        "ssl.ca.location": str(ca),
        "linger.ms": "50",
        "sasl.password": "a=b",
    }
    assert "a=b" not in repr(settings)


def test_the_properties_file_may_name_the_brokers(load: Load, path: Path) -> None:
    path.write_text("bootstrap.servers=elsewhere:9092\n")
    for beside in ({}, BROKERS):
        settings = load({**beside, "KAFKA_PROPERTIES_FILE": str(path)})
        assert kafka_properties(settings)["bootstrap.servers"] == "elsewhere:9092"


def test_sasl_and_certificates_together_are_sasl_over_tls(load: Load, path: Path, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-")
    path.write_text(written(SASL))
    properties = kafka_properties(load({**BROKERS, "KAFKA_PROPERTIES_FILE": str(path), "KAFKA_CA_PATH": str(ca)}))
    assert (properties["security.protocol"], properties["ssl.ca.location"]) == ("sasl_ssl", str(ca))


def test_a_corrected_password_is_read_again_and_nothing_else_is(load: Load, path: Path) -> None:
    sasl = "security.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nsasl.username=we\n"
    path.write_text(f"{sasl}sasl.password=wrong\nlinger.ms=5\n")
    settings = load({**BROKERS, "KAFKA_PROPERTIES_FILE": str(path)})
    before = kafka_properties(settings)
    assert before["sasl.password"] == "wrong"
    path.write_text(f"{sasl}sasl.password=rightful\nlinger.ms=50\nbootstrap.servers=b:1\n")
    assert kafka_properties(settings) == before | {"sasl.password": "rightful"}


@pytest.mark.parametrize("text", ["sasl.password\n", "sasl.mechanism=PLAIN\nsasl.username=we\n", None])
def test_an_unusable_file_is_reported_once_and_the_former_properties_are_kept(
    load: Load, text: str | None, path: Path
) -> None:
    path.write_text(written({**SASL, "security.protocol": "sasl_ssl"}))
    settings = load({**BROKERS, "KAFKA_PROPERTIES_FILE": str(path)})
    before = kafka_properties(settings)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with structlog.testing.capture_logs() as logs:
        assert kafka_properties(settings) == kafka_properties(settings) == before
    assert ["KAFKA_PROPERTIES_FILE" in entry["reason"] for entry in logs] == [True]
    assert "secret-1" not in str(logs)


def test_values_keep_their_equals_signs() -> None:
    assert parse_properties("a = b = c\n!x\n\n", "file") == {"a": "b = c"}


# TLS and SASL.


@pytest.mark.parametrize(
    ("own", "has_files", "protocol"),
    [
        ({}, False, None),
        ({}, True, "ssl"),
        (SASL, True, "sasl_ssl"),
        ({"ssl.ca.location": "/ca.pem"}, False, "ssl"),
        ({"ssl.ca.location": "/ca.pem", **SASL}, False, "sasl_ssl"),
        ({"linger.ms": "5"}, True, "ssl"),
        ({"sasl.password": "secret-1"}, True, "ssl"),
        ({"security.protocol": "SASL_SSL", **SASL}, True, None),
    ],
)
def test_the_protocol_follows_from_what_is_given(own: dict, has_files: bool, protocol: str | None) -> None:
    assert security_protocol(own, has_files=has_files) == protocol
    assert security_faults(own, has_files=has_files) == []


@pytest.mark.parametrize(
    ("own", "has_files", "told"),
    [
        (SASL, False, "sasl.* is given, but no TLS"),
        ({"security.protocol": "plaintext"}, True, "without TLS, but KAFKA_CA_PATH"),
        ({"security.protocol": "sasl_plaintext", **SASL}, True, "without TLS, but KAFKA_CA_PATH"),
        ({"security.protocol": "ssl", **SASL}, True, "security.protocol is ssl, which does not use it"),
        ({"security.protocol": "plaintext", **SASL}, False, "security.protocol is plaintext, which does not use it"),
        ({"security.protocol": "tls"}, True, "must be one of plaintext, ssl, sasl_plaintext, sasl_ssl"),
        ({"sasl.username": "we", "sasl.password": "secret-1"}, True, "without sasl.mechanism"),
        ({"sasl.mechanism": "PLAIN", "sasl.username": "we"}, True, "without sasl.password; give both"),
    ],
)
def test_what_contradicts_itself_is_reported_without_values(own: dict, has_files: bool, told: str) -> None:
    faults = security_faults(own, has_files=has_files)
    assert [told in fault for fault in faults] == [True]
    assert "secret-1" not in faults[0]


def test_sasl_without_tls_is_allowed_if_requested_by_name() -> None:
    assert security_faults({"security.protocol": "sasl_plaintext", **SASL}, has_files=False) == []


def test_both_programs_refuse_to_start_on_a_contradiction(load: Load, path: Path) -> None:
    path.write_text("security.protocol=plaintext\nsasl.mechanism=PLAIN\nsasl.username=we\nsasl.password=secret-1\n")
    with pytest.raises(SettingsError) as raised:
        load({**BROKERS, "KAFKA_PROPERTIES_FILE": str(path)})
    assert "security.protocol is plaintext, which does not use it" in str(raised.value)
    assert "secret-1" not in str(raised.value)


# Credentials that are renewed while a client runs.


@pytest.fixture
def renewable(tmp_path: Path) -> dict[str, str]:
    paths = {name: tmp_path / name for name in NAMES}
    for path in paths.values():
        path.write_text("old")
    return {name: str(path) for name, path in paths.items()} | {"sasl.password": "old"}


def test_nothing_is_due_while_nothing_changes(renewable: dict[str, str]) -> None:
    kept = RenewableProperties(lambda: dict(renewable))
    assert not kept.have_changed()
    assert kept.load() == renewable
    assert not kept.have_changed()


@pytest.mark.parametrize("name", NAMES)
def test_a_rewritten_file_makes_renewal_due_until_it_is_used(
    renewable: dict[str, str], tmp_path: Path, name: str
) -> None:
    kept = RenewableProperties(lambda: dict(renewable))
    path = tmp_path / name
    written_ns = path.stat().st_mtime_ns
    path.write_text("new")
    os.utime(path, ns=(written_ns + 1, written_ns + 1))
    assert kept.have_changed()
    kept.load()
    assert not kept.have_changed()
    path.unlink()
    assert kept.have_changed()


def test_another_password_makes_renewal_due(renewable: dict[str, str]) -> None:
    kept = RenewableProperties(lambda: dict(renewable))
    renewable["sasl.password"] = "new"
    assert kept.have_changed()
    assert kept.loaded["sasl.password"] == "old"
    assert kept.load()["sasl.password"] == "new"


def test_a_later_client_that_cannot_be_made_is_made_later_still(renewable: dict[str, str]) -> None:
    nonsense = {name: renewable[name] for name in NAMES} | {"security.protocol": "ssl"}
    with pytest.raises(KafkaSettingsError, match="cannot be used"):
        create_producer(nonsense)
    with pytest.raises(RetryableError, match="cannot be used"), tolerate_renewal():
        create_producer(nonsense)
    with pytest.raises(RetryableError, match="line 3"), tolerate_renewal():
        raise SettingsError(["line 3"])
