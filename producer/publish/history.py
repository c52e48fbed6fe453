"""What was published of older versions, as `…-versjoner` has it: the state of a home holds the newest content only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from producer.domain.content import content_hash
from producer.encode.avro import SINGLE_OBJECT_MARKER
from producer.encode.event import trekkpaalegg_of
from producer.publish.recovery.events import event_of, headers_of
from producer.publish.state import read_partition
from trekkpaalegg.decode import CONFLUENT_MARKER, CONFLUENT_PREFIX_BYTES, Decoder
from trekkpaalegg.errors import UndecodableError
from trekkpaalegg.kafka.errors import as_retryable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_FINGERPRINT_HEADER = "ce_schemafingerprint"

_log = structlog.get_logger(__name__)


class KafkaHistory:
    """See `History`. Reads partition `lane` of the topic, a part at a time, each time with the present properties."""

    def __init__(self, read_properties: Callable[[], Mapping[str, str]], topic: str, lane: int) -> None:
        self._read_properties = read_properties
        self._topic = topic
        self._lane = lane

    def content_hashes(self, wanted: Collection[tuple[bytes, int]]) -> dict[tuple[bytes, int], set[bytes]]:
        """See `History.content_hashes`."""
        decoder, keys = Decoder(), {key for key, _ in wanted}
        found: dict[tuple[bytes, int], set[bytes]] = {}
        with as_retryable():
            properties = self._read_properties()
        for message in read_partition(properties, self._topic, self._lane):
            if message.key() not in keys:
                continue
            event = event_of(message)
            if event is None or (event.order, event.trekkversjon) not in wanted:
                continue
            try:
                published = content_hash_of(message.value(), headers_of(message), decoder)
            except UndecodableError as error:
                _log.warning("an event cannot be compared", lane=self._lane, offset=message.offset(), reason=str(error))
                continue
            found.setdefault((event.order, event.trekkversjon), set()).add(published)
        return found


def content_hash_of(value: bytes | None, headers: Mapping[str, bytes], decoder: Decoder) -> bytes:
    """The hash of the content of an event in either wire format: a header names the schema, so no registry is needed.

    Raises `UndecodableError` for other bytes.
    """
    if value is not None and value.startswith(CONFLUENT_MARKER):
        try:
            fingerprint = bytes.fromhex(headers.get(_FINGERPRINT_HEADER, b"").decode())
        except ValueError:
            raise UndecodableError("its header names no schema") from None
        value = SINGLE_OBJECT_MARKER + fingerprint + value[CONFLUENT_PREFIX_BYTES:]
    return content_hash(trekkpaalegg_of(decoder.decode_trekkpaalegg_versjon(value)))
