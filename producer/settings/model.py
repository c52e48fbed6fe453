"""The producer's settings, and which of them a command needs."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from producer.notifications.subscriptions import NOTIFICATIONS_PATH
from producer.source.auth.grant import load_client_key
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.settings import (
    API_NEEDED,
    TREKKPLIKTIGE_NEEDED,
    BaseUrl,
    KafkaName,
    KafkaSettings,
    Port,
    PositiveInt,
    Seconds,
    SourceSettings,
    kafka_faults,
    maskinporten_missing,
    missing,
    read_employers,
    secret_file_names,
    setting_name,
    setting_names,
    with_kafka_properties,
)
from trekkpaalegg.settings import read_settings as read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Need = Literal["api", "maskinporten", "kafka", "trekkpliktige", "webhook", "receiver"]
ALL_NEEDS: frozenset[Need] = frozenset({"api", "maskinporten", "kafka"})

_POLL_INTERVAL_WITH_NOTIFICATION_SECONDS = 21_600
_SECRET_PART = re.compile(r"[A-Za-z0-9_-]{32,512}")


def _webhook_url(base: str) -> str:
    if NOTIFICATIONS_PATH in base:
        raise ValueError(f"must be the base address alone: {NOTIFICATIONS_PATH}<secret> is put behind it")
    return base


def _client_jwk(secret: SecretStr) -> SecretStr:
    load_client_key(secret.get_secret_value())
    return secret


def _networks(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return tuple(str(ip_network(part.strip())) for part in text.split(","))
    except ValueError:
        raise ValueError("must be IP addresses or networks such as 192.0.2.0/24, separated by commas") from None


_WebhookUrl = Annotated[BaseUrl, AfterValidator(_webhook_url)]
_PrivateJwk = Annotated[SecretStr, AfterValidator(_client_jwk)]
_Networks = Annotated[tuple[str, ...], BeforeValidator(_networks)]


class Settings(KafkaSettings, SourceSettings):
    """All settings of the producer. Those that the command needs, by `load_settings`, are never empty.

    Intervals are in seconds.
    """

    DERIVED: ClassVar[frozenset[str]] = KafkaSettings.DERIVED | {"warnings"}

    source: Literal["polling", "notification"] = "polling"
    poll_interval_seconds: Seconds = 300
    workers: PositiveInt | None = None
    overlap_sekvensnummer: Annotated[int, Field(ge=0)] = 1000
    reconcile_interval_seconds: Seconds = 86_400
    application_id: KafkaName = "trekkpaalegg-producer"
    """By default `topic_prefix` with `-producer` behind it."""
    http_port: Port = 8080
    webhook_port: Port | None = None
    webhook_secret: SecretStr | None = None
    webhook_url: _WebhookUrl | None = None
    webhook_allowed_addresses: _Networks = ()
    webhook_proxies: _Networks = ()
    webhook_calls_per_second: PositiveInt = 200
    notification_transport: Literal["push", "pull"] = "push"
    pull_interval_seconds: Seconds = 30
    altinn_url: BaseUrl = "https://platform.altinn.no"
    altinn_scopes: str = "altinn:events.subscribe"
    maskinporten_client_jwk: _PrivateJwk = SecretStr("")

    # Of the consumers; accepted here so that one file of settings serves both, and not checked.
    consumer_group: str | None = None
    ledger: SecretStr | None = None
    forward_url: str | None = None
    forward_secret: SecretStr | None = None
    consumer_http_port: str | None = None

    warnings: tuple[str, ...] = ()
    """What is unusual about the settings without being wrong."""

    @property
    def client_id(self) -> str:
        """See `KafkaSettings`."""
        return self.application_id

    @property
    def receives(self) -> bool:
        """Whether the service receives events that Altinn pushes."""
        return self.source == "notification" and self.notification_transport == "push"

    @property
    def pulls(self) -> bool:
        """Whether the service polls Altinn for events."""
        return self.source == "notification" and self.notification_transport == "pull"

    @property
    def calls_share(self) -> int:
        """How many concurrent calls to the API this worker may make, so that all workers together keep the limit."""
        return self.max_concurrent_calls // (self.workers or 1)


SETTING_NAMES = setting_names(Settings)
"""Every environment variable that is read, and its field."""
SECRET_FILE_NAMES = frozenset(secret_file_names(Settings))
"""Every environment variable that may name a file with a secret."""


def load_settings(env_file: Path | None, environ: Mapping[str, str], *, needs: frozenset[Need] = ALL_NEEDS) -> Settings:
    """Read all settings. `needs`: what the command talks to, which decides the settings that must be given.

    Raises `SettingsError` with every fault at once.
    """
    settings, faults = read_settings(env_file, environ, needs=needs)
    if faults:
        raise SettingsError(faults)
    return settings


def read_settings(
    env_file: Path | None, environ: Mapping[str, str], *, needs: frozenset[Need] = ALL_NEEDS
) -> tuple[Settings, list[str]]:
    """The settings that can be used, with defaults for the others, and every fault."""
    settings, given, faults = read(Settings, env_file, environ)
    settings = with_kafka_properties(settings, faults)
    derived: dict[str, object] = {"warnings": read_employers(settings, faults).warnings}
    if "application_id" not in given:
        derived["application_id"] = f"{settings.topic_prefix}-producer"
    if settings.source == "notification" and "poll_interval_seconds" not in given:
        derived["poll_interval_seconds"] = _POLL_INTERVAL_WITH_NOTIFICATION_SECONDS
    settings = settings.model_copy(update=derived)
    faults += _missing(settings, needs, given)
    faults += kafka_faults(settings, given, needed="kafka" in needs)
    if needs & {"webhook", "receiver"} and settings.webhook_secret is not None:
        faults += secret_part_fault(setting_name("webhook_secret"), settings.webhook_secret)
    if settings.calls_share < 1:
        faults.append(
            f"TREKKPAALEGG_WORKERS: {settings.workers} cannot share {settings.max_concurrent_calls} calls at a time "
            "(TREKKPAALEGG_MAX_CONCURRENT_CALLS): give no more workers than calls"
        )
    return settings, faults


def _missing(settings: Settings, needs: frozenset[Need], given: frozenset[str]) -> list[str]:
    needed = []
    if "api" in needs:
        needed.append(API_NEEDED)
    if needs & {"api", "trekkpliktige"} and "trekkpliktige_file" not in given:
        needed.append(TREKKPLIKTIGE_NEEDED)
    faults = missing(needed, given)
    if "maskinporten" in needs:
        faults += maskinporten_missing(given)
    needed = []
    if "webhook" in needs:
        needed.append(("webhook_url", "give the public base address at which Altinn reaches the receiver"))
        needed.append(("webhook_secret", "give the last part of its address"))
    if "receiver" in needs and settings.receives:
        hint = "with TREKKPAALEGG_SOURCE=notification give it, or set TREKKPAALEGG_NOTIFICATION_TRANSPORT=pull"
        needed += [("webhook_port", hint), ("webhook_secret", hint)]
    return faults + missing(needed, given)


def secret_part_fault(name: str, secret: SecretStr) -> list[str]:
    """Why a secret cannot be the last part of an address that nobody can guess; empty if it can."""
    if _SECRET_PART.fullmatch(secret.get_secret_value()):
        return []
    return [f"{name}: must be 32 to 512 letters, digits, `_` or `-`; `openssl rand -hex 32` makes one"]
