"""One Kafka message in, what the checks need of it out, and every way in which its headers and its value disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.errors import UndecodableError
from consumers.verify.findings import HEADERS, MASKED, Check, Difference
from consumers.verify.history import Message, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message as KafkaMessage

    from consumers.verify.values import PlainValues

_MARKS = {None: False, b"false": False, b"true": True}


class EventReader:
    """Reads the messages of one event topic. What cannot be read is a difference, and no event."""

    def __init__(self, topic: str, values: PlainValues, *, whole: bool = False) -> None:
        self.topic = topic
        self.check = Check(HEADERS, "events")
        self.fields: dict[str, Any] = {}
        """Plain fields of the value that was read last: all of them if `whole`, else the first ones."""
        self.national: set[str] = set()
        """Keys, as text, that hold a national id."""
        self._values = values
        self._fields_of = values.fields if whole else values.head

    def read(self, found: KafkaMessage) -> Message | None:
        """The event, its headers compared with its value; None where the value or the marks cannot be read.

        Raises what the schema source raises.
        """
        self.check.examined += 1
        key, value = found.key() or b"", found.value()
        headers = _headers(found)
        try:
            head = self.fields = self._fields_of(value or b"")
            late, correction = _marks(headers)
        except UndecodableError as error:
            self._add(found, key, str(error))
            return None
        version = head["trekkversjon"]
        identity = b"%s/%d" % (key, version)
        if correction is not None:
            identity = b"%s/%d" % (identity, correction)
        skyldner = head["skyldner"].encode()
        if (
            headers.get("ce_id") != identity
            or headers.get("ce_sekvensnummer") != b"%d" % head["sekvensnummer"]
            or headers.get("ce_trekkpliktig") != head["trekkpliktig"].encode()
            or headers.get("ce_subject") != key
            or head["trekkid"].encode() != key
        ):
            expected = {
                "key": head["trekkid"].encode(),
                "ce_id": identity,
                "ce_sekvensnummer": b"%d" % head["sekvensnummer"],
                "ce_trekkpliktig": head["trekkpliktig"].encode(),
                "ce_subject": key,
            }
            wrong = [name for name, each in expected.items() if {**headers, "key": key}.get(name) != each]
            self._add(found, key, "does not agree with the value", version, wrong)
        if skyldner in b"\n".join([key, *headers.values()]):
            names = [name for name, each in {"key": key, **headers}.items() if skyldner in each]
            if skyldner in key:
                self.national.add(shown(key))
            self._add(found, MASKED.encode() if skyldner in key else key, "holds a national id", version, names)
        return Message(
            key,
            version,
            hash(self._values.body(value or b"")),
            found.partition() or 0,
            found.offset() or 0,
            late,
            correction,
        )

    def read_plainly(self, found: KafkaMessage) -> Message | None:
        """The event as if it had no marks, without a look at its headers, in a third of the time; None as for `read`.

        Right only where its version is the one that follows the newest.
        """
        key, value = found.key() or b"", found.value()
        try:
            self.fields = self._fields_of(value or b"")
        except UndecodableError:
            return None
        digest = hash(self._values.body(value or b""))
        return Message(key, self.fields["trekkversjon"], digest, found.partition() or 0, found.offset() or 0)

    def _add(
        self,
        found: KafkaMessage,
        key: bytes,
        what: str,
        trekkversjon: int | None = None,
        fields: list[str] | None = None,
    ) -> None:
        place = f"{self.topic}/{found.partition()}/{found.offset()}"
        self.check.add(Difference(what, shown(key), trekkversjon, None, tuple(fields or ()), place))


def marks_of_message(found: KafkaMessage) -> tuple[bool, int | None]:
    """Whether it is late, and which correction it is. Raises `UndecodableError` for marks of another form."""
    return _marks(_headers(found))


def _headers(found: KafkaMessage) -> dict[str, bytes]:
    pairs = found.headers() or []
    return {name: value for name, value in pairs if isinstance(value, bytes)}  # type: ignore[str-unpack] # pairs, here


def _marks(headers: Mapping[str, bytes]) -> tuple[bool, int | None]:
    late, correction = headers.get("ce_late"), headers.get("ce_correction")
    if late not in _MARKS:
        raise UndecodableError("the header ce_late is neither true nor false")
    if correction is None or correction == b"0":
        return _MARKS[late], None
    if not correction.isdigit():
        raise UndecodableError("the header ce_correction is no number")
    return _MARKS[late], int(correction)
