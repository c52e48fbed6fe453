"""What commands read of the progress and the results of operator requests, and of what a comparison has published."""

from __future__ import annotations

import msgspec
import pytest
from confluent_kafka import Message

from producer.cli.requests import AwaitedResults, new_request, versions_bar
from producer.cli.rounds import Differences
from producer.domain.requests import RECONCILE, RELEASE, RequestResult, RequestState
from producer.domain.state import NO_EVENT, NOT_HANDED_OVER, TrekkpliktigPosition
from producer.domain.trekkpaalegg import Origin, Publication
from producer.publish.port import Record
from producer.publish.state import (
    event_cursor_record,
    handed_over_record,
    position_record,
    request_record,
    results_record,
)
from tests.kit.event_stream import event_encoder, make_stream

ONE, OTHER = "310000025", "310000033"
POSITIONS, VERSJONER, QUARANTINE = "positions", "versjoner", "quarantine"
ITS = [each.trekkpaalegg for each in make_stream(3, 1, versions_max=4)]


def message_of(record: Record) -> Message:
    headers = list(record.headers.items())
    given = {"topic": record.topic, "partition": record.partition, "key": record.key, "value": record.value}
    return Message(**given, headers=headers)


def test_results_are_those_of_the_requests_that_were_sent() -> None:
    """Those of other requests, and records of orders, say nothing."""
    one, other = new_request(RECONCILE), new_request(RECONCILE)
    awaited = AwaitedResults({ONE: one, OTHER: other}, versions_bar())
    position = TrekkpliktigPosition(7)
    nothing = [
        position_record(POSITIONS, 0, ONE, msgspec.structs.replace(position, requests=(one,))),
        position_record(POSITIONS, 0, ONE, position, [RequestResult(new_request(RECONCILE), "done")]),
        handed_over_record(POSITIONS, 0, ONE, b"a", NOT_HANDED_OVER),
        event_cursor_record(POSITIONS, 0, ONE, NO_EVENT),
        Record(POSITIONS, ONE.encode(), None, {}, 0),
    ]
    for record in nothing:
        awaited.receive(message_of(record))
    assert (awaited.left, awaited.results) == ({ONE, OTHER}, {})
    result = RequestResult(one, "failed", "it is suspended")
    awaited.receive(message_of(position_record(POSITIONS, 0, ONE, position, [result])))
    assert (awaited.left, awaited.results) == ({OTHER}, {ONE: result})


def test_the_result_of_a_release_comes_from_the_home_of_the_order() -> None:
    request = new_request(RELEASE, record="1/7")
    awaited = AwaitedResults({ONE: request}, versions_bar())
    result = RequestResult(request, "done", "a/2")
    awaited.receive(message_of(results_record(POSITIONS, 1, ONE, [result])))
    assert {name: (each.outcome, each.detail) for name, each in awaited.results.items()} == {ONE: ("done", "a/2")}


def test_progress_is_what_all_homes_have_published() -> None:
    with versions_bar() as progress:
        requests = {ONE: new_request(RECONCILE), OTHER: new_request(RECONCILE)}
        awaited = AwaitedResults(requests, progress)
        for lane, name, published in [(0, ONE, 2), (1, ONE, 3), (0, ONE, 5), (1, OTHER, 4)]:
            state = RequestState(name, published)
            awaited.receive(message_of(request_record(POSITIONS, lane, requests[name].id, state)))
        awaited.receive(message_of(request_record(POSITIONS, 0, requests[ONE].id, None)))
        awaited.receive(message_of(request_record(POSITIONS, 0, "another", RequestState(ONE, 100))))
        assert progress.tasks[0].fields["versions"] == 5 + 3 + 4


@pytest.mark.parametrize(
    ("origins", "shown"),
    [
        (["reconcile", "poll"], ["published"]),
        (["gapfill", "gapfill", "reconcile"], ["published"] * 3),
        (["gapfill", "gapfill"], ["published"] * 2),
        (["gapfill", "poll", "gapfill"], ["published"]),
        (["notification", "backfill", "poll"], []),
        (["repair", "gapfill", "repair"], ["published again", "published", "published again"]),
    ],
)
def test_a_comparison_has_published_what_it_found_and_the_gaps_before_it(origins: list[str], shown: list[str]) -> None:
    """Gaps before what polling found are polling's. An order that the list lacks is followed by number alone."""
    differences, encode = Differences(QUARANTINE), event_encoder().encode
    for trekkpaalegg, origin in zip(ITS, origins, strict=False):
        event = encode(Publication(trekkpaalegg, Origin(origin)))
        differences.add([message_of(Record(VERSJONER, event.key, event.value, event.headers, 0))])
    assert [row["difference"] for row in differences.rows()] == shown
    assert all(row["trekkid"] == ITS[0].trekkid for row in differences.rows())
