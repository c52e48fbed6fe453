"""Secrets from files: each may be given as `NAME_FILE`, by producer and consumers alike, and every fault is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

import consumers.settings.model
import producer.settings.model
from consumers.verify.source import load_source_access
from trekkpaalegg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JWK = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True) | {"kid": "k"}
SOURCE = {
    "TREKKPAALEGG_API_URL": "https://api.example.no/api/trekkpaalegg/v1",
    "TREKKPAALEGG_TREKKPLIKTIGE": "312345609",
    "MASKINPORTEN_CLIENT_ID": "a-client",
    "MASKINPORTEN_WELL_KNOWN_URL": "https://maskinporten.example.no/.well-known/oauth-authorization-server",
}
LOADERS: dict[str, Callable[..., Any]] = {
    "producer": lambda environ: producer.settings.model.load_settings(None, environ, needs=frozenset()),
    "consumers": lambda environ: consumers.settings.model.load_settings(None, environ, needs_kafka=False),
}
ERRORS = (SettingsError, SettingsError)

each_side = pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS.keys())


def faults_of(load: Callable[..., Any], environ: dict[str, str]) -> list[str]:
    with pytest.raises(ERRORS) as caught:
        load(environ)
    return caught.value.faults


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.write_text("postgresql://payroll:hush@host/payroll\n", encoding="utf-8")
    return path


@each_side
def test_a_secret_comes_from_its_file_without_the_line_end(load: Callable[..., Any], secret_file: Path) -> None:
    settings = load({"TREKKPAALEGG_LEDGER_FILE": str(secret_file)})
    assert settings.ledger.get_secret_value() == "postgresql://payroll:hush@host/payroll"
    assert "hush" not in repr(settings)


def test_every_secret_may_be_a_file(tmp_path: Path) -> None:
    """Both sides know the same names, so that one file of settings serves both."""
    wanted = {
        "MASKINPORTEN_CLIENT_JWK_FILE",
        "KAFKA_SCHEMA_REGISTRY_PASSWORD_FILE",
        "TREKKPAALEGG_LEDGER_FILE",
        "TREKKPAALEGG_WEBHOOK_SECRET_FILE",
        "TREKKPAALEGG_FORWARD_SECRET_FILE",
    }
    assert wanted <= producer.settings.model.SECRET_FILE_NAMES
    assert producer.settings.model.SECRET_FILE_NAMES <= consumers.settings.model.KNOWN_NAMES
    (tmp_path / "key").write_text(json.dumps(JWK), encoding="utf-8")
    (tmp_path / "secret").write_text("hush", encoding="utf-8")
    settings = LOADERS["producer"](
        {name: str(tmp_path / ("key" if "JWK" in name else "secret")) for name in wanted}
        | {"KAFKA_SCHEMA_REGISTRY_USER": "someone"}
    )
    assert json.loads(settings.maskinporten_client_jwk.get_secret_value()) == JWK
    assert settings.kafka_schema_registry_password.get_secret_value() == "hush"
    assert settings.webhook_secret.get_secret_value() == "hush"
    assert settings.forward_secret.get_secret_value() == "hush"


def test_the_proof_against_the_source_takes_its_key_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(json.dumps(JWK), encoding="utf-8")
    settings = load_source_access(None, {**SOURCE, "MASKINPORTEN_CLIENT_JWK_FILE": str(tmp_path / "key")})
    assert settings.key.header == {"kid": "k"}
    (tmp_path / "key").unlink()
    with pytest.raises(SettingsError) as caught:
        load_source_access(None, {**SOURCE, "MASKINPORTEN_CLIENT_JWK_FILE": str(tmp_path / "key")})
    (fault,) = caught.value.faults
    assert "MASKINPORTEN_CLIENT_JWK_FILE: there is no file" in fault


@each_side
def test_a_secret_given_twice_is_refused(load: Callable[..., Any], secret_file: Path) -> None:
    environ = {"TREKKPAALEGG_LEDGER_FILE": str(secret_file), "TREKKPAALEGG_LEDGER": "sqlite:///other.db"}
    assert faults_of(load, environ) == [
        "TREKKPAALEGG_LEDGER and TREKKPAALEGG_LEDGER_FILE: give one of the two, not both"
    ]


@each_side
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file"),
        (b" \n", "is empty"),
        (b"\xff\xfe\x00", "cannot be read (UnicodeDecodeError)"),
        (b"x" * 70_000, "is too large for a secret"),
    ],
    ids=["missing", "empty", "no text", "too large"],
)
def test_a_file_that_holds_no_secret_is_one_clear_fault(
    load: Callable[..., Any], secret_file: Path, content: bytes | None, words: str
) -> None:
    secret_file.unlink()
    if content is not None:
        secret_file.write_bytes(content)
    (fault,) = faults_of(load, {"TREKKPAALEGG_LEDGER_FILE": str(secret_file)})
    assert fault.startswith("TREKKPAALEGG_LEDGER_FILE: ")
    assert words in fault
    assert str(secret_file) in fault


@each_side
def test_a_folder_is_no_secret(load: Callable[..., Any], tmp_path: Path) -> None:
    """Docker makes a folder where a file that is to be mounted is missing."""
    (fault,) = faults_of(load, {"TREKKPAALEGG_LEDGER_FILE": str(tmp_path)})
    assert "cannot be read (IsADirectoryError)" in fault


def test_what_is_missing_is_not_told_beside_its_broken_file() -> None:
    with pytest.raises(SettingsError) as caught:
        producer.settings.model.load_settings(
            None, {**SOURCE, "MASKINPORTEN_CLIENT_JWK_FILE": "/nowhere"}, needs=frozenset({"api", "maskinporten"})
        )
    (fault,) = caught.value.faults
    assert fault.startswith("MASKINPORTEN_CLIENT_JWK_FILE: there is no file /nowhere")


def test_what_only_the_producer_uses_is_not_looked_into_by_consumers() -> None:
    LOADERS["consumers"]({"MASKINPORTEN_CLIENT_JWK_FILE": "/nowhere", "TREKKPAALEGG_WEBHOOK_SECRET_FILE": "/nowhere"})


@each_side
def test_a_setting_that_is_no_secret_has_no_file(load: Callable[..., Any]) -> None:
    (fault,) = faults_of(load, {"TREKKPAALEGG_TOPIC_PREFIX_FILE": "/nowhere"})
    assert "no such setting" in fault
