"""The Kafka settings in, the librdkafka properties that a client of ours starts from out."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from trekkpaalegg.errors import SettingsError
from trekkpaalegg.kafka.properties_file import has_brokers, read_properties
from trekkpaalegg.kafka.security import PROTOCOL, renewed, security_faults, security_protocol

if TYPE_CHECKING:
    from pathlib import Path

    from producer.settings.model import Settings

_log = structlog.get_logger(__name__)


def kafka_properties(settings: Settings) -> dict[str, str]:
    """What a Kafka client that is made now starts from: the brokers, TLS from the nais names, SASL, the user's own.

    The user's win over ours here. What a client needs for the guarantee it sets itself, after these. Of the user's file
    `sasl.*` and `ssl.*` are read anew, so that a corrected password needs no restart; all else stays as at the start,
    since other brokers would be another stream.
    """
    properties: dict[str, str] = {"client.id": settings.application_id}
    if settings.kafka_brokers:
        properties["bootstrap.servers"] = settings.kafka_brokers
    files = {
        "ssl.ca.location": settings.kafka_ca_path,
        "ssl.certificate.location": settings.kafka_certificate_path,
        "ssl.key.location": settings.kafka_private_key_path,
    }
    own = _own(settings, has_files=any(files.values()))
    protocol = security_protocol(own, has_files=any(files.values()))
    if protocol is not None:
        properties[PROTOCOL] = protocol
    properties |= {name: str(path) for name, path in files.items() if path is not None}
    if has_brokers(own):
        properties.pop("bootstrap.servers", None)
    return properties | own


def _own(settings: Settings, *, has_files: bool) -> dict[str, str]:
    """The user's own properties; those of the start while their file is not as it should be."""
    started, path = dict(settings.kafka_file_properties), settings.kafka_properties_file
    if path is None:
        return started
    try:
        found = path.stat()
    except OSError:
        return started
    now = renewed(started, _read(path, found.st_mtime_ns, found.st_size) or started)
    return started if security_faults(now, has_files=has_files) else now


@lru_cache(maxsize=4)
def _read(path: Path, _written_ns: int, _bytes: int) -> dict[str, str] | None:
    """What the file holds, read once for each time that it was written; None when it cannot be used, which is told."""
    try:
        return read_properties(path)
    except SettingsError as error:
        _log.warning("the Kafka properties of the start are kept", reason=str(error))
        return None
