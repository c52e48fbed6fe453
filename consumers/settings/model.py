"""The environment and `.env` files in, frozen settings out, or `SettingsError` with every fault at once.

Every name of the contract is accepted, so that one file of settings serves producer and consumers alike; those that
only the producer uses are not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from consumers.settings.environment import FILE_SUFFIX, PREFIX, read_environment, read_secret_files
from trekkpaalegg.errors import RefusedError, SettingsError
from trekkpaalegg.kafka.security import PROTOCOL, renewed, security_faults, security_protocol

REFUSED_PROPERTIES = frozenset(
    {
        "transactional.id",
        "isolation.level",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "partitioner",
        "group.id",
        "enable.auto.commit",
    }
)
"""What the exactly-once guarantee rests on: set by the code alone. `request.required.acks` is librdkafka's other name
for `acks`."""

BROKER_PROPERTIES = ("bootstrap.servers", "metadata.broker.list")

PRODUCER_SETTINGS = frozenset(
    {
        *(
            f"{PREFIX}{name}"
            for name in (
                *("API_URL", "SOURCE", "TREKKPLIKTIGE", "TREKKPLIKTIGE_FILE", "AUTHENTICATION"),
                *("POLL_INTERVAL_SECONDS", "MAKS_ANTALL", "MAX_CONCURRENT_CALLS", "WORKERS", "OVERLAP_SEKVENSNUMMER"),
                *("RECONCILE_INTERVAL_SECONDS", "APPLICATION_ID", "HTTP_PORT"),
                *("WEBHOOK_PORT", "WEBHOOK_SECRET", "WEBHOOK_SECRET_FILE", "WEBHOOK_URL"),
                *("WEBHOOK_ALLOWED_ADDRESSES", "WEBHOOK_PROXIES", "WEBHOOK_CALLS_PER_SECOND"),
                *("NOTIFICATION_TRANSPORT", "PULL_INTERVAL_SECONDS", "ALTINN_URL", "ALTINN_SCOPES"),
            )
        ),
        *(
            f"MASKINPORTEN_{name}"
            for name in (
                *("CLIENT_ID", "CLIENT_JWK", "CLIENT_JWK_FILE", "SCOPES"),
                *("WELL_KNOWN_URL", "ISSUER", "TOKEN_ENDPOINT"),
            )
        ),
    }
)
"""Names of the contract that no consumer uses."""

_NAME_LENGTH_MAX = 200
_KAFKA_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BROKER = re.compile(r"(?:[A-Z_]+://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_FORWARD_ADDRESS = re.compile(r"https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]*(?:/[^#\s]*)?")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]*(?:/[^?#\s]*)?")


def _brokers(text: str) -> str:
    if not all(_BROKER.fullmatch(part.strip()) for part in text.split(",")):
        raise ValueError("must be host:port, several separated by commas")
    return text


def _registry_url(text: str) -> str:
    if not all(_ADDRESS.fullmatch(part.strip()) for part in text.split(",")):
        raise ValueError("must be an address such as https://host/path, without user, query or fragment")
    return text


def _forward_url(text: str) -> str:
    if not _FORWARD_ADDRESS.fullmatch(text):
        raise ValueError("must be an address such as https://host/path, without user or fragment")
    return text


def _kafka_name(text: str) -> str:
    if not _KAFKA_NAME.fullmatch(text) or len(text) > _NAME_LENGTH_MAX:
        raise ValueError(f"must be letters, digits, `.`, `_` or `-`, at most {_NAME_LENGTH_MAX}")
    return text


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


_KafkaName = Annotated[str, AfterValidator(_kafka_name)]
_ExistingFile = Annotated[Path, AfterValidator(_file)]


class Settings(BaseModel):
    """Every setting that consumers use; an attribute is the name in lower case, without `TREKKPAALEGG_`.

    Secrets show masked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    topic_prefix: _KafkaName = "trekkpaalegg"
    consumer_group: _KafkaName | None = None
    instance_id: _KafkaName | None = None
    ledger: SecretStr | None = None
    forward_url: Annotated[str, AfterValidator(_forward_url)] | None = None
    forward_secret: SecretStr | None = None
    http_host: str = "0.0.0.0"  # noqa: S104  probes and scrapers come from outside the container
    consumer_http_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    kafka_brokers: Annotated[str, AfterValidator(_brokers)] = ""
    kafka_ca_path: _ExistingFile | None = None
    kafka_certificate_path: _ExistingFile | None = None
    kafka_private_key_path: _ExistingFile | None = None
    kafka_schema_registry: Annotated[str, AfterValidator(_registry_url)] | None = None
    kafka_schema_registry_user: str | None = None
    kafka_schema_registry_password: SecretStr | None = None
    kafka_schema_registry_ca_path: _ExistingFile | None = None
    kafka_properties_file: _ExistingFile | None = None

    kafka_file_properties: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """What `KAFKA_PROPERTIES_FILE` held; it may hold passwords, so it is in no repr. No setting of its own."""


def setting_name(field: str) -> str:
    """The environment variable of an attribute of `Settings`."""
    return field.upper() if field.startswith("kafka_") else PREFIX + field.upper()


SETTING_NAMES = {setting_name(field): field for field in Settings.model_fields if field != "kafka_file_properties"}
"""Every environment variable that is used, and its attribute."""


def _is_secret(field: str) -> bool:
    annotation = Settings.model_fields[field].annotation
    return SecretStr in (annotation, *get_args(annotation))


SECRET_NAMES = tuple(name for name, field in SETTING_NAMES.items() if _is_secret(field))
"""Settings that may be given as a file too, in the name with `_FILE` after it."""
KNOWN_NAMES = dict.fromkeys(
    [*SETTING_NAMES, *sorted(PRODUCER_SETTINGS), *(name + FILE_SUFFIX for name in SECRET_NAMES)]
).keys()
"""Every name of the contract, in the order in which faults are told."""


def load_settings(env_file: Path | None, environ: Mapping[str, str], *, needs_kafka: bool = True) -> Settings:
    """Read all settings. Raises `SettingsError` with every fault at once; no message holds a value.

    Without `needs_kafka` no brokers need be given: for what works on a ledger alone.

    Steps: 1. gather the text of every name, secrets also from their files; 2. give each its type; 3. read the file of
    properties; 4. check what only shows between them.
    """
    given, faults = read_environment(env_file, environ, KNOWN_NAMES)
    given |= read_secret_files(given, SECRET_NAMES, faults)
    values = {field: given[name] for name, field in SETTING_NAMES.items() if name in given}
    settings = Settings.model_validate(_typed({field: text for field, text in values.items() if text}, faults))
    properties = {}
    if settings.kafka_properties_file is not None:
        properties = _read_properties(settings.kafka_properties_file, faults)
        settings = settings.model_copy(update={"kafka_file_properties": properties})
    if needs_kafka and "kafka_brokers" not in values and not any(properties.get(name) for name in BROKER_PROPERTIES):
        faults.append("KAFKA_BROKERS: missing; give host:port, several separated by commas")
    if (settings.kafka_certificate_path is None) != (settings.kafka_private_key_path is None):
        faults.append("KAFKA_CERTIFICATE_PATH and KAFKA_PRIVATE_KEY_PATH: give both or neither")
    if ("kafka_schema_registry_user" in values) != ("kafka_schema_registry_password" in values):
        faults.append("KAFKA_SCHEMA_REGISTRY_USER and KAFKA_SCHEMA_REGISTRY_PASSWORD: give both or neither")
    faults += security_faults(properties, has_files=any(_tls_files(settings).values()))
    if faults:
        raise SettingsError(faults)
    return settings


def kafka_properties(settings: Settings) -> dict[str, str]:
    """What a Kafka client that is made now starts from: the brokers, TLS from the nais names, SASL, the user's own.

    The user's win over ours here. What a client needs for the guarantee it sets itself, after these. Of the user's file
    `sasl.*` and `ssl.*` are read anew, so that a corrected password needs no restart; all else stays as at the start.

    Raises `RefusedError` when the file is no longer as it should be.
    """
    properties: dict[str, str] = {"client.id": "trekkpaalegg-consumer"}
    own = _own(settings)
    if settings.kafka_brokers and not any(own.get(name) for name in BROKER_PROPERTIES):
        properties["bootstrap.servers"] = settings.kafka_brokers
    files = {name: str(path) for name, path in _tls_files(settings).items() if path is not None}
    protocol = security_protocol(own, has_files=bool(files))
    if protocol is not None:
        properties[PROTOCOL] = protocol
    return properties | files | own


def _own(settings: Settings) -> dict[str, str]:
    started = dict(settings.kafka_file_properties)
    if settings.kafka_properties_file is None:
        return started
    faults: list[str] = []
    now = renewed(started, _read_properties(settings.kafka_properties_file, faults))
    faults += security_faults(now, has_files=any(_tls_files(settings).values()))
    if faults:
        raise RefusedError("; ".join(faults))
    return now


def _tls_files(settings: Settings) -> dict[str, Path | None]:
    return {
        "ssl.ca.location": settings.kafka_ca_path,
        "ssl.certificate.location": settings.kafka_certificate_path,
        "ssl.key.location": settings.kafka_private_key_path,
    }


def _typed(values: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    """The values whose type is right; the others are told in `faults`."""
    good = {}
    for field, value in values.items():
        try:
            Settings.model_validate({field: value})
        except ValidationError as error:
            message = error.errors(include_url=False, include_input=False)[0]["msg"]
            faults.append(f"{setting_name(field)}: {message.removeprefix('Value error, ')}")
        else:
            good[field] = value
    return good


def _read_properties(path: Path, faults: list[str]) -> dict[str, str]:
    """The `key=value` lines of the file; blank lines and those that begin with `#` or `!` are skipped."""
    source = f"KAFKA_PROPERTIES_FILE {path}"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{source}: cannot be read ({type(error).__name__})")
        return {}
    properties: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.strip() == "" or line.lstrip().startswith(("#", "!")):
            continue
        if not key or not equals:
            faults.append(f"{source}: line {number} is not of the form key=value")
        elif key in REFUSED_PROPERTIES:
            faults.append(f"{source}: line {number}: {key} is set by the program, for exactly-once; remove it")
        elif key in properties:
            faults.append(f"{source}: line {number}: {key} is given twice")
        else:
            properties[key] = value
    return properties
