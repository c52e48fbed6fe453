"""The records in `…-quarantine`: rejected elements of the source, each with the reason."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec

import schemas
from producer.errors import RejectedTrekkpaaleggError
from trekkpaalegg.errors import FatalError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.reader import read_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from confluent_kafka import Message

_FINGERPRINT_HEADER = "ce_schemafingerprint"
_PREFIX_BYTES = {0x00: 5, 0xC3: 10}


class QuarantinedRecord(msgspec.Struct, frozen=True):
    """One record of the quarantine. `raw` may hold personal data, the rest does not."""

    partition: int
    offset: int
    reason: str
    field_path: str
    detail: str
    trekkpliktig: str
    trekkid: str | None
    trekkversjon: int | None
    sekvensnummer: int | None
    raw: bytes
    raw_truncated: bool
    raw_bytes_total: int
    rejected_at: datetime
    origin: str

    @property
    def id(self) -> str:
        """How operators name it: `partition/offset`."""
        return f"{self.partition}/{self.offset}"

    def __repr__(self) -> str:
        return f"QuarantinedRecord({self.id}, {self.reason})"


def read_quarantine(properties: Mapping[str, str], topic: str, partitions: int) -> Iterator[QuarantinedRecord]:
    """All records, partition by partition. Raises `RetryableError` when an end is not reached."""
    for message in read_to_end(properties, [Partition(topic, number) for number in range(partitions)]):
        yield decode_quarantined(message)


def read_one(properties: Mapping[str, str], topic: str, partition: int, offset: int) -> QuarantinedRecord:
    """The record at this offset. Raises `FatalError` when there is none."""
    for message in read_to_end(properties, [Partition(topic, partition)], start=offset):
        if message.offset() == offset:
            return decode_quarantined(message)
        break
    raise FatalError(f"there is no record {partition}/{offset} in {topic}; `quarantine list` shows those there are")


def decode_quarantined(message: Message) -> QuarantinedRecord:
    """The record in a message of either wire format: a header names the schema, whatever precedes the value."""
    value = message.value() or b""
    headers: dict[str, Any] = dict(message.headers() or [])
    try:
        written = schemas.by_fingerprint(bytes.fromhex(headers[_FINGERPRINT_HEADER].decode())).parsed
        body = BytesIO(value[_PREFIX_BYTES[value[0]] :])
        datum: Any = fastavro.schemaless_reader(body, written, schemas.load("trekkpaalegg_rejected").parsed)
        place = {"partition": message.partition(), "offset": message.offset()}
        return msgspec.convert({**datum, **place}, QuarantinedRecord)
    except (LookupError, ValueError, EOFError, TypeError, AttributeError) as error:
        where = f"{message.partition()}/{message.offset()}"
        raise RejectedTrekkpaaleggError(
            f"the quarantine record {where} cannot be decoded", _FINGERPRINT_HEADER
        ) from error
