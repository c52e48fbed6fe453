"""Paging of Altinn events: short and empty pages, restarts from the oldest event, and cursors that are never lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from producer.domain.state import EventCursor
from producer.notifications.event import RESOURCE
from producer.notifications.feed import EventPage, Walk, page_of
from producer.source.http import HttpResponse
from trekkpaalegg.errors import RetryableError

OURS = "310000025"
OWN = {OURS}
BEGUN = datetime(2026, 11, 25, tzinfo=UTC)
NEXT = "https://elsewhere.example.no/events/api/v1/events?resource=r&after={}&size=3"


def event(number, *, kind="dialogporten.dialog.updated.v1", organisation=OURS, minute=None):
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "type": kind,
        "time": (BEGUN + timedelta(minutes=number if minute is None else minute)).isoformat(),
        "resource": RESOURCE,
        "subject": f"urn:altinn:organization:identifier-no:{organisation}",
        "source": "https://altinn",
    }


def page(*numbers, after=None, **fields):
    return EventPage([json.dumps(event(number, **fields)).encode() for number in numbers], after)


def microseconds(number):
    return int((BEGUN + timedelta(minutes=number)).timestamp()) * 1_000_000


def walked(cursor, *pages):
    walk = Walk(cursor, OWN)
    for each in pages:
        assert not walk.is_at_end
        walk.add(each)
    return walk


def test_a_page_has_its_events_and_the_next_cursor():
    body = json.dumps([event(1), event(2)]).encode()
    read = page_of(HttpResponse(200, {"next": NEXT.format("e2"), "content-type": "application/cloudevents+json"}, body))
    assert [json.loads(each)["id"] for each in read.elements] == ["e1", "e2"]
    assert read.next_after == "e2"


@pytest.mark.parametrize("following", ["", "nonsense", "https://[x/?after=1", "https://a/b?size=3", "?after="])
def test_a_next_link_without_an_id_is_ignored(following):
    assert page_of(HttpResponse(200, {"next": following}, b"[]")).next_after is None


@pytest.mark.parametrize("body", [b"{}", b"[{", b"<html>", b'{"error": 1}'])
def test_a_failure_is_never_an_empty_page(body):
    with pytest.raises(RetryableError):
        page_of(HttpResponse(200, {}, body))


def test_it_continues_until_a_page_is_empty_and_has_no_next():
    walk = walked(EventCursor(), page(1, 2, after="e2"), page(3, after="e3"))
    assert walk.pulled().has_more
    walk.add(page(after="e3"))
    pulled = walk.pulled()
    assert not pulled.has_more
    assert [each.trekkpliktig for each in pulled.notifications] == [OURS] * 3
    assert pulled.cursor == EventCursor("e3", microseconds(3))
    assert not pulled.restarted
    assert not pulled.stuck


def test_without_next_it_continues_after_the_last_event():
    walk = walked(EventCursor(), page(1, 2), page())
    assert walk.is_at_end
    assert walk.cursor.after == "e2"


def test_an_empty_page_that_leads_on_is_not_the_end():
    """Altinn leaves out what the caller may not see after it has cut the page."""
    walk = walked(EventCursor("e1"), page(after="x9"), page(after="x8"), page(10, after="e10"), page(after="e10"))
    assert walk.is_at_end
    assert walk.cursor == EventCursor("e10", microseconds(10))


def test_it_continues_where_next_says_though_that_is_no_event_of_the_page() -> None:
    """What stood last on the page was another's, and was left out."""
    assert walked(EventCursor(), page(1, 2, after="x3")).cursor.after == "x3"


def test_nothing_new_leaves_the_cursor_as_it_was():
    cursor = EventCursor("e5", microseconds(5))
    for last in (page(), page(after="e5")):
        pulled = walked(cursor, last).pulled()
        assert (pulled.cursor, pulled.notifications, pulled.has_more) == (cursor, (), False)


def test_a_cursor_that_altinn_does_not_know_restarts_it_and_wakes_again():
    cursor = EventCursor("gone", microseconds(5000))
    walk = walked(cursor, page(1, 2, after="e2"), page(5001, after="e5001"), page(after="e5001"))
    pulled = walk.pulled()
    assert pulled.restarted
    assert not pulled.stuck
    assert len(pulled.notifications) == 3
    assert pulled.cursor == EventCursor("e5001", microseconds(5001))


def test_disorder_of_some_minutes_is_no_restart():
    cursor = EventCursor("e20", microseconds(20))
    assert not walked(cursor, page(21, minute=12, after="e21")).pulled().restarted
    assert walked(cursor, page(21, minute=9, after="e21")).pulled().restarted


def test_a_server_that_restarts_at_every_page_is_not_requested_ever():
    walk = walked(EventCursor("gone", 0), page(1, 2, after="e2"), page(1, 2, after="e2"))
    pulled = walk.pulled()
    assert walk.is_at_end
    assert pulled.stuck
    assert pulled.cursor.after == "e2"
    assert not pulled.has_more
    walk = walked(EventCursor("e1"), page(2, after="e2"), page(3, after="e3"), page(2, after="e2"))
    assert walk.pulled().stuck


def test_every_event_is_counted_and_malformed_ones_hold_nothing_up():
    mixed = [event(1), event(2, kind="dialogporten.dialog.seen.v1"), event(3, organisation="310000033"), {"id": "e4"}]
    read = EventPage([json.dumps(each).encode() for each in mixed], None)
    pulled = walked(EventCursor(), read).pulled()
    assert pulled.outcomes == {"wake_up": 1, "echo": 1, "not_ours": 1, "malformed": 1}
    assert pulled.cursor.after == "e3"
    assert len(pulled.notifications) == 1


def test_the_cursor_shows_no_id():
    assert "15927200104" not in repr(EventCursor("15927200104"))
