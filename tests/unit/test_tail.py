"""What `tail` prints of an event: readable, cut to the width asked for, and never with a national id."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.tail.readable import ReadableEvent, UndecodableRecord, document_of, line_of
from consumers.tail.tail import LineScreen, Selection, TailOptions, TailTally
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon, TrekkstoerrelseForPeriode
from trekkpaalegg.identifiers import Foedselsnummer, mask_for_display

PERSON = "12928312345"
EVENT = TrekkpaaleggVersjon(
    trekkid="10003",
    trekkversjon=2,
    sekvensnummer=101,
    opprettet=datetime(2025, 8, 8, 15, 0, 0, 1, tzinfo=UTC),
    saksnummer="TREKK/2025/3",
    trekkpliktig="123456789",
    skyldner=Foedselsnummer(PERSON),
    trekkstatus="aktiv",
    trekkstoerrelse_for_periode=(
        TrekkstoerrelseForPeriode(date(2025, 5, 10), date(2025, 8, 9), None, Decimal("12.50"), {}),
        TrekkstoerrelseForPeriode(date(2025, 8, 10), None, Decimal("5000.00"), None, {}),
    ),
    betalingsinformasjon=Betalingsinformasjon("971648199", "12345678903", "70213997155", {}),
    ukjente_felter={},
)
UUID = "0b5c7c1e-6a9f-4c22-a3c1-123456789012"


def seen(event: TrekkpaaleggVersjon = EVENT, **headers: str) -> ReadableEvent:
    return ReadableEvent("t-versjoner", 3, 17, {"ce_origin": "poll", **headers}, event)


def test_line_says_who_what_and_how_much() -> None:
    assert line_of(seen()) == ("123456789 10003     v2  aktiv     *** poll      2025-05-10: 12.50 % → 5000 kr")


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"ce_origin": "gapfill"}, "gapfill"),
        ({"ce_late": "true"}, "late"),
        ({"ce_correction": "2"}, "correct.2"),
    ],
)
def test_line_says_how_the_event_came_to_be(headers: dict[str, str], word: str) -> None:
    assert f" {word} " in line_of(seen(**headers))


def test_line_says_when_the_last_period_ends_and_when_there_is_none() -> None:
    first = EVENT.trekkstoerrelse_for_periode[:1]
    ended = msgspec.structs.replace(EVENT, trekkstoerrelse_for_periode=first, trekkstatus="avsluttet")
    assert line_of(seen(ended)).endswith("avsluttet *** poll      2025-05-10: 12.50 % until 2025-08-09")
    assert line_of(seen(msgspec.structs.replace(EVENT, trekkstoerrelse_for_periode=()))).endswith("no period")


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_line_fits_the_width_and_keeps_what_is_withheld(width: int) -> None:
    line = line_of(seen(msgspec.structs.replace(EVENT, trekkid=UUID)), width)
    assert len(line) <= width
    assert ("5000 kr" in line) == (width >= 80)
    assert (UUID in line) == (width > 104)
    assert line.startswith("123456789 0b5c7c1e")


def test_line_without_a_width_is_whole() -> None:
    assert UUID in line_of(seen(msgspec.structs.replace(EVENT, trekkid=UUID)))


def test_undecodable_line_says_where_it_is() -> None:
    line = line_of(UndecodableRecord("t-versjoner", 3, 17, f"bytes of {PERSON}"))
    assert line == "undecodable t-versjoner/3/17: bytes of ***********"


def test_document_holds_every_field_and_no_national_id() -> None:
    document = document_of(seen(ce_id="10003/2"))
    assert document["event"]["skyldner"] == "***********"
    assert document["event"]["opprettet"] == "2025-08-08T15:00:00.000001Z"
    assert document["event"]["trekkstoerrelse_for_periode"][1] == {
        "startdato": "2025-08-10",
        "sluttdato": None,
        "trekkbeloep": "5000.00",
        "trekkprosent": None,
        "ukjente_felter": {},
    }
    assert document["event"]["betalingsinformasjon"]["kidnummer"] == "12345678903", "a KID is no national id"
    assert document["event"]["betalingsinformasjon"]["kontonummer"] == "70213997155", "nor is an account"
    assert set(document["event"]) == set(TrekkpaaleggVersjon.__struct_fields__)
    assert document["headers"] == {"ce_id": "10003/2", "ce_origin": "poll"}
    assert PERSON not in json.dumps(document)


def test_national_id_in_unknown_fields_and_free_text_is_masked() -> None:
    event = msgspec.structs.replace(
        EVENT,
        saksnummer=f"sak {PERSON}",
        ukjente_felter={"verge": f'{{"id":"{PERSON}","to":"{PERSON[:6]} 54321"}}', PERSON: "1"},
    )
    text = json.dumps(document_of(seen(event)), ensure_ascii=False) + line_of(seen(event))
    assert PERSON not in text
    assert "54321" not in text


@given(text=st.text())
def test_masked_text_is_one_line_without_terminal_commands(text: str) -> None:
    assert mask_for_display(text).isprintable()


@given(before=st.text("æ -:\"'"), person=st.from_regex(r"\A[0-9]{11}\Z"), after=st.text("ø -,\"'}"))
def test_any_separate_eleven_digits_are_masked(before: str, person: str, after: str) -> None:
    assert person not in mask_for_display(f"{before}{person}{after}")


def test_last_group_of_a_uuid_is_no_national_id() -> None:
    assert mask_for_display(UUID) == UUID
    assert mask_for_display("a1b2c3d4-0000-4000-a000-a12345678901") == "a1b2c3d4-0000-4000-a000-a12345678901"


@pytest.mark.parametrize(
    ("selection", "fits"),
    [
        (Selection(), True),
        (Selection(trekkpliktig=frozenset({"123456789", "1"})), True),
        (Selection(trekkpliktig=frozenset({"1"})), False),
        (Selection(trekkid=frozenset({"10003"})), True),
        (Selection(trekkid=frozenset({"1000"})), False),
        (Selection(trekkstatus=frozenset({"aktiv"})), True),
        (Selection(trekkstatus=frozenset({"avsluttet"}), trekkid=frozenset({"10003"})), False),
    ],
)
def test_selection_keeps_what_matches_every_filter(selection: Selection, *, fits: bool) -> None:
    assert selection.matches(EVENT) is fits


def test_json_screen_writes_an_object_a_line() -> None:
    written: list[str] = []
    screen = LineScreen(written.append, written.append, as_json=True)
    screen.show(seen())
    screen.show(UndecodableRecord("t-versjoner", 3, 18, "cut off"))
    assert [json.loads(line)["offset"] for line in written] == [17, 18]
    assert all(line.endswith("}\n") for line in written)
    assert json.loads(written[1])["undecodable"] == "cut off"


def test_tally_mentions_what_could_not_be_decoded_only_when_there_was_any() -> None:
    assert str(TailTally(read=5, shown=2)) == "2 shown of 5 read"
    assert str(TailTally(read=5, shown=2, undecodable=1)) == "2 shown of 5 read; 1 could not be decoded"


def test_only_a_number_or_the_end_is_a_goal() -> None:
    assert not TailOptions(from_beginning=True).has_goal
    assert TailOptions(events_max=1).has_goal
    assert TailOptions(until_end=True).has_goal
