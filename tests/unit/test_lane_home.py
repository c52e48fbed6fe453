"""The home of orders: what is observed is decided on order by order, and committed with the offsets of what is done."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.detect.decide import UnencodableError
from producer.detect.differences import digest_of
from producer.domain.content import CONTENT_HASH_VERSION, content_hash
from producer.domain.observation import Known, Observation, Question
from producer.domain.requests import RequestState
from producer.domain.state import LaneState, Missing, ObservationOffsets, OrderState
from producer.domain.trekkpaalegg import Failed, Gone, Origin
from producer.errors import RejectedTrekkpaaleggError
from producer.lane.home import (
    FAILING_PAUSE_MAX,
    FAILING_PAUSE_MIN,
    VERSIONS_UNDER_WAY_MAX,
    Home,
    Task,
)
from producer.publish.port import Row
from tests.kit.versions import rejected_version, version

ONE, TWO, FORMER = "311111111", "322222222", "399999999"
SERVED = {ONE, TWO}
NOW = 1_790_000_000_000_000
SECOND = 1_000_000
DAY = 86_400 * SECOND
BULK_MAX = 100


def first_of(trekkid):
    """The state of an order whose first version is published."""
    return OrderState(1, content_hash(version(1, trekkid=trekkid)), CONTENT_HASH_VERSION)


class Desk:
    """A home with what it observed and what was requested of the source; `published` and `history` were committed.

    It is lost and made again by `restart`, which leaves only what was committed.
    """

    def __init__(self, **orders):
        self.now = NOW
        self.rows = {row: [] for row in Row}
        self.published = []
        self.quarantined = []
        self.history = {}
        self.unencodable = []
        self.state = LaneState()
        for trekkid, order in orders.items():
            self.state.orders.remember(trekkid.encode(), order)
        self.restart()

    def restart(self):
        self.requested = []
        self.home = Home(self.state, self._encode, lambda each: each in SERVED, DAY, self.now)
        reached = self.state.observations
        for row, offset in ((Row.URGENT, reached.urgent), (Row.BULK, reached.bulk)):
            for number, observed in enumerate(self.rows[row][offset:], start=offset):
                self.home.receive(row, number, observed)

    def _encode(self, task, _before, decision):
        for each in decision.publications:
            if each.trekkpaalegg in self.unencodable:
                raise UnencodableError(each.trekkpaalegg, RejectedTrekkpaaleggError("too_large", "$"))
        names = [f"{task.key.decode()}/{each.trekkpaalegg.trekkversjon}" for each in decision.publications]
        return [name + " late" * each.late for name, each in zip(names, decision.publications, strict=True)]

    def receive(self, observed, row=Row.BULK):
        self.rows[row].append(observed)
        self.home.receive(row, len(self.rows[row]) - 1, observed)

    def show(self, trekkversjon=1, trekkid="A", *, row=Row.BULK, trekkpliktig=ONE, requests=()):
        """An element of a list."""
        element = version(trekkversjon, trekkid=trekkid)
        origin = Origin.NOTIFICATION if row is Row.URGENT else Origin.POLL
        self.receive(Observation(trekkid.encode(), trekkpliktig, origin, element, requests=requests), row)

    def ask(self, request="r", trekkpliktig=ONE):
        self.receive(Question(trekkpliktig, request))

    def decide(self, bulk_max=BULK_MAX):
        """Decide on what can be; returns which versions are requested now."""
        wanted = self.home.decide(self.now, bulk_max)
        self.requested += [(each.task, number) for each in wanted for number in each.versions]
        return {each.task.key.decode(): list(each.versions) for each in wanted}

    def answer(self, which=0, fetched=None):
        """The source answers one of the requests that are under way, with the version if nothing else."""
        task, number = self.requested.pop(which)
        self.home.add_version(task, number, fetched or version(number, trekkid=task.key.decode()))

    def answer_all(self, fetched=None):
        while self.requested:
            self.answer(fetched=fetched)

    def look_up(self):
        """What is to be looked up is found in the history."""
        self.home.add_history(self.home.next_look_ups(), self.history)

    def commit(self):
        """Commit what is decided; returns what is done with, by row."""
        for task in self.home.decided():
            self.published += task.records
            self.quarantined += [each.reason.value for each in task.decision.rejected]
            for each in task.decision.publications:
                name = task.key, each.trekkpaalegg.trekkversjon
                self.history.setdefault(name, set()).add(content_hash(each.trekkpaalegg))
        done = self.home.committed()
        return done[Row.URGENT], done[Row.BULK]

    def work(self):
        """Decide, fetch and commit until nothing more comes of it."""
        while self.home.is_ready or self.requested:
            self.decide()
            self.answer_all()
            self.look_up()
            self.commit()

    def order(self, trekkid="A"):
        return self.state.orders.order(trekkid.encode())

    @property
    def reached(self):
        return self.state.observations.urgent, self.state.observations.bulk


# One order at a time, and no order for another


def test_what_was_observed_of_an_order_is_decided_on_in_its_order_and_committed_together():
    desk = Desk()
    desk.show(1)
    desk.show(2)
    assert desk.decide() == {}
    assert desk.home.is_ready
    assert desk.order() == OrderState()
    assert desk.commit() == (0, 2)
    assert desk.published == ["A/1", "A/2"]
    assert desk.order().trekkversjon == 2
    assert desk.reached == (0, 2)
    assert desk.home.is_idle


def test_an_order_that_waits_for_versions_delays_no_other_and_holds_back_the_offset_alone():
    desk = Desk()
    desk.show(3, "A")
    desk.show(1, "B")
    assert desk.decide() == {"A": [1, 2]}
    assert desk.commit() == (0, 0)
    assert desk.published == ["B/1"]
    assert desk.reached == (0, 0)
    desk.show(2, "B")
    assert desk.decide() == {}
    desk.commit()
    assert desk.published == ["B/1", "B/2"]
    assert not desk.home.is_ready
    desk.answer(1)
    assert not desk.home.is_ready
    desk.answer(0)
    assert desk.decide() == {}
    assert desk.commit() == (0, 3)
    assert desk.published[2:] == ["A/1", "A/2", "A/3"]
    assert desk.reached == (0, 3)


def test_what_was_observed_of_an_order_that_waits_is_decided_on_after_it():
    desk = Desk()
    desk.show(2)
    desk.show(3)
    assert desk.decide() == {"A": [1]}
    desk.show(4)
    assert desk.decide() == {}
    desk.answer()
    desk.decide()
    desk.commit()
    assert desk.published == ["A/1", "A/2", "A/3", "A/4"]


def test_a_version_that_fails_makes_its_order_wait_in_the_state_and_its_observation_is_done_with():
    desk = Desk()
    desk.show(3)
    desk.show(1, "B")
    desk.decide()
    desk.answer(0, Failed("HTTP 503"))
    desk.answer(0)
    desk.decide()
    assert desk.commit() == (0, 2)
    assert desk.published == ["B/1"]
    order = desk.order()
    assert (order.trekkversjon, order.seen, order.readers, order.tried_at) == (0, 3, (ONE,), NOW)
    assert [(each.first, each.last) for each in order.failing] == [(1, 1)]


def test_versions_are_requested_with_the_token_of_who_showed_the_order_first_and_of_its_readers_who_are_served():
    order = OrderState(missing=(Missing(1, 1),), readers=(FORMER, ONE), tried_at=NOW)
    desk = Desk(A=order, B=order)
    desk.show(3, "A", trekkpliktig=TWO)
    desk.home.add(Task(b"B"))
    assert {each.task.key: each.readers for each in desk.home.decide(NOW, BULK_MAX)} == {b"A": (TWO, ONE), b"B": (ONE,)}


def test_an_order_that_a_list_lacks_is_asked_for_until_nothing_comes():
    desk = Desk(A=first_of("A"))
    desk.receive(Observation(b"A", ONE, Origin.RECONCILE))
    for number in (2, 3):
        assert desk.decide() == {"A": [number]}
        desk.answer()
    assert desk.decide() == {"A": [4]}
    desk.answer(0, Gone())
    desk.decide()
    assert desk.commit() == (0, 1)
    assert desk.published == ["A/2", "A/3"]


def test_a_version_that_cannot_be_encoded_is_quarantined_and_those_after_it_are_published():
    desk = Desk()
    desk.unencodable.append(version(1))
    desk.show(1)
    desk.show(2)
    desk.work()
    assert desk.published == ["A/2"]
    assert desk.quarantined == ["too_large"]
    assert desk.reached == (0, 2)


def test_what_is_known_already_is_done_with_and_changes_nothing():
    desk = Desk(A=first_of("A"))
    desk.show(1)
    desk.decide()
    assert [task.records for task in desk.home.decided()] == [[]]
    assert desk.commit() == (0, 1)
    assert desk.order() == first_of("A")


# What is looked up in the history


def third_of(trekkid):
    """The state of an order whose third version is the newest."""
    return OrderState(3, content_hash(version(3, trekkid=trekkid)), CONTENT_HASH_VERSION)


def looked_up(look_ups):
    return [(each.task.key, each.trekkversjon) for each in look_ups]


def test_an_older_version_is_looked_up_before_it_is_decided_on_and_delays_no_other_order():
    desk = Desk(A=third_of("A"))
    desk.show(2, "A")
    desk.show(4, "A")
    desk.show(1, "B")
    assert desk.decide() == {}
    look_ups = desk.home.next_look_ups()
    assert looked_up(look_ups) == [(b"A", 2)]
    assert desk.home.next_look_ups() == [], "it is under way"
    desk.commit()
    assert (desk.published, desk.reached) == (["B/1"], (0, 0))
    assert not desk.home.is_ready
    desk.home.add_history(look_ups, {(b"A", 2): {b"other"}})
    desk.decide()
    assert desk.commit() == (0, 3)
    assert desk.published == ["B/1", "A/4"]
    assert desk.quarantined == ["changed_content"]


def test_all_that_is_to_be_looked_up_by_now_is_so_at_once_and_once_more_if_that_fails():
    desk = Desk(A=third_of("A"), B=third_of("B"), C=third_of("C"))
    desk.show(2, "A")
    desk.show(1, "B")
    desk.decide()
    look_ups = desk.home.next_look_ups()
    assert looked_up(look_ups) == [(b"A", 2), (b"B", 1)]
    desk.home.look_up_again(look_ups)
    desk.show(1, "C")
    desk.decide()
    look_ups = desk.home.next_look_ups()
    assert looked_up(look_ups) == [(b"A", 2), (b"B", 1), (b"C", 1)]
    desk.home.add_history(look_ups, {(b"A", 2): {content_hash(version(2, trekkid="A"))}, (b"C", 1): {b"other"}})
    desk.decide()
    assert desk.commit() == (0, 3)
    assert desk.quarantined == ["changed_content"]
    assert desk.home.is_idle


def test_what_was_looked_up_is_not_looked_up_again_after_a_rollback():
    desk = Desk(A=third_of("A"))
    desk.show(2, "A")
    desk.decide()
    desk.home.add_history(desk.home.next_look_ups(), {})
    desk.decide()
    desk.home.aborted()
    desk.decide()
    assert desk.home.next_look_ups() == []
    assert desk.commit() == (0, 1)


def test_an_order_waits_for_both_versions_by_number_and_the_history():
    desk = Desk(A=msgspec.structs.replace(third_of("A"), missing=(Missing(1, 1),), readers=(ONE,), tried_at=NOW))
    desk.show(2, "A", trekkpliktig=TWO)
    desk.home.receive(Row.BULK, 1, Observation(b"A", ONE, Origin.POLL))
    desk.decide()
    [look_up] = desk.home.next_look_ups()
    desk.home.add_history([look_up], {})
    assert desk.decide() == {"A": [1, 4]}


# Offsets


def test_done_with_are_the_records_at_the_front_of_their_row():
    desk = Desk()
    desk.show(1, "A", row=Row.URGENT)
    desk.show(2, "B", row=Row.URGENT)
    desk.show(1, "C", row=Row.URGENT)
    desk.show(1, "D")
    desk.decide()
    assert desk.home.offsets() == ObservationOffsets(1, 1)
    assert desk.reached == (0, 0)
    assert desk.commit() == (1, 1)
    assert desk.home.waiting_by_row() == {Row.URGENT: 2, Row.BULK: 0}
    assert desk.home.waiting == 2
    assert not desk.home.is_idle
    desk.work()
    assert desk.reached == (3, 1)
    assert desk.home.is_idle


def test_offsets_follow_those_of_the_rows_whatever_they_skip():
    state = LaneState()
    state.observations = ObservationOffsets(7, 100)
    home = Home(state, lambda *_: [], lambda _: True, DAY, NOW)
    assert home.offsets() == ObservationOffsets(7, 100)
    home.receive(Row.URGENT, 9, Observation(b"A", ONE, Origin.POLL, version()))
    assert home.offsets() == ObservationOffsets(9, 100)
    home.decide(NOW, BULK_MAX)
    assert home.offsets() == ObservationOffsets(10, 100)


# What a list has shown


def test_orders_that_a_list_shows_first_are_recorded_with_the_next_commit():
    desk = Desk()
    desk.receive(Known(ONE, (b"A", b"B")))
    assert desk.home.is_ready
    assert not desk.home.is_idle
    desk.home.aborted()
    assert desk.home.known() == {ONE: {b"A", b"B"}}
    assert desk.home.offsets() == ObservationOffsets(0, 1)
    assert list(desk.state.of(ONE).keys()) == []
    assert desk.commit() == (0, 1)
    assert desk.state.of(ONE).only_known == {b"A", b"B"}
    assert desk.home.known() == {}
    assert desk.home.is_idle


def test_orders_of_which_more_is_recorded_are_not_recorded_as_known_again():
    desk = Desk()
    desk.state.ensure(ONE).know({b"A", b"B"})
    desk.state.ensure(ONE).remember(b"A", digest_of(version()))
    desk.receive(Known(ONE, (b"A",)))
    assert desk.home.known() == {}
    desk.commit()
    assert desk.reached == (0, 1)
    desk.receive(Known(ONE, (b"A", b"C")))
    assert desk.home.known() == {ONE: {b"B", b"C"}}, "of all that are only known there is one record"


# A transaction that is rolled back


def test_what_was_rolled_back_is_decided_again_on_the_state_that_is_committed():
    desk = Desk(A=first_of("A"))
    desk.show(2)
    desk.show(3)
    desk.decide()
    desk.home.aborted()
    assert desk.home.decided() == []
    assert desk.home.offsets() == ObservationOffsets(0, 0)
    assert desk.order() == first_of("A")
    assert desk.home.is_ready
    assert desk.decide() == {}
    desk.commit()
    assert desk.published == ["A/2", "A/3"]
    assert desk.reached == (0, 2)


def test_versions_that_were_fetched_are_not_fetched_again_after_a_rollback():
    desk = Desk()
    desk.show(2)
    desk.decide()
    desk.answer()
    desk.decide()
    desk.home.aborted()
    assert desk.decide() == {}
    desk.commit()
    assert desk.published == ["A/1", "A/2"]


def test_versions_may_come_while_what_was_before_them_is_rolled_back():
    desk = Desk()
    desk.show(1)
    desk.show(3)
    assert desk.decide() == {"A": [2]}
    desk.home.aborted()
    desk.answer()
    assert desk.decide() == {}
    desk.commit()
    assert desk.published == ["A/1", "A/2", "A/3"]
    assert desk.reached == (0, 2)


# Urgent before bulk


def test_few_that_are_not_urgent_are_decided_on_at_once_and_all_that_are():
    desk = Desk()
    for number in range(5):
        desk.show(1, f"B{number}")
    for number in range(5):
        desk.show(1, f"U{number}", row=Row.URGENT)
    desk.decide(bulk_max=7)
    desk.commit()
    assert desk.published == [*(f"U{number}/1" for number in range(5)), "B0/1", "B1/1"]
    assert desk.home.is_ready
    desk.decide(bulk_max=2)
    desk.commit()
    assert desk.published[7:] == ["B2/1", "B3/1"]


def test_what_is_not_urgent_may_wait_for_more_until_it_is_enough():
    desk = Desk(A=OrderState(1, seen=3, readers=(ONE,)))
    desk.show(1, "B")
    desk.receive(Known(ONE, (b"B",)))
    desk.decide()
    assert not desk.home.is_pressing(BULK_MAX)
    assert desk.home.is_pressing(1)
    desk.commit()
    desk.show(2, "C", row=Row.URGENT)
    assert desk.home.is_pressing(BULK_MAX)
    desk.decide()
    assert not desk.home.is_pressing(BULK_MAX), "it waits for a version"
    desk.answer()
    desk.decide()
    assert desk.home.is_pressing(BULK_MAX)
    desk.commit()
    assert not desk.home.is_pressing(BULK_MAX)
    desk.home.start_tries(desk.now)
    desk.decide()
    desk.answer_all(Failed("HTTP 503"))
    desk.decide()
    assert desk.home.is_pressing(BULK_MAX), "it is no part of a back-fill"
    desk.commit()
    desk.ask(trekkpliktig=TWO)
    desk.home.answered(desk.home.questions()[0])
    assert desk.home.is_pressing(BULK_MAX)


def test_what_was_observed_before_of_an_order_goes_with_what_is_urgent_of_it():
    desk = Desk()
    for number in range(5):
        desk.show(1, f"B{number}")
    desk.show(1, "A")
    desk.show(2, "A")
    desk.show(3, "A", row=Row.URGENT)
    desk.decide(bulk_max=0)
    desk.commit()
    assert desk.published == ["A/1", "A/2", "A/3"]


def test_versions_for_what_is_urgent_are_requested_first_and_so_is_what_holds_it_up():
    desk = Desk()
    desk.show(2, "A")
    desk.show(2, "B")
    desk.show(3, "B", row=Row.URGENT)
    wanted = desk.home.decide(NOW, BULK_MAX)
    assert [(each.task.key, each.is_urgent) for each in wanted] == [(b"B", True), (b"A", False)]


def test_few_versions_are_requested_at_a_time_in_the_order_of_their_orders_and_all_that_are_urgent():
    desk = Desk()
    versions = VERSIONS_UNDER_WAY_MAX // 2
    for trekkid in "ABCD":
        desk.show(versions + 1, trekkid)
    assert list(desk.decide()) == ["A", "B"]
    assert desk.decide() == {}
    desk.show(3, "U", row=Row.URGENT)
    assert desk.decide() == {"U": [1, 2]}
    for _ in range(3):
        assert desk.decide() == {}
        desk.answer()
    assert list(desk.decide()) == ["C"]
    desk.show(1, "E")
    desk.decide()
    desk.commit()
    assert desk.published == ["E/1"], "an order that waits for its turn delays no other"
    desk.work()
    assert Counter(each[0] for each in desk.published) == dict.fromkeys("ABCD", versions + 1) | {"E": 1, "U": 3}


# Questions


def test_question_is_answered_when_everything_before_it_in_its_row_is_committed():
    desk = Desk()
    desk.show(2, "A", requests=("r",))
    desk.show(1, "U", row=Row.URGENT)
    desk.ask()
    desk.show(1, "B")
    desk.decide()
    desk.commit()
    assert desk.home.questions() == []
    desk.answer()
    desk.decide()
    assert desk.home.questions() == [], "it is decided, but not committed"
    desk.commit()
    [open_question] = desk.home.questions()
    assert open_question.question == Question(ONE, "r")
    assert desk.reached == (1, 1)
    assert desk.state.requests == {"r": RequestState(ONE, 2, 0)}


def test_offset_passes_a_question_when_its_answer_is_stored_and_its_figures_are_dropped_with_it():
    desk = Desk()
    desk.show(1, requests=("r",))
    desk.ask()
    desk.work()
    [open_question] = desk.home.questions()
    open_question.is_asked = True
    assert desk.home.questions() == [], "it is asked for once"
    assert desk.home.offsets() == ObservationOffsets(0, 1)
    desk.home.answered(open_question)
    assert desk.home.is_ready
    assert desk.home.offsets() == ObservationOffsets(0, 2)
    desk.home.aborted()
    assert desk.home.offsets() == ObservationOffsets(0, 2)
    assert desk.home.requests() == {"r": None}
    assert desk.commit() == (0, 1)
    assert desk.state.requests == {}
    assert desk.home.is_idle


def test_questions_are_answered_one_after_another():
    desk = Desk()
    desk.ask("r")
    desk.ask("s")
    for request in ("r", "s"):
        [open_question] = desk.home.questions()
        assert open_question.question.request == request
        desk.home.answered(open_question)
        desk.commit()
    assert desk.home.questions() == []


def test_question_causes_a_try_of_each_open_order_that_its_trekkpliktig_can_read_and_waits_for_them():
    order = msgspec.structs.replace(first_of("A"), missing=(Missing(2, 2),), trekkversjon=3, tried_at=NOW)
    desk = Desk(
        A=msgspec.structs.replace(order, readers=(TWO, ONE)),
        B=msgspec.structs.replace(order, readers=(TWO,)),
        C=msgspec.structs.replace(order, readers=(ONE,)),
        D=first_of("D"),
    )
    desk.ask()
    desk.now += SECOND
    assert desk.decide() == {"A": [2, 4], "C": [2, 4]}
    assert desk.home.questions() == []
    desk.answer(0)
    desk.answer(0, Gone())
    desk.decide()
    desk.commit()
    assert desk.published == ["A/2 late"]
    assert desk.home.questions() == []
    desk.answer(0, Failed("HTTP 503"))
    desk.answer(0, Gone())
    desk.decide()
    desk.commit()
    assert [each.question.request for each in desk.home.questions()] == ["r"]
    assert desk.state.requests["r"].published == 1


def test_question_causes_a_try_of_what_was_shown_just_before_it():
    """Who can read an order whose versions are missing may be known by that alone."""
    desk = Desk(
        A=msgspec.structs.replace(first_of("A"), missing=(Missing(1, 1),), trekkversjon=2, content_hash_version=0)
    )
    desk.show(2, "A")
    desk.ask()
    desk.decide()
    assert desk.home.questions() == []
    desk.commit()
    assert desk.home.questions() == []
    assert desk.decide() == {"A": [1, 3]}


def test_tries_of_a_question_that_were_rolled_back_are_waited_for():
    desk = Desk(A=msgspec.structs.replace(first_of("A"), missing=(Missing(1, 1),), trekkversjon=2, readers=(ONE,)))
    desk.ask()
    desk.decide()
    desk.answer_all(Gone())
    desk.decide()
    desk.home.aborted()
    assert desk.home.questions() == []
    desk.decide()
    desk.commit()
    assert len(desk.home.questions()) == 1


def test_figures_of_a_request_are_those_of_all_that_was_handed_over_for_it():
    desk = Desk(B=first_of("B"))
    desk.show(2, "A", requests=("r", "s"))
    desk.receive(Observation(b"C", ONE, Origin.RECONCILE, rejected_version(1, trekkid="C"), requests=("r",)))
    desk.show(1, "B", requests=("r",))
    desk.show(1, "D")
    desk.decide()
    desk.answer()
    desk.decide()
    assert desk.home.requests() == {"r": RequestState(ONE, 2, 1), "s": RequestState(ONE, 2, 0)}
    desk.home.aborted()
    assert desk.home.requests() == {}
    desk.decide()
    desk.commit()
    desk.show(1, "E", requests=("r",))
    desk.decide()
    desk.commit()
    assert desk.state.requests == {"r": RequestState(ONE, 3, 1), "s": RequestState(ONE, 2, 0)}


# Tries by timer


def tries_of(desk):
    """The orders that are tried now, and all their requests are answered with a passing failure."""
    desk.home.start_tries(desk.now)
    tried = []
    while desk.home.is_ready or desk.requested:
        wanted = desk.decide()
        tried += wanted
        desk.answer_all(Failed("HTTP 503"))
        desk.commit()
    return tried


def pauses_of(desk, times):
    """The pauses after so many tries, in microseconds."""
    pauses = []
    for _ in range(times):
        pause = desk.home.next_try() - desk.now
        desk.now += pause - 1
        assert tries_of(desk) == []
        desk.now += 1
        assert tries_of(desk) == ["A"]
        pauses.append(pause)
    return pauses


def test_what_fails_is_tried_again_after_pauses_that_double():
    desk = Desk()
    desk.now += SECOND
    desk.show(2)
    desk.decide()
    desk.answer(0, Failed("HTTP 503"))
    desk.decide()
    desk.commit()
    pauses = pauses_of(desk, 20)
    assert pauses[:4] == [FAILING_PAUSE_MIN, FAILING_PAUSE_MIN, 2 * FAILING_PAUSE_MIN, 4 * FAILING_PAUSE_MIN]
    assert pauses[-1] == FAILING_PAUSE_MAX


def test_what_is_missing_is_tried_again_after_the_pause_for_it():
    desk = Desk(A=msgspec.structs.replace(first_of("A"), missing=(Missing(1, 1),), trekkversjon=2, tried_at=NOW - 5))
    assert pauses_of(desk, 2) == [DAY - 5, DAY]
    desk.now += DAY
    desk.home.start_tries(desk.now)
    desk.decide()
    desk.answer(1, Gone())
    desk.answer(0)
    desk.decide()
    desk.commit()
    assert desk.published == ["A/1 late"]
    assert tries_of(desk) == []


def test_an_order_that_was_never_tried_is_tried_at_once():
    desk = Desk(A=OrderState(1, seen=3, readers=(ONE,)), B=first_of("B"))
    assert tries_of(desk) == ["A"]
    assert tries_of(desk) == []


def test_an_order_that_is_not_open_any_more_is_not_tried():
    desk = Desk()
    desk.show(2)
    tries_of(desk)
    desk.show(1, trekkpliktig=TWO)
    desk.work()
    assert desk.published == ["A/1", "A/2"]
    desk.now += 9 * DAY
    assert tries_of(desk) == []
    assert desk.home.next_try() is None


def test_pauses_go_on_where_they_were_for_the_next_owner_of_the_lane():
    desk = Desk()
    desk.show(2)
    tries_of(desk)
    pauses_of(desk, 4)
    before = desk.home.next_try()
    desk.restart()
    assert desk.home.next_try() == before


def test_what_was_tried_by_a_clock_that_was_ahead_is_due_now():
    ahead = msgspec.structs.replace(first_of("A"), missing=(Missing(1, 1),), trekkversjon=2, tried_at=NOW + 900 * DAY)
    desk = Desk(A=ahead)
    assert tries_of(desk) == ["A"]
    assert desk.home.next_try() == NOW + DAY
    desk.now += 900 * DAY
    assert tries_of(desk) == ["A"]
    desk.now = NOW
    assert tries_of(desk) == ["A"]
    assert tries_of(desk) == []
    assert desk.order().tried_at == NOW


# An operator's release


class Released:
    trekkpliktig = ONE
    offsets = (5,)

    def __init__(self, decide):
        self.decide = decide

    def results(self, outcome):
        return [f"result: {outcome if isinstance(outcome, RejectedTrekkpaaleggError) else 'done'}"]


def test_a_release_is_decided_on_in_its_turn_and_its_result_is_committed_with_it():
    desk = Desk()
    desk.show(1)

    def decide(order, _versions, _now):
        assert order.trekkversjon == 1
        raise RejectedTrekkpaaleggError("nothing to release", "trekkversjon")

    desk.home.add(Task(b"A", release=Released(decide)))
    desk.show(2)
    desk.decide()
    desk.commit()
    assert desk.published == ["A/1", "result: nothing to release at trekkversjon", "A/2"]


# Whatever happens

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("show"), st.sampled_from("ABC"), st.integers(1, 3), st.sampled_from(Row)),
        st.tuples(st.just("absent"), st.sampled_from("ABC")),
        st.tuples(st.just("ask")),
        st.tuples(st.just("decide"), st.integers(0, 3)),
        st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from([None, None, Failed("HTTP 503"), Gone()])),
        st.tuples(st.sampled_from(["commit", "commit", "look_up", "abort", "restart", "try"])),
    ),
    min_size=10,
    max_size=60,
)


class Histories(Desk):
    """Each order has five versions; `show` shows one, never a lower one than before; one row overtakes the other."""

    def __init__(self):
        self.shown = dict.fromkeys("ABC", 0)
        super().__init__()

    def take(self, kind, *arguments):
        getattr(self, "_" + kind)(*arguments)
        self.check()

    def check(self):
        """No offset has passed what is open: what is behind it is decided on."""
        for row, offset in zip((Row.URGENT, Row.BULK), self.reached, strict=True):
            for observed in self.rows[row][:offset]:
                if isinstance(observed, Observation) and observed.element is not None:
                    order = self.order(observed.key.decode())
                    number = observed.element.trekkversjon
                    assert number <= max(order.trekkversjon, order.seen) or order.is_missing(number)

    def _show(self, trekkid, more, row):
        self.shown[trekkid] = number = min(self.shown[trekkid] + more, 5)
        self.show(number, trekkid, row=row, requests=("r",))

    def _absent(self, trekkid):
        self.receive(Observation(trekkid.encode(), ONE, Origin.RECONCILE, requests=("r",)))

    def _ask(self):
        self.ask()

    def _decide(self, bulk_max):
        self.decide(bulk_max)

    def _answer(self, which, fetched):
        if self.requested:
            which %= len(self.requested)
            is_there = self.requested[which][1] <= 5
            self.answer(which, fetched if is_there else Gone())

    def _look_up(self):
        self.look_up()

    def _commit(self):
        for each in self.home.questions():
            self.home.answered(each)
        self.commit()

    def _abort(self):
        self.home.aborted()

    def _restart(self):
        self.restart()

    def _try(self):
        self.now += 2 * DAY
        self.home.start_tries(self.now)

    def end_well(self):
        for _ in range(3):
            self._try()
            while not self.home.is_idle:
                self.decide()
                while self.requested:
                    self._answer(0, None)
                self.look_up()
                self._commit()
                self.check()


@given(STEPS)
def test_each_version_is_published_once_and_in_order_unless_it_is_late_whatever_is_rolled_back_or_lost(steps):
    desk = Histories()
    for step in steps:
        desk.take(*step)
    desk.end_well()
    assert desk.home.is_idle
    assert desk.reached == (len(desk.rows[Row.URGENT]), len(desk.rows[Row.BULK]))
    assert not list(desk.state.orders.open_orders())
    for trekkid, shown in desk.shown.items():
        published = [each.removeprefix(f"{trekkid}/").split() for each in desk.published if each[0] == trekkid]
        versions = [int(number) for number, *_ in published]
        assert len(versions) >= shown
        assert sorted(versions) == list(range(1, len(versions) + 1))
        in_turn = [int(number) for number, *late in published if not late]
        assert in_turn == sorted(in_turn)
    assert desk.quarantined == []


@pytest.mark.parametrize("row", list(Row))
def test_what_is_observed_again_after_a_restart_is_published_once(row):
    desk = Desk()
    desk.show(2, "A", row=row)
    desk.show(1, "B", row=row)
    desk.decide()
    desk.commit()
    desk.restart()
    desk.work()
    assert sorted(desk.published) == ["A/1", "A/2", "B/1"]
