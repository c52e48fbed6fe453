"""The consumers' settings. The producer's names are accepted and ignored, so that one file serves both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from trekkpaalegg.errors import RefusedError, SettingsError
from trekkpaalegg.kafka.properties_file import has_brokers, read_properties
from trekkpaalegg.kafka.security import PROTOCOL, renewed, security_faults, security_protocol
from trekkpaalegg.settings import (
    PREFIX,
    KafkaName,
    KafkaSettings,
    Port,
    is_url,
    kafka_faults,
    read_settings,
    secret_file_names,
    setting_names,
    with_kafka_properties,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
"""Settings of the producer alone. `verify --api` reads those of the source."""


def _forward_url(text: str) -> str:
    if not is_url(text) or urlsplit(text).username or urlsplit(text).fragment:
        raise ValueError("must be an address such as https://host/path, without user or fragment")
    return text


class Settings(KafkaSettings):
    """All settings that consumers use."""

    consumer_group: KafkaName | None = None
    ledger: SecretStr | None = None
    forward_url: Annotated[str, AfterValidator(_forward_url)] | None = None
    forward_secret: SecretStr | None = None
    consumer_http_port: Port | None = None


SETTING_NAMES = setting_names(Settings)
"""Every environment variable that is used, and its field."""
KNOWN_NAMES = frozenset({*SETTING_NAMES, *secret_file_names(Settings), *PRODUCER_SETTINGS})
"""Every setting that exists, of the producer too."""


def load_settings(env_file: Path | None, environ: Mapping[str, str], *, needs_kafka: bool = True) -> Settings:
    """Read all settings. Raises `SettingsError` with every fault at once.

    Without `needs_kafka` the brokers may be missing: for commands that use a ledger alone.
    """
    settings, given, faults = read_settings(Settings, env_file, environ, PRODUCER_SETTINGS)
    settings = with_kafka_properties(settings, faults)
    faults += kafka_faults(settings, given, needed=needs_kafka)
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
    if settings.kafka_brokers and not has_brokers(own):
        properties["bootstrap.servers"] = settings.kafka_brokers
    files = {name: str(path) for name, path in settings.tls_files.items() if path is not None}
    protocol = security_protocol(own, has_files=bool(files))
    if protocol is not None:
        properties[PROTOCOL] = protocol
    return properties | files | own


def _own(settings: Settings) -> dict[str, str]:
    started = dict(settings.kafka_file_properties)
    if settings.kafka_properties_file is None:
        return started
    try:
        now = renewed(started, read_properties(settings.kafka_properties_file))
        faults = security_faults(now, has_files=settings.has_tls_files)
    except SettingsError as error:
        raise RefusedError("; ".join(error.faults)) from error
    if faults:
        raise RefusedError("; ".join(faults))
    return now
