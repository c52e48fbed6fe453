"""How an Altinn event is read: as a hint that is not trusted and whose content is not repeated."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.notifications.event import (
    EVENT_BYTES_MAX,
    RESOURCE,
    Dropped,
    Notification,
    RecentEvents,
    Validation,
    read_pulled,
    read_pushed,
)

OURS, OTHER = "310000025", "310000033"
OWN = {OURS}
PERSON = "15927200104"
EVENT_ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
CONTENT_TYPE = "application/json; charset=utf-8"
GOOD = {
    "specversion": "1.0",
    "id": EVENT_ID,
    "type": "dialogporten.dialog.created.v1",
    "time": "2026-11-25T10:00:00Z",
    "resource": RESOURCE,
    "resourceinstance": "0193-dialog",
    "subject": f"urn:altinn:organization:identifier-no:{OURS}",
    "source": "https://platform.altinn.no/dialogporten/api/v1/enduser/dialogs/0193-dialog",
}
TEN_O_CLOCK = 1_795_600_800_000_000


def pushed(fields=None, *, without=(), content_type=CONTENT_TYPE):
    event = {name: value for name, value in {**GOOD, **(fields or {})}.items() if name not in without}
    return read_pushed({"Content-Type": content_type}, json.dumps(event).encode(), OWN)


@pytest.mark.parametrize(
    "content_type",
    [CONTENT_TYPE, "application/json", "application/cloudevents+json", "Application/CloudEvents+JSON;charset=UTF-8"],
)
def test_an_event_about_one_of_ours_wakes_it(content_type):
    assert pushed(content_type=content_type) == Notification(OURS, EVENT_ID, happened_at=TEN_O_CLOCK)


@pytest.mark.parametrize(
    "kind",
    [
        "dialogporten.dialog.created.v1",
        "dialogporten.dialog.updated.v1",
        "dialogporten.dialog.deleted.v1",
        "dialogporten.dialog.restored.v1",
        "dialogporten.dialog.transmission.created.v1",
        "dialogporten.dialog.activity.information.v1",
        "dialogporten.dialog.activity.transmission-opened.v1",
    ],
)
def test_all_that_may_be_a_change_wakes(kind):
    assert pushed({"type": kind}) == Notification(OURS, EVENT_ID, happened_at=TEN_O_CLOCK)


def test_an_unknown_type_wakes_a_reading_and_is_counted_separately():
    """Which types Skatteetaten will use is unknown: a reading too many is the safe mistake."""
    incoming = pushed({"type": "no.skatteetaten.trekkpaalegg.opprettet"})
    assert isinstance(incoming, Notification)
    assert incoming.outcome == "unknown_type"
    assert pushed().outcome == "wake_up"


def test_binary_mode_means_the_same_with_any_body():
    headers = {f"Ce-{name.title()}": value for name, value in GOOD.items()}
    for body in (b"", b"{", b'{"dialog": 1}', b"\xff"):
        assert read_pushed({**headers, "Content-Type": "text/plain"}, body, OWN) == pushed()
    del headers["Ce-Id"]
    assert read_pushed(headers, b"", OWN) == Dropped("malformed")


def test_our_own_echo_is_dropped():
    assert pushed({"type": "dialogporten.dialog.seen.v1"}) == Dropped("echo", EVENT_ID, TEN_O_CLOCK)


def test_a_validation_is_answered_for_any_subject():
    event = {"id": EVENT_ID, "source": "https://a/b", "type": "platform.events.validatesubscription"}
    body = json.dumps({**event, "specversion": "1.0"}).encode()
    assert read_pushed({"content-type": CONTENT_TYPE}, body, OWN) == Validation(EVENT_ID)


@pytest.mark.parametrize(
    "subject",
    [
        f"urn:altinn:organization:identifier-no:{OTHER}",
        f"urn:altinn:person:identifier-no:{PERSON}",
        f"urn:altinn:organization:identifier-no:{OURS}0",
        f"urn:altinn:organization:identifier-no:{OURS} ",
        "urn:altinn:organization:identifier-no:٣١٠٠٠٠٠٢٥",
        f"/party/{OURS}",
        OURS,
    ],
)
def test_an_event_about_another_subject_wakes_no_reading_and_is_not_shown(subject):
    incoming = pushed({"subject": subject})
    assert incoming == Dropped("not_ours", EVENT_ID, TEN_O_CLOCK)
    assert PERSON not in repr(incoming)


def test_the_older_form_of_a_subject_is_understood():
    assert pushed({"subject": "/party/50001", "alternativesubject": f"/organisation/{OURS}"}).trekkpliktig == OURS
    assert pushed(without=["subject"]).outcome == "not_ours"


def test_another_resource_is_dropped_and_a_missing_one_counts_as_ours():
    assert pushed({"resource": "urn:altinn:resource:another"}).outcome == "other_resource"
    assert pushed(without=["resource"]).outcome == "wake_up"


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_without_a_required_attribute_it_is_malformed(name):
    assert pushed(without=[name]) == Dropped("malformed")
    assert pushed({name: None}) == Dropped("malformed")
    assert pushed({name: ""}) == Dropped("malformed")
    assert pushed({name: 7}) == Dropped("malformed")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"[" * 50_000, json.dumps([GOOD]).encode(), b'{"id": NaN}'],
)
def test_anything_but_an_event_is_malformed(body):
    assert read_pushed({"content-type": CONTENT_TYPE}, body, OWN) == Dropped("malformed")


@pytest.mark.parametrize("fields", [{"specversion": "0.3"}, {"time": "noon"}, {"time": 7}, {"time": "2026-11-25"}])
def test_attributes_that_are_wrong_are_malformed(fields):
    assert pushed(fields) == Dropped("malformed")


def test_a_body_of_another_kind_is_malformed_and_a_large_one_is_not_read():
    assert pushed(content_type="text/plain") == Dropped("malformed")
    assert pushed(content_type="") == Dropped("malformed")
    assert pushed({"data": "x" * EVENT_BYTES_MAX}) == Dropped("oversized")


def test_new_attributes_and_any_data_make_no_event_unreadable():
    fields = {
        "ResourceInstance": 1,
        "a-very-long-name-that-no-rule-allows": {},
        "data": [PERSON],
        "data_base64": "AA==",
    }
    assert pushed(fields).outcome == "wake_up"


def test_an_event_without_a_time_has_none():
    assert pushed(without=["time"]).happened_at is None
    assert pushed({"time": "9999-12-31T23:59:59-23:59"}).outcome == "wake_up"


def test_an_id_that_is_no_uuid_shows_as_a_hash():
    incoming = pushed({"id": f"{PERSON} was here"})
    assert re.fullmatch("hash-[0-9a-f]{32}", incoming.event_id)
    assert pushed({"id": f"{PERSON} was here"}).event_id == incoming.event_id
    assert pushed({"id": EVENT_ID.upper()}).event_id == EVENT_ID


@given(st.dictionaries(st.sampled_from([*GOOD, "data"]), st.none() | st.text() | st.integers() | st.just([PERSON])))
def test_any_input_is_parsed_or_dropped_and_shows_no_person(fields):
    incoming = pushed(fields)
    assert incoming.outcome
    assert PERSON not in repr(incoming)
    if isinstance(incoming, Notification):
        assert incoming.trekkpliktig == OURS


@given(
    st.binary(max_size=200), st.dictionaries(st.sampled_from(["content-type", "ce-specversion", "ce-id"]), st.text())
)
def test_no_bytes_and_headers_raise(body, headers):
    assert read_pushed(headers, body, OWN).outcome in {"malformed", "not_ours"}


def test_a_pulled_event_keeps_its_id_as_the_next_cursor():
    incoming, event_id = read_pulled(json.dumps({**GOOD, "id": f"x {PERSON}"}).encode(), OWN)
    assert (incoming.outcome, event_id) == ("wake_up", f"x {PERSON}")
    assert PERSON not in repr(incoming)
    assert read_pulled(b"{", OWN) == (Dropped("malformed"), None)


def test_repeated_ids_are_recognised_in_bounded_memory():
    recent = RecentEvents(recent_max=3)
    for number in range(3):
        assert recent.is_new(str(number))
        recent.add(str(number))
    assert not recent.is_new("0")
    recent.add("0")
    recent.add("3")
    assert [recent.is_new(each) for each in ("0", "1", "2", "3")] == [False, True, False, False]
    assert len(recent) == 3
