"""What an event as it stands in Kafka tells, and that one that tells nothing is no trouble."""

from __future__ import annotations

from typing import Any

import pytest

from producer.publish.recovery.records import event_of, identity_of
from producer.publish.recovery.rollback import PublishedEvent

ONE, STRANGER = b"311111111", b"399999999"


class FakeMessage:
    """What is read of a message here."""

    def __init__(self, key: bytes | None, **headers: bytes | None) -> None:
        self._key, self._headers = key, list(headers.items()) or None

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers


def told(key: bytes | None, *, is_rejected: bool = False, **headers: bytes | None) -> PublishedEvent | None:
    message: Any = FakeMessage(key, **headers)
    return event_of(message, is_rejected=is_rejected)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ce_id": b"a/b/7"}, PublishedEvent("311111111", b"a/b", 7)),
        ({"ce_id": b"a/b/7/2", "ce_correction": b"2"}, PublishedEvent("311111111", b"a/b", 7, correction=2)),
        ({"ce_id": b"a/b/7", "ce_late": b"true"}, PublishedEvent("311111111", b"a/b", 7, late=True)),
    ],
)
def test_an_event_tells_its_version(headers: dict[str, bytes], expected: PublishedEvent) -> None:
    seen = told(b"a/b", ce_trekkpliktig=ONE, **headers)
    assert seen == expected
    assert identity_of(expected) == headers["ce_id"]


def test_an_event_that_names_a_stranger_is_of_the_one_it_was_read_for() -> None:
    assert told(b"a", ce_id=b"a/1", ce_trekkpliktig=STRANGER, ce_readfor=ONE) == PublishedEvent("311111111", b"a", 1)


def test_a_rejected_record_is_known_by_its_hash_and_remembered_with_its_order() -> None:
    shared = {"ce_id": b"00ff", "ce_trekkpliktig": ONE}
    assert told(b"a", is_rejected=True, ce_subject=b"a", **shared) == PublishedEvent(
        "311111111", b"a", rejected=b"\x00\xff"
    )
    assert told(b"00ff", is_rejected=True, **shared) == PublishedEvent("311111111", b"#00ff", rejected=b"\x00\xff")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ce_id": b"a/1"},
        {"ce_trekkpliktig": ONE},
        {"ce_id": None, "ce_trekkpliktig": ONE},
        {"ce_id": b"a/x", "ce_trekkpliktig": ONE},
        {"ce_id": b"b", "ce_trekkpliktig": ONE},
        {"ce_id": b"\xff/1", "ce_trekkpliktig": b"\xff"},
    ],
)
def test_what_others_have_written_tells_nothing(headers: dict[str, bytes | None]) -> None:
    assert told(b"a", **headers) is None
    assert told(b"a", is_rejected=True, **{**headers, **({"ce_id": b"zz"} if "ce_id" in headers else {})}) is None
