"""The consumers' settings. The producer's names are accepted and ignored, so that one file serves both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from trekkpaalegg.errors import SettingsError
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
                *("RECONCILE_INTERVAL_SECONDS", "HTTP_PORT"),
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

    application_id: KafkaName | None = None
    """The producer's; `verify` compares it with what is recorded, if it is given."""
    consumer_group: KafkaName | None = None
    ledger: SecretStr | None = None
    forward_url: Annotated[str, AfterValidator(_forward_url)] | None = None
    forward_secret: SecretStr | None = None
    consumer_http_port: Port | None = None

    @property
    def client_id(self) -> str:
        """See `KafkaSettings`."""
        return "trekkpaalegg-consumer"


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
