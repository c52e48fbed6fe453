"""The text of one setting in, its value out, or an error with what it must be; never the text itself.

`ValueError` where the caller adds the name of the setting, `SettingsError` where the message has it already.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from producer.notifications.address import NOTIFICATIONS_PATH
from producer.settings.trekkpliktige import parse_trekkpliktige
from producer.source.auth.grant import load_client_key

_TOPIC_PREFIX_LENGTH_MAX = 200
_KAFKA_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SECRET_PART = re.compile(r"[A-Za-z0-9_-]{32,512}")
_BROKER = re.compile(r"(?:[A-Z_]+://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        well_formed = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError("must be an address with scheme and host, such as https://host/path")
    if parts.query or parts.fragment or parts.username:
        raise ValueError("must be an address without user, query or fragment")
    return text


def _api_url(text: str) -> str:
    base = _url(text).rstrip("/")
    if not base.endswith("/v1"):
        raise ValueError("must end in /v1, such as https://api.skatteetaten.no/api/trekkpaalegg/v1")
    return base


def _base_url(text: str) -> str:
    return _url(text).rstrip("/")


def _webhook_url(text: str) -> str:
    base = _base_url(text)
    if NOTIFICATIONS_PATH in base:
        raise ValueError(f"must be the base address alone: {NOTIFICATIONS_PATH}<secret> is put behind it")
    return base


def secret_part_fault(name: str, secret: SecretStr) -> list[str]:
    """What keeps a secret from being the last part of an address that nobody can guess; nothing if it may be."""
    if _SECRET_PART.fullmatch(secret.get_secret_value()):
        return []
    return [f"{name}: must be 32 to 512 letters, digits, `_` or `-`; `openssl rand -hex 32` makes one"]


def _registry_url(text: str) -> str:
    for part in text.split(","):
        _url(part.strip())
    return text


def _brokers(text: str) -> str:
    if not all(_BROKER.fullmatch(part.strip()) for part in text.split(",")):
        raise ValueError("must be host:port, several separated by commas")
    return text


def _kafka_name(text: str) -> str:
    if not _KAFKA_NAME.fullmatch(text) or len(text) > _TOPIC_PREFIX_LENGTH_MAX:
        raise ValueError(f"must be letters, digits, `.`, `_` or `-`, at most {_TOPIC_PREFIX_LENGTH_MAX}")
    return text


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


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


def _comma_separated(text: object) -> object:
    if not isinstance(text, str):
        return text
    read = parse_trekkpliktige(text, "TREKKPAALEGG_TREKKPLIKTIGE")
    return tuple(trekkpliktig.organisasjonsnummer for trekkpliktig in read.trekkpliktige)


Url = Annotated[str, AfterValidator(_url)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
ApiUrl = Annotated[str, AfterValidator(_api_url)]
RegistryUrl = Annotated[str, AfterValidator(_registry_url)]
Brokers = Annotated[str, AfterValidator(_brokers)]
KafkaName = Annotated[str, AfterValidator(_kafka_name)]
ExistingFile = Annotated[Path, AfterValidator(_file)]
PrivateJwk = Annotated[SecretStr, AfterValidator(_client_jwk)]
TrekkpliktigeText = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
NetworksText = Annotated[tuple[str, ...], BeforeValidator(_networks)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]
