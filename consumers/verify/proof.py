"""What is to be proven in, all checks out: topics first, then the ledger and the source where they are asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from consumers.registry import RegistrySchemaSource
from consumers.settings import kafka_properties
from consumers.verify.findings import Proof, masked
from consumers.verify.ledger import LedgerProof
from consumers.verify.topics import Progress, TopicReading
from consumers.verify.values import PlainValues

if TYPE_CHECKING:
    from consumers.settings import Settings


class ProofOptions(msgspec.Struct, frozen=True):
    """What to compare besides the topics with themselves. `ledger_url` None: no ledger."""

    ledger_url: str | None = None
    with_headers: bool = True


def prove(settings: Settings, options: ProofOptions, progress: Progress) -> Proof:
    """Make every check that was asked for. Changes nothing anywhere.

    Raises `FatalError`, `RetryableError` or `SettingsError` where something cannot be read: never a check that holds
    because nothing was there.
    """
    began = time.monotonic()
    registry = _registry(settings)
    try:
        values = PlainValues(registry)
        properties = kafka_properties(settings)
        ledger = None
        if options.ledger_url is not None:
            ledger = LedgerProof(options.ledger_url, settings.topic_prefix, properties, values, progress)
            ledger.read_ledger()
        with TopicReading(
            properties,
            settings.topic_prefix,
            values,
            progress,
            with_headers=options.with_headers,
            on_version=ledger.on_version if ledger and ledger.keeps_history else None,
            on_current=ledger.on_current if ledger and not ledger.keeps_history else None,
        ) as reading:
            reading.read()
            checks = reading.checks()
            if ledger is not None:
                reader = reading.versjoner if ledger.keeps_history else reading.gjeldende
                checks += ledger.checks(reader.next)
            masked(checks, reading.national)
            return Proof(checks, reading.events, round(time.monotonic() - began, 3))
    finally:
        if registry is not None:
            registry.close()


def _registry(settings: Settings) -> RegistrySchemaSource | None:
    if settings.kafka_schema_registry is None:
        return None
    password = settings.kafka_schema_registry_password
    return RegistrySchemaSource(
        settings.kafka_schema_registry,
        settings.kafka_schema_registry_user,
        password.get_secret_value() if password else None,
    )
