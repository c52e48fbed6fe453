"""The Kafka settings in, the librdkafka properties that every client of ours starts from out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.kafka_security import PROTOCOL, security_protocol
from producer.properties_file import has_brokers

if TYPE_CHECKING:
    from producer.settings import Settings


def kafka_properties(settings: Settings) -> dict[str, str]:
    """What every Kafka client starts from: the brokers, TLS from the nais names, SASL, and the user's own properties.

    The user's win over ours here. What a client needs for the guarantee it sets itself, after these.
    """
    properties: dict[str, str] = {"client.id": settings.application_id}
    if settings.kafka_brokers:
        properties["bootstrap.servers"] = settings.kafka_brokers
    files = {
        "ssl.ca.location": settings.kafka_ca_path,
        "ssl.certificate.location": settings.kafka_certificate_path,
        "ssl.key.location": settings.kafka_private_key_path,
    }
    own = dict(settings.kafka_file_properties)
    protocol = security_protocol(own, has_files=any(files.values()))
    if protocol is not None:
        properties[PROTOCOL] = protocol
    properties |= {name: str(path) for name, path in files.items() if path is not None}
    if has_brokers(own):
        properties.pop("bootstrap.servers", None)
    return properties | own
