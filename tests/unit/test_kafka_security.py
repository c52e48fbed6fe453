"""How clients are to speak with Kafka, from the user's own properties; and what contradicts itself is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import consumers.settings.model
import producer.settings.kafka
import producer.settings.model
from trekkpaalegg.errors import RefusedError, SettingsError
from trekkpaalegg.kafka.security import security_faults, security_protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SASL = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "we", "sasl.password": "secret-1"}


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
def test_what_contradicts_itself_is_told_without_values(own: dict, has_files: bool, told: str) -> None:
    faults = security_faults(own, has_files=has_files)
    assert [told in fault for fault in faults] == [True]
    assert "secret-1" not in faults[0]


def test_sasl_without_tls_goes_where_it_is_asked_for_by_name() -> None:
    assert security_faults({"security.protocol": "sasl_plaintext", **SASL}, has_files=False) == []


@pytest.mark.parametrize("load", [producer.settings.model.load_settings, consumers.settings.model.load_settings])
def test_both_programs_refuse_to_start_on_a_contradiction(load, tmp_path: Path) -> None:
    path = tmp_path / "kafka.properties"
    path.write_text("security.protocol=plaintext\nsasl.mechanism=PLAIN\nsasl.username=we\nsasl.password=secret-1\n")
    environ = {"KAFKA_BROKERS": "127.0.0.1:9092", "KAFKA_PROPERTIES_FILE": str(path)}
    with pytest.raises((SettingsError, consumers.settings.model.SettingsError)) as raised:
        load(None, environ)
    assert "security.protocol is plaintext, which does not use it" in str(raised.value)
    assert "secret-1" not in str(raised.value)


def test_consumers_speak_as_the_producer_does(tmp_path: Path) -> None:
    path, ca = tmp_path / "kafka.properties", tmp_path / "ca.pem"
    path.write_text("".join(f"{name}={value}\n" for name, value in SASL.items()))
    ca.write_text("-")
    environ = {"KAFKA_BROKERS": "127.0.0.1:9092", "KAFKA_PROPERTIES_FILE": str(path), "KAFKA_CA_PATH": str(ca)}
    properties = consumers.settings.model.kafka_properties(consumers.settings.model.load_settings(None, environ))
    assert properties["security.protocol"] == "sasl_ssl"
    assert properties["ssl.ca.location"] == str(ca)


def properties_of(program: str, path: Path) -> Callable[[], dict[str, str]]:
    """What gives the properties of a client that is made now, after a start with that file."""
    environ = {"KAFKA_BROKERS": "a:1", "KAFKA_PROPERTIES_FILE": str(path)}
    if program == "consumers":
        of_consumer = consumers.settings.model.load_settings(None, environ)
        return lambda: consumers.settings.model.kafka_properties(of_consumer)
    of_one = producer.settings.model.load_settings(None, environ, needs=frozenset())
    return lambda: producer.settings.kafka.kafka_properties(of_one)


@pytest.mark.parametrize("program", ["producer", "consumers"])
def test_a_corrected_password_is_read_anew_and_nothing_else_is(program: str, tmp_path: Path) -> None:
    path = tmp_path / "kafka.properties"
    sasl = "security.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nsasl.username=we\n"
    path.write_text(f"{sasl}sasl.password=wrong\nlinger.ms=5\n")
    read = properties_of(program, path)
    before = read()
    assert before["sasl.password"] == "wrong"
    path.write_text(f"{sasl}sasl.password=rightful\nlinger.ms=50\nbootstrap.servers=b:1\n")
    assert read() == before | {"sasl.password": "rightful"}


@pytest.mark.parametrize("text", ["sasl.password\n", "sasl.mechanism=PLAIN\nsasl.username=we\n", None])
def test_a_file_that_cannot_be_used_any_more_keeps_what_was_or_is_told(text: str | None, tmp_path: Path) -> None:
    """The producer lives on with what it has; a consumer asks again only when it was refused, and so says why."""
    path = tmp_path / "kafka.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in {**SASL, "security.protocol": "sasl_ssl"}.items()))
    of_one, of_other = properties_of("producer", path), properties_of("consumers", path)
    before = of_one()
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert of_one() == before
    with pytest.raises(RefusedError, match="KAFKA_PROPERTIES_FILE"):
        of_other()
