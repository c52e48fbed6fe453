"""Operator requests and releases in a lane: recorded, processed and answered in transactions."""

from __future__ import annotations

import threading

import msgspec
import pytest

from producer.domain.observation import Observation
from producer.domain.requests import Answer, OperatorRequest, Show
from producer.encode.observation import decode
from producer.encode.signal import encode_answer, encode_request, encode_show, encode_wake_up
from producer.encode.state import decode_request_state
from producer.errors import RejectedTrekkpaaleggError, SuspendedError
from producer.publish.topics import home_of, lane_of
from tests.kit.fakes.publisher import Fault
from tests.kit.fakes.source import GatedSource
from tests.kit.stages.lane_stage import SECOND, LaneStage, event
from tests.kit.versions import version
from trekkpaalegg.errors import FatalError, RetryableError

# A lane in memory: an operator request is recorded in the transaction that completes its signal
ONE, TWO, THREE = "311111111", "322222222", "333333333"


@pytest.fixture
def stage():
    with LaneStage([ONE, TWO], overlap_sekvensnummer=0) as made:
        yield made


def handed_over(stage):
    """The trekkid of each order version that was handed over, in the order of time."""
    decoded = [
        decode(each.key, each.value, each.headers, stage.source.read_element) for _, each in stage.observations.written
    ]
    return [each.element.trekkid for each in decoded if isinstance(each, Observation) and each.element is not None]


def test_backfill_reads_from_the_start_and_reports_what_it_published(stage):
    first = stage.source.create(ONE)
    late = stage.source.add(msgspec.structs.replace(first, trekkid="late", sekvensnummer=2), visible=False)
    stage.source.create(ONE)
    stage.start()
    stage.source.reveal(late.trekkid, 1)
    stage.read(ONE)
    assert event(late) not in stage.versjoner()
    result = stage.request(ONE, "backfill")
    assert (result.outcome, result.request.published, result.request.orders_read) == ("done", 1, 3)
    assert stage.versjoner().count(event(late, "backfill")) == 1
    assert event(first) in stage.versjoner()
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    assert stage.kafka.state(0).of(ONE).position.requests == ()


def test_request_is_recorded_before_its_signal_is_processed_and_survives_its_owner(stage):
    stage.start()
    stage.stop()
    gate = stage.through = GatedSource(stage.source, lambda asked: asked.trekkpliktig == ONE and stage.signals > 0)
    stage.start()
    stage.signal(ONE, encode_request(OperatorRequest("w", "reconcile", 1)))
    assert gate.reached.wait(60)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
    assert [request.id for request in stage.kafka.state(0).of(ONE).position.requests] == ["w"]
    stage.stop()
    gate.opened.set()
    assert stage.results() == {}
    stage.start()
    stage.wait_until(lambda: "w" in stage.results())
    assert stage.results()["w"].outcome == "done"


def test_many_requests_for_one_share_a_reading(stage):
    stage.start()
    before = stage.journal.ended[ONE]
    for number in range(10):
        stage.signal(ONE, encode_request(OperatorRequest(str(number), "backfill", 1)))
    stage.wait_until(lambda: len(stage.results()) == 10)
    assert stage.journal.ended[ONE] - before <= 2


def test_flood_of_wake_ups_for_one_is_a_reading_or_two():
    with LaneStage([ONE]) as stage:
        gate = stage.through = GatedSource(stage.source, lambda _: not gate.opened.is_set())
        starting = threading.Thread(target=stage.start)
        starting.start()
        assert gate.reached.wait(60)
        for _ in range(3_000):
            stage.signal(ONE)
        gate.opened.set()
        starting.join(60)
        stage.wait_until(lambda: stage.kafka.signal_offset(0) == 3_000)
        assert stage.journal.ended[ONE] <= 3


def test_figures_of_a_back_fill_are_committed_with_what_its_home_publishes_and_dropped_with_its_answer():
    with LaneStage([ONE], maks_antall=10) as stage:
        stage.start()
        for _ in range(35):
            stage.source.create(ONE)
        result = stage.request(ONE, "backfill", "b").request
        assert (result.published, result.orders_read) == (35, 35)
        records = [each for each in stage.kafka.committed(stage.kafka.topics.positions) if each.key == b"@request/b"]
        published = [None if each.value is None else decode_request_state(each.value).published for each in records]
        assert published[-2:] == [35, None]
        assert published[:-1] == sorted(published[:-1])
        assert stage.kafka.state(0).requests == {}


def test_suspended_one_is_not_read_by_anyone_until_it_is_resumed(stage):
    stage.start()
    assert stage.request(ONE, "suspend", "s").outcome == "done"
    order = stage.source.create(ONE)
    stage.signal(ONE)
    stage.read(TWO)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    assert stage.request(ONE, "backfill", "b").outcome == "refused"
    before = stage.journal.ended[ONE]
    stage.trekkpliktige = [TWO]
    stage.start()  # a new owner, which serves the other alone
    stage.lane.set_trekkpliktige([ONE, TWO])
    stage.read(TWO)
    assert stage.lane.schedule.classes(0.0)[0]["suspended_by_operator"] == 1
    assert (stage.journal.ended[ONE], stage.versjoner()) == (before, [])
    stage.request(ONE, "resume", "r")
    stage.wait_until(lambda: stage.versjoner() == [event(order)])
    assert stage.versjoner() == [event(order)]


def test_position_is_set_and_all_is_forgotten_and_nothing_is_published_twice(stage):
    first, second = stage.source.create(ONE), stage.source.create(ONE)
    stage.start()
    stage.request(ONE, "set", "s", position=0)
    stage.read(ONE)
    assert stage.position(ONE) == second.sekvensnummer
    assert handed_over(stage) == [first.trekkid, second.trekkid], "what was handed over is remembered"
    assert stage.request(ONE, "forget", "f").request.orders_read == 2
    assert stage.request(ONE, "forget", "f").request.orders_read == 2, "the same request again is the same"
    stage.read(ONE)
    assert handed_over(stage) == [first.trekkid, second.trekkid] * 2
    assert stage.versjoner() == [event(first), event(second)]
    assert stage.position(ONE) == second.sekvensnummer


def test_orders_that_are_forgotten_are_followed_though_the_list_lacks_them(stage):
    order = stage.source.create(ONE)
    stage.start()
    last = stage.source.change(order.trekkid)
    stage.source.add(last, listed_for=THREE)
    stage.request(ONE, "forget", "f")
    assert stage.request(ONE, "reconcile", "r").vanished == 1
    assert stage.versjoner() == [event(order), event(last, "gapfill")]


def test_forgetting_during_a_reading_breaks_that_off():
    """What the reading compared with is gone."""
    with LaneStage([ONE], maks_antall=1) as stage:
        orders = [stage.source.create(ONE) for _ in range(3)]
        stage.start()
        stage.stop()
        gate = stage.through = GatedSource(stage.source, lambda asked: asked.cursor == 1 and stage.signals > 1)
        stage.start()
        stage.request(ONE, "set", "s", position=0)
        stage.signal(ONE, encode_request(OperatorRequest("b", "backfill", 1)))
        assert gate.reached.wait(60)
        stage.request(ONE, "forget", "f")
        gate.opened.set()
        stage.wait_until(lambda: "b" in stage.results())
        assert stage.results()["b"].request.orders_read == 3
        assert handed_over(stage) == [each.trekkid for each in orders] * 2
        assert stage.versjoner() == [event(each) for each in orders]


def test_request_in_an_aborted_transaction_is_done_by_the_next(stage):
    stage.start()
    stage.kafka.fail(Fault.ABORTED)
    assert stage.request(ONE, "suspend").outcome == "done"
    assert stage.error is None


def test_request_that_cannot_be_fulfilled_fails_with_a_reason(stage):
    stage.start()
    stage.source.fail(SuspendedError("403"), trekkpliktig=ONE, times=None)
    refused = stage.request(ONE, "backfill", "a")
    assert (refused.outcome, refused.detail) == ("failed", "403")
    stage.wait_until(lambda: not stage.kafka.state(0).of(ONE).position.requests)
    assert stage.request(THREE, "backfill", "b").outcome == "refused"


def test_request_waits_while_its_reading_may_still_succeed(stage):
    stage.start()
    stage.source.fail(RetryableError("503"), trekkpliktig=ONE)
    stage.signal(ONE, encode_request(OperatorRequest("w", "backfill", 1)))
    stage.wait_until(lambda: stage.journal.ended[ONE] == 2)
    assert stage.results() == {}
    stage.read(ONE)
    stage.wait_until(lambda: "w" in stage.results())
    assert stage.results()["w"].outcome == "done"


@pytest.mark.parametrize("value", [b"no json", b'{"v":0,"kind":"wakeup"}', b"\x00" * 5000])
def test_invalid_signal_is_skipped_and_the_lane_continues(stage, value):
    stage.start()
    stage.signal(ONE, value)
    stage.signal("12345678901", None)
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == 2)
    assert stage.journal.signals == {"invalid": 2}
    assert stage.error is None


def test_signal_of_a_newer_program_stays_open_while_others_are_carried_out(stage):
    stage.start()
    for key, value in [(ONE, b'{"v":1,"kind":"freeze","id":"w","position":"?"}'), ("*", b'{"v":2,"kind":"wakeup"}')]:
        stage.signal(key, value)
    stage.signal(ONE, encode_request(OperatorRequest("w", "suspend", 1)))
    stage.wait_until(lambda: "w" in stage.results())
    assert stage.journal.signals == {"unknown": 2, "request": 1}
    assert stage.kafka.signal_offset(0) == stage.lane.first_open_signal == 0


def test_signal_that_reached_another_lane_is_passed_on_as_it_came():
    here = [each for each in (ONE, TWO, THREE, "344444444", "355555555") if lane_of(each, 3) == 0]
    away = next(each for each in (ONE, TWO, THREE, "344444444", "355555555") if lane_of(each, 3) != 0)
    with LaneStage(here, served=[away], lanes=3) as stage:
        stage.start()
        value = encode_request(OperatorRequest("w", "suspend", 1))
        stage.signal(away, value)
        stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
        (passed_on,) = stage.kafka.committed(stage.kafka.topics.signals)
        assert (passed_on.key, passed_on.value, passed_on.partition) == (away.encode(), value, lane_of(away, 3))
        assert stage.results() == {}


def test_events_say_that_a_notification_led_to_them_and_unannounced_ones_are_counted(stage):
    stage.start()
    stage.read()
    notified, unannounced = stage.source.create(ONE), stage.source.create(TWO)
    stage.signal(ONE, encode_wake_up("id-1"))
    stage.wait_until(lambda: stage.versjoner() == [event(notified, "notification")])
    assert stage.journal.unannounced_count == 0
    stage.lane.set_trekkpliktige([ONE])
    stage.lane.set_trekkpliktige([ONE, TWO])  # due at once, of the schedule's own accord
    stage.wait_until(lambda: event(unannounced) in stage.versjoner())
    stage.wait_until(lambda: stage.journal.unannounced_count == 1)
    assert stage.journal.unannounced_count == 1


# A request that reads is done when the homes of all lanes have answered
HERE = next(each for each in (ONE, TWO, THREE) if lane_of(each, 2) == 0)


@pytest.fixture
def first_of_two():
    """The first of two lanes; the answers of the other come from the test."""
    with LaneStage([HERE], lanes=2) as made:
        made.start()
        yield made


def answers(stage, *answers):
    """Answers of homes arrive; returns when they are processed."""
    for each in answers:
        stage.signal(HERE, encode_answer(each))
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)


def questions(stage, home):
    """How often the question about a request was put to a home."""
    return sum(at == home and b"question" in each.headers["observation"] for at, each in stage.observations.written)


def asked(stage, kind="backfill"):
    """A request that waits for the answer of the other lane alone."""
    stage.signal(HERE, encode_request(OperatorRequest("w", kind, 1)))
    stage.wait_until(lambda: [each.answered for each in stage.kafka.state(0).of(HERE).position.requests] == [(0,)])


def test_request_is_done_with_the_answers_of_all_homes_and_the_sum_of_their_figures(first_of_two):
    asked(first_of_two)
    assert first_of_two.results() == {}
    answers(first_of_two, Answer("w", 1, 5, 2))
    [(_, result)] = first_of_two.results().items()
    assert (result.outcome, result.request.published, result.request.quarantined) == ("done", 5, 2)
    assert first_of_two.kafka.state(0).of(HERE).position.requests == ()


def test_an_answer_that_comes_twice_counts_once_and_one_that_comes_late_changes_nothing(first_of_two):
    asked(first_of_two)
    answers(first_of_two, Answer("w", 0, 7, 7), Answer("other", 1, 9, 9))
    assert first_of_two.results() == {}
    answers(first_of_two, Answer("w", 1, 5, 2), Answer("w", 1, 5, 2))
    transactions = len(first_of_two.kafka.transactions)
    answers(first_of_two, Answer("w", 1, 5, 2))
    assert [each.records for each in first_of_two.kafka.transactions[transactions:]] == [[]]
    [result] = first_of_two.results().values()
    assert (result.request.published, result.request.quarantined) == (5, 2)


def test_next_owner_asks_again_for_what_waits_for_answers(first_of_two):
    asked(first_of_two)
    first_of_two.start()
    assert (questions(first_of_two, 0), questions(first_of_two, 1)) == (2, 2)
    answers(first_of_two, Answer("w", 1, 0, 0), Answer("w", 1, 0, 0))
    assert [each.outcome for each in first_of_two.results().values()] == ["done"]


def test_question_that_may_be_lost_is_put_again_once_the_list_is_shown_again(first_of_two):
    """What a home has lost held what the request handed over, too, so that it is not done before."""
    asked(first_of_two)
    first_of_two.signal("*", encode_show(Show(first_of_two.now)))
    first_of_two.wait_until(lambda: questions(first_of_two, 1) == 2)
    assert first_of_two.kafka.state(0).of(HERE).position.shown_at == first_of_two.now
    answers(first_of_two, Answer("w", 1, 0, 0))
    assert [each.outcome for each in first_of_two.results().values()] == ["done"]


def test_request_that_is_suspended_while_it_waits_for_answers_fails_once(first_of_two):
    asked(first_of_two)
    first_of_two.request(HERE, "suspend", "s")
    answers(first_of_two, Answer("w", 1, 0, 0))
    assert {name: each.outcome for name, each in first_of_two.results().items()} == {"w": "failed", "s": "done"}


# Every list is handed over once more for each signal that says so, with a later time than those before


def show(stage, since):
    """Have everything shown; returns how many observations that led to."""
    before = len(handed_over(stage))
    stage.signal("*", encode_show(Show(since)))
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    stage.read()
    return len(handed_over(stage)) - before


def test_every_list_is_handed_over_once_for_each_show_and_nothing_is_published_twice(stage):
    made = [stage.source.create(ONE), stage.source.create(ONE), stage.source.create(TWO)]
    stage.start()
    assert [show(stage, since) for since in (5, 5, 4, 6, 6)] == [3, 0, 0, 3, 0]
    stage.start()
    assert show(stage, 6) == 0
    assert stage.versjoner() == [event(each) for each in made]


def test_lists_of_a_lane_that_starts_later_are_shown_by_its_next_owner(stage):
    stage.source.create(ONE)
    stage.start()
    stage.source.fail(RetryableError("503"), times=None)
    stage.signal("*", encode_show(Show(5)))
    stage.wait_until(lambda: stage.kafka.signal_offset(0) == stage.signals)
    stage.source.heal()
    stage.start()
    assert len(handed_over(stage)) == 2


# A lane in memory: a release is published together with its result, or fails with a reason


@pytest.fixture
def stage_of_one():
    with LaneStage([ONE]) as made:
        yield made


def says(stage_of_one, element):
    """The quarantine holds one record, 3/17, and this is what it says; it is returned in a list, to be changed."""
    said = [element]

    def understand(trekkpliktig, record):
        assert (trekkpliktig, record) == (ONE, "3/17")
        if isinstance(said[0], BaseException):
            raise said[0]
        return said[0]

    stage_of_one.understand = understand
    return said


def changed(version):
    return msgspec.structs.replace(version, saksnummer="CHANGED/1")


def request(stage_of_one, name="request", **more):
    result = stage_of_one.request(ONE, "release", name, record="3/17", **more)
    stage_of_one.wait_until(lambda: stage_of_one.kafka.signal_offset(0) == stage_of_one.signals)
    return result


def test_correction_is_published_once_and_named_in_the_answer(stage_of_one):
    order = stage_of_one.source.create(ONE)
    says(stage_of_one, changed(order))
    stage_of_one.start()
    refused = request(stage_of_one, "without")
    assert (refused.outcome, "--correction" in refused.detail) == ("failed", True)
    done = request(stage_of_one, "with", correction=True)
    assert (done.outcome, done.request.published, done.detail) == ("done", 1, f"{order.trekkid}/1")
    again = request(stage_of_one, "again", correction=True)
    assert (again.outcome, "same content" in again.detail) == ("failed", True)
    corrected = event(changed(order), "release", correction=1)
    assert stage_of_one.versjoner() == [event(order), corrected]
    assert stage_of_one.gjeldende()[-1] == corrected


def test_versions_before_it_are_fetched_by_number_and_published_in_their_turn(stage_of_one):
    order = stage_of_one.source.create(ONE)
    said = says(stage_of_one, order)
    stage_of_one.start()
    second, third = stage_of_one.source.change(order.trekkid), stage_of_one.source.change(order.trekkid)
    said[0] = third
    assert request(stage_of_one).detail == f"{order.trekkid}/2, {order.trekkid}/3"
    assert [each.trekkversjon for each in stage_of_one.versjoner()] == [1, second.trekkversjon, third.trekkversjon]
    stage_of_one.read()
    assert len(stage_of_one.versjoner()) == 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RejectedTrekkpaaleggError("it still cannot be understood (missing_field)", "skyldner"), "still cannot"),
        (FatalError("there is no record 3/17"), "there is no record"),
        (KeyError("311111111"), "it broke: KeyError"),
    ],
)
def test_an_unreadable_release_fails_with_a_reason_and_holds_up_no_reading(stage_of_one, error, told):
    says(stage_of_one, error)
    stage_of_one.start()
    result = request(stage_of_one)
    assert (result.outcome, told in result.detail) == ("failed", True)
    made = stage_of_one.source.create(ONE)
    stage_of_one.read()
    assert stage_of_one.versjoner() == [event(made)]


def test_release_before_which_a_version_cannot_be_fetched_now_publishes_nothing_and_follows_that(stage_of_one):
    order = stage_of_one.source.create(ONE)
    said = says(stage_of_one, order)
    stage_of_one.start()
    second = stage_of_one.source.change(order.trekkid)
    said[0] = third = stage_of_one.source.change(order.trekkid)
    stage_of_one.source.fail(SuspendedError("403"), times=None, operation="version")
    result = request(stage_of_one)
    assert (result.outcome, result.request.published, result.detail) == ("done", 0, "")
    assert stage_of_one.versjoner() == [event(order)]
    stage_of_one.source.heal()
    stage_of_one.now += 3600 * SECOND
    stage_of_one.wait_until(lambda: len(stage_of_one.versjoner()) == 3)
    assert stage_of_one.versjoner()[1:] == [event(second, "gapfill"), event(third, "gapfill")]


def test_nothing_is_released_where_nothing_can_be_read(stage_of_one):
    stage_of_one.start()
    assert request(stage_of_one).outcome == "failed"


def test_release_of_an_order_that_is_at_home_in_another_lane_goes_on_to_that():
    """So it is with an element whose trekkid could not be understood when it was quarantined."""
    trekkid = next(each for each in "ABCDEF" if home_of(each.encode(), 2) == 1)
    with LaneStage([ONE], lanes=2) as stage:
        stage.understand = lambda _trekkpliktig, _record: version(trekkid=trekkid)
        stage.start()
        value = encode_request(OperatorRequest("r", "release", 1, record="0/17", correction=True))
        stage.kafka.fail(Fault.ABORTED)
        stage.signal(ONE, value)
        stage.wait_until(lambda: stage.kafka.signal_offset(0) == 1)
        [passed_on] = stage.kafka.committed(stage.kafka.topics.signals)
        assert (passed_on.key, passed_on.value, passed_on.partition) == (ONE.encode(), value, 1)
        assert (stage.results(), stage.versjoner()) == ({}, [])


def test_release_of_an_order_that_is_at_home_here_is_done_whichever_partition_holds_the_record():
    trekkid = next(each for each in "ABCDEF" if home_of(each.encode(), 2) == 0)
    with LaneStage([ONE], lanes=2) as stage:
        stage.understand = lambda _trekkpliktig, _record: version(trekkid=trekkid)
        stage.start()
        stage.signal(THREE, encode_request(OperatorRequest("r", "release", 1, record="1/17")))
        stage.wait_until(lambda: "r" in stage.results())
        assert stage.results()["r"].detail == f"{trekkid}/1"
        assert stage.versjoner() == [event(version(trekkid=trekkid), "release")]


def test_release_whose_transaction_was_aborted_is_tried_again(stage_of_one):
    order = stage_of_one.source.create(ONE)
    says(stage_of_one, changed(order))
    stage_of_one.start()
    stage_of_one.kafka.fail(Fault.ABORTED)
    assert request(stage_of_one, correction=True).outcome == "done"
    assert len(stage_of_one.versjoner()) == 2


def test_signal_is_open_until_the_result_is_committed_and_goes_to_the_next_owner(stage_of_one):
    order = stage_of_one.source.create(ONE)
    gate, reached = threading.Event(), threading.Event()

    def understand(_trekkpliktig, _record):
        reached.set()
        assert gate.wait(60)
        return changed(order)

    stage_of_one.understand = understand
    stage_of_one.start()
    request = encode_request(OperatorRequest("w", "release", 1, record="3/17", correction=True))
    offset = stage_of_one.signal(ONE, request)
    assert reached.wait(60)
    stage_of_one.read()
    assert (stage_of_one.kafka.signal_offset(0) or 0) <= offset, "a later signal does not complete it"
    stage_of_one.stop()
    gate.set()
    assert stage_of_one.results() == {}
    stage_of_one.start()
    stage_of_one.lane.signal(ONE, offset, request)
    stage_of_one.wait_until(lambda: "w" in stage_of_one.results())
    assert (stage_of_one.results()["w"].outcome, len(stage_of_one.versjoner())) == ("done", 2)
