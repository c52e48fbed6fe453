"""Running all checks: the topics, and the ledger and the source if they are to be compared."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from consumers.bootstrap import schema_source
from consumers.verify.events import PlainValues
from consumers.verify.findings import Proof, masked
from consumers.verify.ledger import LedgerProof
from consumers.verify.reading import OrderReader
from consumers.verify.topics import TopicReading
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from consumers.settings.model import Settings
    from consumers.verify.findings import Progress
    from consumers.verify.history import History, TopicMessage
    from consumers.verify.source import SourceAccess  # noqa: TC004 - msgspec reads annotations only when it decodes
    from consumers.verify.topics import OnVersion


class ProofOptions(msgspec.Struct, frozen=True):
    """What to compare besides the topics. `ledger_url` and `source`: None if they are not compared."""

    ledger_url: str | None = None
    source: SourceAccess | None = None
    every_version: bool = False
    with_headers: bool = True


def prove(settings: Settings, options: ProofOptions, progress: Progress) -> Proof:
    """Run the requested checks. Changes nothing.

    Raises `FatalError`, `RetryableError` or `SettingsError` if something cannot be read: no check holds because there
    was nothing to examine.

    Steps: 1. read source and ledger, which are never ahead of what the topics will have; 2. read the topics to their
    ends; 3. compare.
    """
    began = time.monotonic()
    with ExitStack() as opened:
        values = PlainValues(opened.enter_context(schema_source(settings)))
        properties = kafka_properties(settings)
        order_reader = OrderReader(properties, values, progress)
        prefix = settings.topic_prefix
        source = ledger = None
        if options.source is not None:
            from consumers.verify.source import SourceClient  # noqa: PLC0415 - needs the packages of an extra
            from consumers.verify.source_proof import SourceProof  # noqa: PLC0415 - as above

            client = opened.enter_context(SourceClient(options.source))
            source = SourceProof(
                client,
                options.source.trekkpliktige,
                f"{prefix}-versjoner",
                order_reader,
                every_version=options.every_version,
            )
            source.read_source()
        if options.ledger_url is not None:
            ledger = LedgerProof(options.ledger_url, prefix, order_reader, progress)
            ledger.read_ledger()
        reading = opened.enter_context(
            TopicReading(
                settings,
                values,
                progress,
                with_headers=options.with_headers,
                on_version=_both(
                    ledger.on_version if ledger and ledger.reads_versjoner else None,
                    source.on_version if source else None,
                ),
                on_current=ledger.on_current if ledger and not ledger.keeps_history else None,
            )
        )
        reading.read()
        checks = reading.checks()
        if ledger is not None:
            readers = (reading.topics.versjoner, reading.topics.gjeldende)
            checks += ledger.checks({reader.topic: reader.next for reader in readers})
        if source is not None:
            checks += source.checks(reading.positions.has_missing)
        masked(checks, reading.topics.national)
        return Proof(checks, reading.events, round(time.monotonic() - began, 3))


def _both(one: OnVersion | None, other: OnVersion | None) -> OnVersion | None:
    if one is None or other is None:
        return one or other

    def call_both(history: History, message: TopicMessage, fields: dict[str, Any], is_first: bool) -> None:  # noqa: FBT001 - a callback's
        one(history, message, fields, is_first)
        other(history, message, fields, is_first)

    return call_both
