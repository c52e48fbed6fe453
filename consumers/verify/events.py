"""One Kafka message in, what the checks need of it out, and every way in which its headers and its value disagree."""

from __future__ import annotations

from hashlib import blake2b
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
        key, value = found.key() or b"", found.value() or b""
        headers = _headers(found)
        try:
            head = self.fields = self._fields_of(value)
            late, correction = _marks(headers)
        except UndecodableError as error:
            self._add(found, key, str(error))
            return None
        version = head["trekkversjon"]
        identity = b"%b/%d" % (key, version) if correction is None else b"%b/%d/%d" % (key, version, correction)
        skyldner = head["skyldner"].encode()
        if (
            headers.get("ce_id") != identity
            or headers.get("ce_sekvensnummer") != b"%d" % head["sekvensnummer"]
            or headers.get("ce_trekkpliktig") != head["trekkpliktig"].encode()
            or headers.get("ce_subject") != key
            or head["trekkid"].encode() != key
        ):
            self._add(found, key, "does not agree with the value", version, _disagreeing(key, headers, head, identity))
        if skyldner in key or skyldner in b"\n".join(headers.values()):
            self._add_national(found, key, headers, skyldner, version)
        digest = digest_of(self._values.body(value))
        return Message(key, version, digest, found.partition() or 0, found.offset() or 0, late, correction)

    def read_plainly(self, found: KafkaMessage) -> Message | None:
        """The event as if it had no marks, without a look at its headers, in a third of the time; None as for `read`.

        Right only where its version is the one that follows the newest.
        """
        key, value = found.key() or b"", found.value()
        try:
            self.fields = self._fields_of(value or b"")
        except UndecodableError:
            return None
        digest = digest_of(self._values.body(value or b""))
        return Message(key, self.fields["trekkversjon"], digest, found.partition() or 0, found.offset() or 0)

    def _add_national(
        self, found: KafkaMessage, key: bytes, headers: Mapping[str, bytes], skyldner: bytes, trekkversjon: int
    ) -> None:
        names = [name for name, each in {"key": key, **headers}.items() if skyldner in each]
        if skyldner in key:
            self.national.add(shown(key))
            key = MASKED.encode()
        self._add(found, key, "holds a national id", trekkversjon, names)

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


def digest_of(body: bytes) -> int:
    """A number that tells these bytes from others, in every process the same."""
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "little", signed=True)


def marks_of_message(found: KafkaMessage) -> tuple[bool, int | None]:
    """Whether it is late, and which correction it is. Raises `UndecodableError` for marks of another form."""
    return _marks(_headers(found))


def _disagreeing(key: bytes, headers: Mapping[str, bytes], head: Mapping[str, Any], identity: bytes) -> list[str]:
    expected = {
        "key": head["trekkid"].encode(),
        "ce_id": identity,
        "ce_sekvensnummer": b"%d" % head["sekvensnummer"],
        "ce_trekkpliktig": head["trekkpliktig"].encode(),
        "ce_subject": key,
    }
    return [name for name, each in expected.items() if {**headers, "key": key}.get(name) != each]


def _headers(found: KafkaMessage) -> dict[str, bytes]:
    headers: dict[str, bytes | None] = dict(found.headers() or ())  # type: ignore[arg-type] # a consumer gives pairs
    if None in headers.values():
        return {name: value or b"" for name, value in headers.items()}
    return headers  # type: ignore[return-value] # none of them is None


def _marks(headers: Mapping[str, bytes]) -> tuple[bool, int | None]:
    if "ce_late" not in headers and "ce_correction" not in headers:
        return False, None
    late, correction = headers.get("ce_late"), headers.get("ce_correction")
    if late not in _MARKS:
        raise UndecodableError("the header ce_late is neither true nor false")
    if correction is None or correction == b"0":
        return _MARKS[late], None
    if not correction.isdigit():
        raise UndecodableError("the header ce_correction is no number")
    return _MARKS[late], int(correction)
