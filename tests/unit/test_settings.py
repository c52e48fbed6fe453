"""Settings: what is accepted, secrets from files, and that all faults are reported at once without a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

import consumers.settings.model
import producer.settings.model
from consumers.verify.source import load_source_access
from producer.settings.model import ALL_NEEDS, SETTING_NAMES, load_settings
from trekkpaalegg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


# Settings: what is accepted, and that all faults are reported at once without a secret
JWK = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True) | {"kid": "k"}
SECRET = JWK["d"]
GOOD = {
    "TREKKPAALEGG_API_URL": "https://api.example.no/api/trekkpaalegg/v1",
    "TREKKPAALEGG_TREKKPLIKTIGE": "312345609,312345617",
    "MASKINPORTEN_CLIENT_ID": "a-client",
    "MASKINPORTEN_CLIENT_JWK": json.dumps(JWK),
    "MASKINPORTEN_WELL_KNOWN_URL": "https://maskinporten.example.no/.well-known/oauth-authorization-server",
    "KAFKA_BROKERS": "127.0.0.1:9092",
}
BAD = [
    ("TREKKPAALEGG_API_URL", "api.skatteetaten.no/v1", "must be an address with scheme and host"),
    ("TREKKPAALEGG_API_URL", "https://api.skatteetaten.no/api/trekkpaalegg", "must end in /v1"),
    ("TREKKPAALEGG_API_URL", "https://user:pass@host/v1", "without user"),
    ("TREKKPAALEGG_API_URL", "https://[half/v1", "must be an address with scheme and host"),
    ("TREKKPAALEGG_SOURCE", "pooling", "must be 'polling' or 'notification'"),
    ("TREKKPAALEGG_AUTHENTICATION", "own", "must be 'egen', 'systembruker' or 'delegert'"),
    ("TREKKPAALEGG_AUTHENTICATION", "egen", "2 trekkpliktige are given"),
    ("TREKKPAALEGG_TREKKPLIKTIGE", "312345609,12", "entry 2: not an organisation number"),
    ("TREKKPAALEGG_TREKKPLIKTIGE", "312345609,", "entry 2: not an organisation number"),
    ("TREKKPAALEGG_TREKKPLIKTIGE", "312345609,312345609", "entry 2: 312345609 is given twice"),
    ("TREKKPAALEGG_TREKKPLIKTIGE_FILE", "/nowhere/at/all", "there is no such file"),
    ("TREKKPAALEGG_POLL_INTERVAL_SECONDS", "0", "must be more than 0"),
    ("TREKKPAALEGG_POLL_INTERVAL_SECONDS", "inf", "must be a number"),
    ("TREKKPAALEGG_POLL_INTERVAL_SECONDS", "five", "must be a number"),
    ("TREKKPAALEGG_MAKS_ANTALL", "0", "must be 1 or more"),
    ("TREKKPAALEGG_MAKS_ANTALL", "2.5", "must be a whole number"),
    ("TREKKPAALEGG_MAX_CONCURRENT_CALLS", "0", "must be 1 or more"),
    ("TREKKPAALEGG_OVERLAP_SEKVENSNUMMER", "-1", "must be 0 or more"),
    ("TREKKPAALEGG_RECONCILE_INTERVAL_SECONDS", "-1", "must be more than 0"),
    ("TREKKPAALEGG_TOPIC_PREFIX", "trekk pålegg", "must be letters, digits"),
    ("TREKKPAALEGG_HTTP_PORT", "65536", "must be 65535 or less"),
    ("TREKKPAALEGG_WEBHOOK_ALLOWED_ADDRESSES", "192.0.2.0/24,altinn.no", "must be IP addresses or networks"),
    ("TREKKPAALEGG_WEBHOOK_PROXIES", "192.0.2.7/24", "must be IP addresses or networks"),
    ("TREKKPAALEGG_WEBHOOK_CALLS_PER_SECOND", "0", "must be 1 or more"),
    ("TREKKPAALEGG_POL_INTERVAL_SECONDS", "5", "did you mean TREKKPAALEGG_POLL_INTERVAL_SECONDS?"),
    ("TREKKPAALEGG_XYZZY", "5", "no such setting"),
    ("MASKINPORTEN_CLIENT_JWK", "{" + SECRET, "is no JSON"),
    ("MASKINPORTEN_CLIENT_JWK", json.dumps(SECRET), "is JSON but no object"),
    ("MASKINPORTEN_CLIENT_JWK", json.dumps(JWK | {"kty": "EC"}), "is no RSA key"),
    ("MASKINPORTEN_CLIENT_JWK", json.dumps({**JWK, "d": None}), "is a public key"),
    ("MASKINPORTEN_CLIENT_JWK", json.dumps(JWK | {"n": "AQAB"}), "its numbers make no RSA key"),
    ("MASKINPORTEN_TOKEN_ENDPOINT", "maskinporten.no/token", "must be an address with scheme and host"),
    ("KAFKA_BROKERS", "http://127.0.0.1:9092/", "must be host:port"),
    ("KAFKA_BROKERS", "127.0.0.1:9092,", "must be host:port"),
    ("KAFKA_CA_PATH", "/nowhere/at/all", "there is no such file"),
    ("KAFKA_SCHEMA_REGISTRY", "registry:8081", "must be an address with scheme and host"),
    ("KAFKA_SCHEMA_REGISTRY_USER", "someone", "give both or neither"),
    ("KAFKA_PROPERTIES_FILE", "/nowhere/at/all", "there is no such file"),
]


def faults_of(environ: dict[str, str], env_file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(env_file, environ)
    return caught.value.faults


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_good_settings_are_read_with_the_documented_defaults() -> None:
    settings = load_settings(None, GOOD)
    assert settings.trekkpliktige == ("312345609", "312345617")
    assert (settings.poll_interval_seconds, settings.maks_antall, settings.max_concurrent_calls) == (300, 2500, 5)
    assert (settings.overlap_sekvensnummer, settings.reconcile_interval_seconds) == (1000, 86_400)
    assert (settings.topic_prefix, settings.application_id) == ("trekkpaalegg", "trekkpaalegg-producer")
    assert settings.kafka_schema_registry is None


def test_the_application_is_named_after_its_topics_unless_it_is_named() -> None:
    own = {**GOOD, "TREKKPAALEGG_TOPIC_PREFIX": "own"}
    assert load_settings(None, own).application_id == "own-producer"
    assert load_settings(None, {**own, "TREKKPAALEGG_APPLICATION_ID": "app"}).application_id == "app"


@pytest.mark.parametrize(("name", "value", "told"), BAD)
def test_a_bad_value_is_reported_by_its_name(name: str, value: str, told: str) -> None:
    faults = faults_of({**GOOD, name: value})
    assert any(name in fault and told in fault for fault in faults), faults


def test_the_service_that_is_notified_of_changes_needs_a_port_and_a_secret() -> None:
    needs = ALL_NEEDS | {"receiver"}
    told = {**GOOD, "TREKKPAALEGG_SOURCE": "notification"}
    with pytest.raises(SettingsError) as caught:
        load_settings(None, told, needs=needs)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "TREKKPAALEGG_WEBHOOK_PORT",
        "TREKKPAALEGG_WEBHOOK_SECRET",
    ]
    given = {"TREKKPAALEGG_WEBHOOK_PORT": "8443", "TREKKPAALEGG_WEBHOOK_SECRET": "s" * 40}
    settings = load_settings(None, told | given, needs=needs)
    assert (settings.receives, settings.poll_interval_seconds) == (True, 21_600)
    with pytest.raises(SettingsError, match="32 to 512 letters"):
        load_settings(None, told | given | {"TREKKPAALEGG_WEBHOOK_SECRET": "short"}, needs=needs)


def test_commands_that_receive_nothing_need_neither() -> None:
    assert load_settings(None, {**GOOD, "TREKKPAALEGG_SOURCE": "notification"}).source == "notification"


def test_every_fault_is_reported_at_once() -> None:
    environ = {**GOOD, **{name: value for name, value, _ in BAD}}
    del environ["MASKINPORTEN_CLIENT_ID"]
    told = "\n".join(faults_of(environ))
    for name in [*(name for name, _, _ in BAD if name != "TREKKPAALEGG_AUTHENTICATION"), "MASKINPORTEN_CLIENT_ID"]:
        assert name in told


def test_nothing_given_names_all_that_is_missing_and_only_that() -> None:
    assert [fault.partition(":")[0] for fault in faults_of({})] == [name for name in SETTING_NAMES if name in GOOD]


def test_what_a_command_does_not_need_may_be_missing() -> None:
    settings = load_settings(None, {"KAFKA_BROKERS": "kafka:9092"}, needs=frozenset({"kafka"}))
    assert settings.api_url == ""


def test_notification_is_asked_to_come_later_only_where_the_source_is_used() -> None:
    settings = load_settings(
        None, {"TREKKPAALEGG_SOURCE": "notification", "KAFKA_BROKERS": "kafka:9092"}, needs=frozenset({"kafka"})
    )
    assert settings.poll_interval_seconds == 21_600


def test_no_secret_shows_in_a_repr_or_a_fault() -> None:
    secrets = {
        "TREKKPAALEGG_WEBHOOK_SECRET": SECRET,
        "KAFKA_SCHEMA_REGISTRY_USER": "someone",
        "KAFKA_SCHEMA_REGISTRY_PASSWORD": SECRET,
    }
    assert SECRET not in repr(load_settings(None, GOOD | secrets))
    jwks = [value for name, value, _ in BAD if name == "MASKINPORTEN_CLIENT_JWK"]
    for jwk in jwks:
        assert SECRET not in "\n".join(faults_of(GOOD | secrets | {"MASKINPORTEN_CLIENT_JWK": jwk}))


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(None, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        settings.maks_antall = 1


def test_the_environment_wins_over_the_given_file_which_wins_over_dot_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TREKKPAALEGG_MAKS_ANTALL=1\nTREKKPAALEGG_HTTP_PORT=1\nTREKKPAALEGG_INSTANCE_ID=a\n")
    given = tmp_path / "given.env"
    given.write_text("# told by hand\nexport TREKKPAALEGG_MAKS_ANTALL=2\nTREKKPAALEGG_HTTP_PORT='2'\n")
    settings = load_settings(given, {**GOOD, "TREKKPAALEGG_MAKS_ANTALL": "3"})
    assert (settings.maks_antall, settings.http_port, settings.instance_id) == (3, 2, "a")


def test_a_file_that_cannot_be_read_is_reported_with_its_line(tmp_path: Path) -> None:
    given = tmp_path / "given.env"
    given.write_text("TREKKPAALEGG_MAKS_ANTALL=2\nTREKKPAALEGG_HTTP_PORT='half\n")
    assert any("line 2" in fault for fault in faults_of(GOOD, given))
    assert any("absent.env" in fault for fault in faults_of(GOOD, tmp_path / "absent.env"))


def test_an_empty_value_counts_as_not_given() -> None:
    assert load_settings(None, {**GOOD, "TREKKPAALEGG_INSTANCE_ID": " "}).instance_id is None


def test_service_links_of_kubernetes_are_no_settings() -> None:
    links = {
        "TREKKPAALEGG_PRODUCER_SERVICE_HOST": "10.0.0.1",
        "TREKKPAALEGG_PRODUCER_SERVICE_PORT": "8080",
        "TREKKPAALEGG_PRODUCER_SERVICE_PORT_HTTP": "8080",
        "TREKKPAALEGG_PRODUCER_PORT": "tcp://10.0.0.1:8080",
        "TREKKPAALEGG_PRODUCER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "TREKKPAALEGG_PRODUCER_PORT_8080_TCP_PROTO": "tcp",
        "TREKKPAALEGG_PRODUCER_PORT_8080_TCP_PORT": "8080",
        "TREKKPAALEGG_PRODUCER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "TREKKPAALEGG_HTTP_PORT": "tcp://10.0.0.1:8080",
    }
    assert load_settings(None, GOOD | links).http_port == 8080


def test_a_misspelt_port_is_not_mistaken_for_a_service_link() -> None:
    assert "TREKKPAALEGG_HTPP_PORT" in faults_of({**GOOD, "TREKKPAALEGG_HTPP_PORT": "8081"})[0]


def test_a_check_digit_that_fails_is_a_warning() -> None:
    settings = load_settings(None, {**GOOD, "TREKKPAALEGG_TREKKPLIKTIGE": "312345671"})
    assert ["312345671" in warning for warning in settings.warnings] == [True]


def test_the_list_and_the_file_of_trekkpliktige_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("312345609\n")
    faults = faults_of({**GOOD, "TREKKPAALEGG_TREKKPLIKTIGE_FILE": str(tmp_path / "list")})
    assert "give one of the two" in faults[0]


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("-")
    faults = faults_of({**GOOD, "KAFKA_CERTIFICATE_PATH": str(tmp_path / "c.pem")})
    assert faults == ["KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH: give both or neither"]


def test_all_needs_are_the_default() -> None:
    assert frozenset({"api", "maskinporten", "kafka"}) == ALL_NEEDS


# Secrets from files: each may be given as `NAME_FILE`, by producer and consumers alike, and every fault is reported
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


def faults_of_loading(load: Callable[..., Any], environ: dict[str, str]) -> list[str]:
    with pytest.raises(ERRORS) as caught:
        load(environ)
    return caught.value.faults


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
    assert faults_of_loading(load, environ) == [
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
    (fault,) = faults_of_loading(load, {"TREKKPAALEGG_LEDGER_FILE": str(secret_file)})
    assert fault.startswith("TREKKPAALEGG_LEDGER_FILE: ")
    assert words in fault
    assert str(secret_file) in fault


@each_side
def test_a_folder_is_no_secret(load: Callable[..., Any], tmp_path: Path) -> None:
    """Docker makes a folder where a file that is to be mounted is missing."""
    (fault,) = faults_of_loading(load, {"TREKKPAALEGG_LEDGER_FILE": str(tmp_path)})
    assert "cannot be read (IsADirectoryError)" in fault


def test_what_is_missing_is_not_reported_beside_its_broken_file() -> None:
    with pytest.raises(SettingsError) as caught:
        producer.settings.model.load_settings(
            None, {**SOURCE, "MASKINPORTEN_CLIENT_JWK_FILE": "/nowhere"}, needs=frozenset({"api", "maskinporten"})
        )
    (fault,) = caught.value.faults
    assert fault.startswith("MASKINPORTEN_CLIENT_JWK_FILE: there is no file /nowhere")


def test_settings_that_only_the_producer_uses_are_not_checked_by_consumers() -> None:
    LOADERS["consumers"]({"MASKINPORTEN_CLIENT_JWK_FILE": "/nowhere", "TREKKPAALEGG_WEBHOOK_SECRET_FILE": "/nowhere"})


@each_side
def test_a_setting_that_is_no_secret_has_no_file(load: Callable[..., Any]) -> None:
    (fault,) = faults_of_loading(load, {"TREKKPAALEGG_TOPIC_PREFIX_FILE": "/nowhere"})
    assert "no such setting" in fault
