"""The pure checks of `verify`: history, current state, known missing versions, sums and texts."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import msgspec
import pytest

from consumers.cli.verify import document_of, line_of
from consumers.verify.content import (
    Content,
    UnreadableElementError,
    UnreadableRowError,
    content_of_element,
    hundredths,
    micros_of,
    normalised,
)
from consumers.verify.findings import PROMISES, Check, Difference, Proof, masked
from consumers.verify.history import Current, History, TopicMessage, complete
from consumers.verify.ledger import ExpectedSums
from consumers.verify.places import FoundTopic, identity, murmur2, partition_of
from consumers.verify.positions import Positions
from producer.domain.identity import Identity, TopicIdentity
from producer.domain.state import Missing, OrderState
from producer.encode.state import encode_identity, encode_order_state


def message(version: int, *, late: bool = False, correction: int | None = None, partition: int = 0) -> TopicMessage:
    return TopicMessage(b"a", version, hash((version, correction)), partition, version, late, correction)


def taken(*messages: TopicMessage) -> History:
    history = History("t")
    for each in messages:
        history.add(each)
    return history


def said(history: History) -> list[tuple[str, int | None]]:
    checks = [history.once, history.order, history.corrections, complete(history, lambda _key: [])]
    return [(check.name, each.trekkversjon) for check in checks for each in check.differences]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([message(1), message(2), message(3)], []),
        ([message(1), message(3), message(2, late=True)], []),
        ([message(1), message(2, late=True), message(3)], []),
        ([message(2), message(1, late=True), message(3)], []),
        ([message(1), message(5), message(3, late=True)], [("complete", 2), ("complete", 4)]),
        ([message(1), message(3), message(2)], [("order", 2)]),
        ([message(1), message(2), message(2)], [("once", 2)]),
        ([message(1), message(2), message(1, late=True)], [("once", 1)]),
        ([message(1), message(2, late=True)], [("complete", 2)]),
        ([message(1), message(2, partition=1)], [("order", 2)]),
        ([message(1), message(0)], [("order", 0)]),
        ([message(1), message(1, correction=1), message(2), message(1, correction=2)], []),
        ([message(1), message(1, correction=2)], [("corrections", 1)]),
        ([message(1, correction=1), message(1)], [("corrections", 1)]),
    ],
)
def test_histories_are_judged(messages: list[TopicMessage], expected: list[tuple[str, int]]) -> None:
    assert said(taken(*messages)) == expected


def test_the_newest_counts_in_its_last_correction() -> None:
    history = taken(message(1), message(2), message(2, correction=1), message(1, correction=1))
    assert (history.newest[0], history.digest[0]) == (2, message(2, correction=1).digest)


def test_an_order_that_is_in_gjeldende_before_versjoner_is_accepted_when_it_comes() -> None:
    history = History("v")
    current = Current("g", history)
    current.add(message(1))
    assert [each.what for each in current.check().differences] == ["in gjeldende and not in versjoner"]
    history.add(message(1))
    assert current.check().ok
    history.add(message(2))
    assert not current.check().ok
    current.add(message(2))
    assert current.check().ok


def test_missing_versions_are_those_of_the_orders_home() -> None:
    positions = Positions("p")
    positions.add(0, b"310000003", b"a position, which is not looked into")
    positions.add(0, b"310000003/a/b", b"what was handed over, which is not either")
    missing = (Missing(2, 4, "HTTP 404"), Missing(7, 7))
    positions.add(0, b"/a/b", encode_order_state(OrderState(9, bytes(8), 1, missing)))
    assert [version for version in range(1, 10) if positions.has_missing(b"a/b", version)] == [2, 3, 4, 7]
    positions.add(0, b"/a/b", encode_order_state(OrderState(9, bytes(8), 1, missing[1:])))
    assert positions.missing(b"a/b") == [(7, 7)]
    positions.add(0, b"/a/b", None)
    assert not positions.has_missing(b"a/b", 7)


def test_missing_versions_are_handled_by_range() -> None:
    many = 10**12
    history = taken(message(1), message(many), message(many // 2, late=True))
    positions = Positions("p")
    positions.add(0, b"/a", encode_order_state(OrderState(many, bytes(8), 1, (Missing(2, many - 200),))))
    check = complete(history, positions.missing)
    assert check.notes == [f"{many - 202} missing at the source, known"]
    assert [each.trekkversjon for each in check.differences] == list(range(many - 199, many - 98))
    assert check.differences[-1].what.endswith(f"the same up to version {many - 1}")
    assert [(each.what, each.trekkversjon) for each in positions.check(history).differences] == [
        ("in versjoner, but missing according to positions", many // 2)
    ]


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_java_clients(key: bytes, hashed: int) -> None:
    """Pairs from org.apache.kafka.common.utils.UtilsTest, where the hash is a signed int."""
    assert murmur2(key) == hashed % 2**32


def test_an_element_without_a_trekkid_is_at_home_where_its_quarantine_record_is() -> None:
    assert partition_of(b"#" + b"0a" * 16, 97) == partition_of(b"0a" * 16, 97)
    assert partition_of(b"#0123", 97) != partition_of(b"0123", 97)


IDENTITY = Identity(2, "app", "cluster", (TopicIdentity("v", "1", 2), TopicIdentity("p", "2", 2)))
FOUND = (FoundTopic("v", "1", 2), FoundTopic("p", "2", 2))


def test_topics_are_those_that_positions_record() -> None:
    positions = Positions("p")
    for partition in range(2):
        positions.add(partition, b"lanes", encode_identity(IDENTITY))
    assert identity(positions, "cluster", FOUND).ok
    told = identity(positions, "other", (*FOUND, FoundTopic("g", "3", 2)))
    assert [each.what for each in told.differences] == [
        "the topics are recorded as those of another cluster",
        "the topic is not recorded",
    ]
    (difference,) = identity(positions, "cluster", FOUND, application_id="other").differences
    assert difference == Difference("the topics are recorded as those of another application")
    positions.add(1, b"lanes", encode_identity(msgspec.structs.replace(IDENTITY, application_id="renamed")))
    (difference,) = identity(positions, "cluster", FOUND).differences
    assert difference == Difference("other than in partition 0 is recorded whose topics these are", place="p/1")


def test_a_topic_that_is_recorded_is_gone_or_may_not_be_seen() -> None:
    positions = Positions("p")
    for partition in range(2):
        positions.add(partition, b"lanes", encode_identity(IDENTITY))
    (difference,) = identity(positions, "cluster", FOUND[1:]).differences
    assert difference == Difference("the topic is recorded, and is not there now", place="v")
    hidden = identity(positions, "cluster", FOUND[1:], {"v"})
    assert (hidden.differences, hidden.notes) == ([], ["1 topics may not be seen by this client"])


def content(version: int, text: str) -> Content:
    return Content(("a", version, 1, 0, text), ())


def test_sums_do_not_depend_on_the_order_of_versions_and_corrections() -> None:
    events = [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (3, 0)]
    expected: ExpectedSums | None = None
    for order in Random(1).sample(list(itertools.permutations(events)), 60):
        sums, seen = ExpectedSums(), set()
        for version, correction in order:
            sums.add(content(version, f"{correction}"), correction, late=False, has_original=(version, 0) in seen)
            seen.add((version, correction))
        if expected is None:
            expected = sums
        assert expected.differing(sums, history=True) == set()
    assert expected is not None
    less = ExpectedSums()
    for version, correction in events[:-1]:
        less.add(content(version, f"{correction}"), correction, late=False)
    assert expected.differing(less, history=True) == {"a"}


def test_amounts_and_moments_are_compared_by_value() -> None:
    assert hundredths("5") == hundredths("5.00") == hundredths(Decimal("5.0")) == 500
    for text in ("5.001", "five", "NaN", "Infinity"):
        with pytest.raises(UnreadableRowError):
            hundredths(text)
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert micros_of(moment) == micros_of("2026-01-02 03:04:05.000006") == micros_of("2026-01-02T04:04:05.000006+01:00")


ELEMENT = {
    "trekkid": "a",
    "trekkversjon": 1,
    "sekvensnummer": 5,
    "opprettet": "2026-01-02T03:04:05.1234567Z",
    "trekkpliktig": "314150260",
    "skyldner": "12928312345",
    "trekkstatus": "ny",
    "trekkstoerrelseForPeriode": [{"startdato": "20260102", "trekkbeloep": {"trekkbeloep": Decimal("5.0"), "x": 1}}],
    "betalingsinformasjon": {"betalingsmottaker": "971648198", "kidnummer": "12", "kontonummer": "1"},
}


def test_an_element_is_understood_by_the_rules_of_the_wire() -> None:
    found = content_of_element(ELEMENT)
    assert found.order[3] == micros_of("2026-01-02T03:04:05.123456Z")
    assert found.order[7] == "ukjent"
    assert found.order[12] == frozenset({("trekkstatus", '"ny"')})
    assert found.periods == (("2026-01-02", None, 500, None, frozenset({("trekkbeloep.x", "1")})),)
    assert normalised(found) == found


@pytest.mark.parametrize("name", ["trekkid", "opprettet", "betalingsinformasjon", "trekkstoerrelseForPeriode"])
def test_an_element_that_lacks_a_field_is_not_understood(name: str) -> None:
    with pytest.raises(UnreadableElementError) as raised:
        content_of_element({key: each for key, each in ELEMENT.items() if key != name})
    assert "12928312345" not in str(raised.value)


def test_what_is_found_is_reported_in_words_and_as_a_document() -> None:
    difference = Difference("otherwise", "a", 2, 1, ("saksnummer", "late"), "t/0/5")
    assert line_of(difference) == "a/2/1 otherwise (saksnummer, late) at t/0/5"
    check = Check("once", "events", 7, [difference], ["note"])
    document = document_of(Proof([check, Check("order", "events", 7)], 14, 1.5))
    assert (document["ok"], document["events"]) == (False, 14)
    first, second = document["checks"]
    assert (first["name"], first["ok"], first["examined"], first["differences"]) == ("once", False, 7, [difference])
    assert (second["promise"], second["ok"]) == (PROMISES["order"], True)


def test_a_trekkid_that_holds_a_national_id_is_masked_everywhere() -> None:
    checks = [Check("once", "events", 1, [Difference("x", "p", 1), Difference("x", "a", 1)])]
    masked(checks, {"p"})
    assert [each.trekkid for each in checks[0].differences] == ["***", "a"]
