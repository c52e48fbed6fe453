"""Decisions on one order at its home: what to publish, given what was published and what was observed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from producer.detect.decide import (
    GAP_FAILING_MICROSECONDS_MAX,
    MISSING_MAX,
    MISSING_PER_RANGE_MAX,
    VERSION_JUMP_MAX,
    Counts,
    Decision,
    UnencodableError,
    decide,
    decide_encodable,
    retry,
)
from producer.domain.content import CONTENT_HASH_VERSION, METHODS, content_hash
from producer.domain.observation import Observation
from producer.domain.state import NO_ORDER, Failing, Missing, OrderState
from producer.domain.trekkpaalegg import (
    Failed,
    Gone,
    Origin,
    RejectionReason,
    Trekkstatus,
)
from producer.errors import RejectedTrekkpaaleggError
from tests.kit.versions import TREKKPLIKTIG, rejected_version, version

OTHER = "322222222"
NOW = 1_790_000_000_000_000
DAY = GAP_FAILING_MICROSECONDS_MAX
FAILED = Failed("HTTP 503")
GONE = Gone("HTTP 404")


def observed(element, trekkpliktig=TREKKPLIKTIG, origin=Origin.POLL):
    return Observation(b"A", trekkpliktig, origin, element)


ABSENT = observed(None)


def of(newest, **changes):
    return OrderState(newest, content_hash(version(newest)), CONTENT_HASH_VERSION, **changes)


def published(trekkversjon, origin="poll", *, late=False, correction=None):
    return (trekkversjon, origin, late, correction)


class Home:
    """One order, what was published and quarantined of it, and `asked`: what each decision asked for at once.

    The answers by number are `answers`; every other version is gone. `history` has the content of what was published,
    and `looked_up` are the versions that decisions wanted of it.
    """

    def __init__(self, order=NO_ORDER):
        self.order = order
        self.published = []
        self.quarantined = []
        self.asked = []
        self.history = {}
        self.looked_up = []
        self.now = NOW

    def observe(self, element, answers=None, **context):
        return self.decide(observed(element, **context), answers)

    def decide(self, observation, answers=None):
        versions, history, self.asked = {}, {}, []
        while True:
            if observation is None:
                found = retry(self.order, versions, self.now)
            else:
                found = decide(self.order, observation, versions, self.now, history)
            if found.is_final:
                return self._apply(found)
            assert not set(found.wanted) & set(versions)
            if found.wanted:
                self.asked.append(found.wanted)
            versions |= {number: (answers or {}).get(number, GONE) for number in found.wanted}
            if found.wanted_history is not None:
                assert found.wanted_history not in history
                history[found.wanted_history] = self.history.get(found.wanted_history, [])
                self.looked_up.append(found.wanted_history)

    def retry(self, answers=None):
        return self.decide(None, answers)

    def _apply(self, found):
        self.order = found.order
        for each in found.publications:
            assert each.current is not each.late
            self.published.append((each.trekkpaalegg.trekkversjon, each.origin.value, each.late, each.correction))
            self.history.setdefault(each.trekkpaalegg.trekkversjon, []).append(content_hash(each.trekkpaalegg))
        self.quarantined += [each.reason for each in found.rejected]
        return found

    @property
    def missing(self):
        return [(each.first, each.last, each.reason) for each in self.order.missing]


def changes(found, before):
    return found.order is not before or bool(found.publications or found.rejected)


# What is newer than what is published


def test_first_version_is_published():
    home = Home()
    home.observe(version())
    assert home.published == [published(1)]
    assert home.order == of(1)


def test_next_version_is_published_and_what_is_remembered_of_the_order_stays():
    home = Home(of(1, rejected=(b"x",), corrections=((1, 2),)))
    home.observe(version(2), origin=Origin.NOTIFICATION)
    assert home.published == [published(2, "notification")]
    assert home.order == of(2, rejected=(b"x",), corrections=((1, 2),))


def test_same_version_again_changes_nothing():
    before = of(1)
    for same in (version(), version(amount="100.00"), version(ukjente_felter={"nytt": "1"}), version(sekvensnummer=99)):
        assert not changes(Home(before).observe(same), before)


def test_versions_between_are_fetched_at_once_and_published_before_the_newer_one():
    home = Home(of(1))
    found = home.observe(version(4), {2: version(2), 3: version(3)})
    assert home.asked == [[2, 3]]
    assert home.published == [published(2, "gapfill"), published(3, "gapfill"), published(4)]
    assert (home.order, found.counts) == (of(4), Counts(gaps_filled=2))


def test_first_sight_at_a_later_version_brings_the_earlier_ones():
    home = Home()
    home.observe(version(3), {1: version(1), 2: version(2)})
    assert home.asked == [[1, 2]]
    assert [each[0] for each in home.published] == [1, 2, 3]


def test_gone_version_is_recorded_as_missing_and_published_late_when_it_turns_up():
    home = Home()
    assert home.observe(version(2), {1: Gone("HTTP 403")}).counts == Counts(gaps_missing=1)
    assert home.published == [published(2)]
    assert home.missing == [(1, 1, "HTTP 403")]
    home.observe(version(1), origin=Origin.RECONCILE)
    assert home.published[1:] == [published(1, "reconcile", late=True)]
    assert home.order == of(2)
    assert not changes(home.observe(version(1)), home.order)


def test_older_version_that_is_not_missing_changes_nothing():
    home = Home(of(5, missing=(Missing(2, 3),)))
    home.history[4] = [content_hash(version(4))]
    assert not changes(home.observe(version(4)), home.order)


def test_missing_version_below_a_newer_one_is_asked_for_again_before_it_would_be_late():
    home = Home(of(1, missing=(Missing(2, 2, "rejected"),)))
    home.observe(version(3), {2: version(2)})
    assert (home.asked, home.published) == ([[2]], [published(2, "gapfill"), published(3)])
    home = Home(of(1, missing=(Missing(2, 2, "rejected"),)))
    found = home.observe(version(3), {2: FAILED})
    assert (home.published, home.missing, found.counts) == ([published(3)], [(2, 2, "rejected")], Counts())


def test_reason_of_a_missing_version_is_the_latest():
    home = Home(of(1, missing=(Missing(2, 4, "failing"),)))
    home.observe(version(5), {2: GONE, 3: FAILED, 4: rejected_version(4)})
    assert home.missing == [(2, 2, "HTTP 404"), (3, 3, "failing"), (4, 4, "rejected")]


def test_version_that_a_list_showed_before_newer_ones_takes_the_place_of_an_answer():
    """Observations overtake each other: an order that waits may be shown with a version between."""
    home = Home()
    home.observe(version(4), {1: version(1), 2: version(2), 3: FAILED})
    home.observe(version(3), {4: version(4)})
    assert home.asked == [[4]]
    assert home.published[2:] == [published(3), published(4, "gapfill")]


# What cannot be fetched now


def test_passing_failure_makes_the_order_wait_and_publishes_what_is_before():
    home = Home()
    home.observe(version(4), {1: version(1), 2: FAILED, 3: version(3)})
    assert home.published == [published(1, "gapfill")]
    assert home.order == of(1, seen=4, failing=(Failing(2, 2, NOW),), readers=(TREKKPLIKTIG,), tried_at=NOW)
    home.now += 5
    home.retry({2: version(2), 3: version(3), 4: version(4)})
    assert home.asked == [[2, 3, 4, 5]]
    assert home.published[1:] == [published(number, "gapfill") for number in (2, 3, 4)]
    assert home.order == of(4)


def test_order_that_waits_is_asked_for_again_whenever_it_is_observed():
    home = Home()
    home.observe(version(2), {1: FAILED})
    home.observe(version(2), {1: version(1)}, origin=Origin.NOTIFICATION)
    assert home.published == [published(1, "gapfill"), published(2, "notification")]


def test_version_that_fails_for_a_day_is_recorded_as_missing_and_the_order_goes_on():
    home = Home()
    home.observe(version(2), {1: FAILED})
    home.now += DAY
    home.retry({1: FAILED, 2: version(2)})
    assert home.published == []
    home.now += 1
    found = home.retry({1: FAILED, 2: version(2)})
    assert home.published == [published(2, "gapfill")]
    assert (home.missing, found.counts) == ([(1, 1, "failing")], Counts(gaps_filled=1, gaps_given_up=1))
    assert (home.order.failing, home.order.seen) == ((), 0)
    home.retry({1: FAILED})
    assert (home.missing, home.order.failing) == ([(1, 1, "failing")], ())


def test_a_clock_that_was_ahead_when_a_version_first_failed_makes_the_order_wait_a_day_and_no_longer():
    home = Home()
    home.now += 10 * DAY
    home.observe(version(2), {1: FAILED})
    home.now = NOW
    home.retry({1: FAILED, 2: version(2)})
    home.now += DAY + 1
    home.retry({1: FAILED, 2: version(2)})
    assert home.published == [published(2, "gapfill")]


def test_each_failing_version_has_a_day_of_its_own():
    home = Home()
    home.observe(version(4), {1: FAILED, 2: FAILED, 3: version(3)})
    home.now += DAY // 2
    home.retry({1: FAILED, 2: version(2), 3: FAILED, 4: version(4)})
    assert home.order.failing == (Failing(1, 1, NOW), Failing(3, 3, NOW + DAY // 2))
    home.now = NOW + DAY + 1
    home.retry({1: FAILED, 2: version(2), 3: FAILED, 4: version(4)})
    assert (home.published, home.missing) == ([published(2, "gapfill")], [(1, 1, "failing")])
    assert home.order.failing == (Failing(3, 3, NOW + DAY // 2),)
    home.now = NOW + DAY // 2 + DAY + 1
    home.retry({1: FAILED, 3: FAILED, 4: version(4)})
    assert (home.published[1:], home.missing) == (
        [published(4, "gapfill")],
        [(1, 1, "failing"), (3, 3, "failing")],
    )


def test_versions_that_fail_side_by_side_are_given_up_together():
    home = Home()
    failing = dict.fromkeys(range(1, 301), FAILED)
    home.observe(version(301), failing)
    home.now += DAY + 1
    home.retry({**failing, 301: version(301)})
    assert (home.published, home.missing) == ([published(301, "gapfill")], [(1, 300, "failing")])


def test_answer_between_two_failures_starts_the_day_again():
    home = Home()
    home.observe(version(3), {1: FAILED, 2: FAILED})
    home.now += 5
    home.retry({1: FAILED, 2: GONE, 3: version(3)})
    assert home.order.failing == (Failing(1, 1, NOW),)
    home.now += 5
    home.retry({1: version(1), 2: version(2), 3: FAILED})
    assert home.order.failing == (Failing(3, 3, NOW + 10),)


def test_version_that_was_not_fetched_is_wanted_rather_than_left_out():
    found = decide(of(1), observed(version(4)), {2: version(2)}, NOW)
    assert (found.wanted, found.publications, found.order) == ([3], [], of(1))


# Jumps


@pytest.mark.parametrize(("ahead", "asked"), [(1, 0), (2, 1), (VERSION_JUMP_MAX, 999), (VERSION_JUMP_MAX + 1, 0)])
def test_jump_up_to_a_thousand_is_believed(ahead, asked):
    believed = ahead <= VERSION_JUMP_MAX
    home = Home(of(1))
    found = home.observe(version(1 + ahead))
    assert sum(map(len, home.asked)) == asked
    assert home.order.trekkversjon == (1 + ahead if believed else 1)
    assert found.counts.version_jumps == (not believed)
    home = Home(of(1))
    home.observe(rejected_version(1 + ahead))
    assert sum(map(len, home.asked)) == asked
    assert len(home.quarantined) == 1
    assert home.order.is_missing(1 + ahead) == believed


def test_jump_by_a_billion_is_quarantined_once_and_is_no_known_version():
    home = Home(of(1))
    for expected in (Counts(version_jumps=1), Counts()):
        assert home.observe(version(1_000_000_001)).counts == expected
    assert (home.quarantined, home.asked) == ([RejectionReason.VERSION_JUMP], [])
    assert (home.order.trekkversjon, home.order.is_open) == (1, False)
    home.observe(version(2))
    assert home.published == [published(2)]


def test_order_whose_seen_version_is_far_away_goes_on_and_asks_for_a_thousand_at_most():
    """After a release of a jump whose event was lost: the state went back, and the jump itself is not believed."""
    order = of(1, seen=10**9, readers=(TREKKPLIKTIG,))
    home = Home(order)
    home.retry()
    assert home.asked == [list(range(2, VERSION_JUMP_MAX + 2))]
    assert (home.missing, home.order.seen) == ([(2, VERSION_JUMP_MAX + 1, "HTTP 404")], 10**9)
    home.observe(version(2))
    assert home.published == [published(2)]


# Content of what is published


def test_changed_content_is_quarantined_once_and_not_published():
    home = Home(of(1))
    for expected in (Counts(changed_content=1), Counts()):
        assert home.observe(version(amount=200)).counts == expected
    assert (home.quarantined, home.published) == ([RejectionReason.CHANGED_CONTENT], [])
    assert not changes(home.observe(version()), home.order)


def older_home():
    """An order of which five versions were published, the second as a correction too."""
    home = Home()
    for number in (1, 2):
        home.observe(version(number))
    home.observe(version(2, trekkstatus=Trekkstatus.AVSLUTTET))
    for number in (3, 4, 5):
        home.observe(version(number))
    return home


@pytest.mark.parametrize(
    "same", [version(2), version(2, trekkstatus=Trekkstatus.AVSLUTTET), version(4, sekvensnummer=9)]
)
def test_older_version_with_the_content_that_was_published_changes_nothing(same):
    """A list that was read long ago may come after newer ones, and from before a correction."""
    home = older_home()
    before = home.order
    found = home.observe(same)
    assert not changes(found, before)
    assert found.counts == Counts()
    assert home.looked_up == [same.trekkversjon]


def test_older_version_with_other_content_is_quarantined_and_counted_once():
    home = older_home()
    newest = home.order
    for expected in (Counts(changed_content=1), Counts()):
        assert home.observe(version(4, amount=200), trekkpliktig=OTHER).counts == expected
    assert home.quarantined == [RejectionReason.CHANGED_CONTENT]
    assert home.looked_up == [4], "only once is it looked up in the history"
    assert home.order == replace(newest, rejected=(content_hash(version(4, amount=200)),))
    assert len(home.published) == 6


def test_older_version_that_is_too_large_for_a_record_is_fetched_to_be_compared():
    home = older_home()
    home.decide(too_large(4), {4: version(4, amount=200)})
    assert (home.quarantined, home.looked_up) == ([RejectionReason.CHANGED_CONTENT], [4])


def test_older_version_that_the_history_lacks_changes_nothing():
    home = older_home()
    home.history.clear()
    assert not changes(home.observe(version(4, amount=200)), home.order)


def test_nothing_is_looked_up_of_the_newest_version_nor_of_one_that_is_missing():
    home = older_home()
    home.order = replace(home.order, missing=(Missing(4, 4, "HTTP 404"),))
    for element in (version(5, amount=200), version(4, amount=200), rejected_version(3), version(6)):
        home.observe(element)
    assert home.looked_up == []


def test_switch_to_avsluttet_alone_is_published_as_a_correction_at_once():
    home = Home(of(1))
    found = home.observe(version(trekkstatus=Trekkstatus.AVSLUTTET))
    assert home.published == [published(1, correction=1)]
    assert found.publications[0].current
    assert not changes(home.observe(version(trekkstatus=Trekkstatus.AVSLUTTET)), home.order)


@pytest.mark.parametrize(
    "change",
    [
        {"trekkstatus": Trekkstatus.AVSLUTTET, "amount": 200},
        {"trekkstatus": Trekkstatus.UKJENT, "ukjente_felter": {"trekkstatus": '"pauset"'}},
    ],
)
def test_any_other_switch_is_a_changed_content(change):
    home = Home(of(1))
    home.observe(version(**change))
    assert (home.published, home.quarantined) == ([], [RejectionReason.CHANGED_CONTENT])


def test_switch_back_from_avsluttet_is_a_changed_content():
    home = Home()
    home.observe(version(trekkstatus=Trekkstatus.AVSLUTTET))
    home.observe(version())
    assert (home.published, home.quarantined) == ([published(1)], [RejectionReason.CHANGED_CONTENT])


def test_number_of_corrections_outlives_newer_versions():
    home = Home(of(1))
    home.observe(version(trekkstatus=Trekkstatus.AVSLUTTET))
    home.observe(version(2))
    assert home.order.corrections == ((1, 1),)


@pytest.fixture
def other_method(monkeypatch):
    """The number of a second method, by which only the amount is content."""

    def hash_amount(trekkpaalegg, status):
        amount = trekkpaalegg.trekkstoerrelse_for_periode[0].trekkbeloep
        return f"{amount}{status.value}".encode()[:8].ljust(8)

    monkeypatch.setitem(METHODS, 2, hash_amount)
    return 2


def test_content_is_compared_by_the_method_of_the_remembered_hash(other_method):
    before = OrderState(1, content_hash(version(), method=other_method), other_method)
    home = Home(before)
    home.observe(version(saksnummer="changed"))
    assert (home.published, home.quarantined) == ([], [])
    assert home.order == OrderState(1, content_hash(version(saksnummer="changed")), CONTENT_HASH_VERSION)
    home = Home(before)
    home.observe(version(amount=200))
    assert (home.quarantined, home.order.content_hash_version) == ([RejectionReason.CHANGED_CONTENT], other_method)
    home = Home(before)
    home.observe(version(trekkstatus=Trekkstatus.AVSLUTTET))
    assert (home.published, home.order.content_hash_version) == ([published(1, correction=1)], CONTENT_HASH_VERSION)


def test_content_in_quarantine_is_recognised_whatever_the_method_of_new_hashes(monkeypatch):
    home = Home(of(1))
    home.observe(version(amount=200))
    monkeypatch.setitem(METHODS, 2, lambda trekkpaalegg, _: b"second" + METHODS[1](trekkpaalegg, _)[:2])
    monkeypatch.setitem(content_hash.__kwdefaults__, "method", 2)
    for each in (version(amount=200), version(amount=300), version(amount=300)):
        home.observe(each)
    assert home.quarantined == [RejectionReason.CHANGED_CONTENT] * 2


def test_hash_by_a_newer_programs_method_is_no_changed_content_and_is_kept():
    before = OrderState(1, b"newhash.", CONTENT_HASH_VERSION + 7)
    assert not changes(Home(before).observe(version()), before)


def test_hash_that_is_not_known_is_replaced_silently():
    home = Home(OrderState(1))
    home.observe(version())
    assert (home.published, home.quarantined, home.order) == ([], [], of(1))


# Elements that cannot be understood


def test_rejected_element_is_quarantined_once_and_its_version_is_missing():
    home = Home()
    home.observe(rejected_version(1))
    assert (home.quarantined, home.missing) == ([RejectionReason.INVALID_FIELD], [(1, 1, "rejected")])
    assert (home.order.readers, home.order.tried_at) == ((TREKKPLIKTIG,), NOW)
    home.now += 5
    assert not changes(home.observe(rejected_version(1)), home.order)


def test_rejected_element_without_identity_is_quarantined_once():
    for unknown in (rejected_version(None, trekkid=None), rejected_version(7, trekkid=None), rejected_version(None)):
        home = Home()
        home.observe(unknown)
        home.observe(unknown)
        assert (len(home.quarantined), home.asked, home.order.is_open) == (1, [], False)


def test_rejected_version_is_published_in_its_turn_when_the_source_corrects_it():
    home = Home(of(1))
    home.observe(rejected_version(2))
    home.observe(version(2))
    assert (home.published, home.order.missing) == ([published(2)], ())


def test_rejected_version_is_published_late_when_a_newer_one_came_first():
    home = Home(of(1))
    home.observe(rejected_version(2))
    home.observe(version(3), {2: rejected_version(2)})
    home.observe(version(2))
    assert home.published == [published(3), published(2, late=True)]
    assert len(home.quarantined) == 1


def test_versions_hidden_below_a_rejected_one_are_filled():
    home = Home(of(1, missing=(Missing(3, 3),)))
    home.observe(rejected_version(4), {2: version(2)})
    assert (home.asked, home.published) == ([[2]], [published(2, "gapfill")])
    assert home.missing == [(3, 3, ""), (4, 4, "rejected")]


@pytest.mark.parametrize("number", [1, 2])
def test_rejected_copy_of_a_published_version_is_no_gap(number):
    home = Home(of(2))
    home.observe(rejected_version(number))
    assert (len(home.quarantined), home.order.missing, home.order.trekkversjon) == (1, (), 2)


def test_rejected_version_is_quarantined_at_once_though_the_order_waits_before_it():
    home = Home()
    rejected = {number: rejected_version(number, b"bad %d" % number) for number in (1, 3, 4)}
    home.observe(rejected[4], {**rejected, 2: FAILED})
    assert (len(home.quarantined), home.missing) == (3, [(1, 1, "rejected"), (3, 4, "rejected")])
    home.retry({**rejected, 2: version(2)})
    assert (home.published, len(home.quarantined)) == ([published(2, "gapfill")], 3)


def test_missing_version_that_is_rejected_in_another_way_is_quarantined_again():
    home = Home(of(1))
    home.observe(rejected_version(2, b"bad"))
    home.retry({2: rejected_version(2, b"bad otherwise")})
    home.retry({2: rejected_version(2, b"bad otherwise")})
    assert (len(home.quarantined), home.missing) == (2, [(2, 2, "rejected")])


def test_memory_of_what_was_rejected_outlives_newer_versions():
    home = Home(of(1))
    home.observe(rejected_version(1))
    home.observe(version(2))
    home.observe(rejected_version(1))
    assert len(home.quarantined) == 1


# An element that is too large for a record: only its version is handed over


def too_large(number, origin=Origin.BACKFILL):
    return Observation(b"A", TREKKPLIKTIG, origin, version=number)


def test_element_that_is_too_large_is_fetched_with_those_before_it():
    home = Home(of(1))
    home.decide(too_large(3), {2: version(2), 3: version(3)})
    assert (home.asked, home.published) == ([[2, 3]], [published(2, "gapfill"), published(3, "backfill")])


def test_element_that_is_too_large_and_cannot_be_fetched_now_is_waited_for():
    home = Home(of(1))
    home.decide(too_large(2), {2: FAILED})
    assert (home.order.seen, home.order.failing) == (2, (Failing(2, 2, NOW),))
    home.decide(too_large(2))
    assert home.missing == [(2, 2, "HTTP 404")]


def test_content_of_an_element_that_is_too_large_is_compared():
    home = Home(of(2, missing=(Missing(1, 1),)))
    home.decide(too_large(2), {2: version(2, 200)})
    assert home.quarantined == [RejectionReason.CHANGED_CONTENT]
    home.decide(too_large(1), {1: version(1)})
    assert home.published == [published(1, "backfill", late=True)]
    for answer in (GONE, FAILED):
        assert not changes(home.decide(too_large(2), {2: answer}), home.order)


@pytest.mark.parametrize(("answer", "quarantined"), [(version(5000), 1), (rejected_version(5000), 1), (GONE, 0)])
def test_jump_of_an_element_that_is_too_large_is_fetched_alone(answer, quarantined):
    home = Home(of(1))
    home.decide(too_large(5000), {5000: answer})
    assert (home.asked, len(home.quarantined), home.order.is_open) == ([[5000]], quarantined, False)


# By number: orders that a list lacks, and what is open


@pytest.mark.parametrize("observation", [ABSENT, None])
def test_order_is_followed_number_by_number_until_there_is_none(observation):
    home = Home(of(1))
    home.decide(observation, {2: version(2), 3: version(3)})
    assert home.asked == [[2], [3], [4]]
    assert home.published == [published(2, "gapfill"), published(3, "gapfill")]
    assert home.order == of(3)


def test_order_that_was_shown_but_never_handed_over_is_followed_from_its_first_version():
    home = Home()
    home.decide(ABSENT, {1: version(1)})
    assert home.published == [published(1, "gapfill")]


@pytest.mark.parametrize("answer", [GONE, FAILED])
def test_number_beyond_the_newest_that_is_not_given_leaves_no_trace(answer):
    for before in (NO_ORDER, of(3)):
        assert not changes(Home(before).decide(ABSENT, {before.trekkversjon + 1: answer}), before)


def test_everything_that_is_open_is_asked_for_at_once_together_with_the_next_number():
    order = of(5, missing=(Missing(1, 2), Missing(7, 7)), seen=8, failing=(Failing(6, 6, NOW),))
    home = Home(order)
    home.retry({1: version(1), 6: version(6), 7: version(7), 8: FAILED})
    assert home.asked == [[1, 2, 6, 7, 8, 9]]
    assert home.published == [published(1, "reconcile", late=True), published(6, "gapfill"), published(7, "gapfill")]
    assert (home.missing, home.order.seen) == ([(2, 2, "HTTP 404")], 8)


def test_rejected_version_beyond_the_newest_is_quarantined_and_passed():
    home = Home(of(1))
    home.decide(ABSENT, {2: rejected_version(2), 3: version(3)})
    assert (home.published, home.quarantined) == ([published(3, "gapfill")], [RejectionReason.INVALID_FIELD])
    assert home.missing == [(2, 2, "rejected")]


@pytest.mark.parametrize("answer", [version, rejected_version])
def test_source_that_has_every_number_is_followed_for_a_thousand_versions(answer):
    home = Home(of(1))
    home.decide(ABSENT, {number: answer(number) for number in range(2, 3000)})
    assert sum(map(len, home.asked)) == VERSION_JUMP_MAX
    assert len(home.published) + len(home.quarantined) in {VERSION_JUMP_MAX, 1}


def test_long_ranges_of_missing_versions_cost_nothing_and_only_the_newest_are_asked_for():
    home = Home(of(10**9 + 1, missing=(Missing(2, 10**7, "jump"), Missing(10**8, 10**9, "jump"))))
    home.decide(ABSENT, {10**7: version(10**7), 10**9 - 50: version(10**9 - 50)})
    newest = [*range(10**7 - MISSING_PER_RANGE_MAX + 1, 10**7 + 1)]
    assert home.asked == [[*newest, *range(10**9 - MISSING_PER_RANGE_MAX + 1, 10**9 + 1), 10**9 + 2]]
    assert [each[0] for each in home.published] == [10**7, 10**9 - 50]
    assert home.missing == [
        (2, 10**7 - 100, "jump"),
        (10**7 - 99, 10**7 - 1, "HTTP 404"),
        (10**8, 10**9 - 100, "jump"),
        (10**9 - 99, 10**9 - 51, "HTTP 404"),
        (10**9 - 49, 10**9, "HTTP 404"),
    ]


def test_many_ranges_of_missing_versions_are_asked_for_in_turn():
    missing = tuple(Missing(10 * each + 1, 10 * each + 5) for each in range(500))
    home = Home(of(5000, missing=missing))
    asked = set()
    for _ in range(30):
        home.now += 1
        home.retry(dict.fromkeys(range(5001), FAILED))
        assert sum(map(len, home.asked)) == MISSING_MAX + 1
        asked |= set(home.asked[0])
    assert len(asked) == 2501


# Who is asked, and since when


def test_readers_are_kept_in_order_while_anything_is_open():
    home = Home()
    home.observe(version(2), {1: GONE})
    assert home.order.readers == (TREKKPLIKTIG,)
    home.observe(version(2), trekkpliktig=OTHER)
    home.observe(version(2))
    assert home.order.readers == (TREKKPLIKTIG, OTHER)
    home.observe(version(1))
    assert home.order.readers == ()


def test_reader_whose_list_lacks_the_order_now_is_kept_too():
    home = Home(of(3, missing=(Missing(2, 2),), readers=(OTHER,)))
    home.decide(ABSENT)
    assert home.order.readers == (OTHER, TREKKPLIKTIG)


def test_time_of_the_last_try_is_kept_while_anything_is_open():
    home = Home()
    home.observe(version(2), {1: GONE})
    assert home.order.tried_at == NOW
    home.now += 5
    assert not changes(home.observe(version(2)), home.order)
    home.retry()
    assert home.order.tried_at == NOW + 5
    home.retry({1: version(1)})
    assert home.order == of(2)


def test_order_whose_event_was_lost_is_fetched_by_number():
    home = Home(of(1, seen=3, readers=(TREKKPLIKTIG,)))
    home.retry({2: version(2), 3: version(3)})
    assert (home.published, home.order) == ([published(2, "gapfill"), published(3, "gapfill")], of(3))


# Versions that the event schema or the topic cannot hold


def encoded(*failing):
    """An encoder that cannot encode these versions."""

    def encode(decision):
        for publication in decision.publications:
            if publication.trekkpaalegg.trekkversjon in failing:
                raise UnencodableError(publication.trekkpaalegg, RejectedTrekkpaaleggError("too_large", "$"))
        return [each.trekkpaalegg.trekkversjon for each in decision.publications]

    return encode


def decided_encodable(order, observation, versions, *failing, by=TREKKPLIKTIG):
    return decide_encodable(lambda versions: decide(order, observation, versions, NOW), versions, by, encoded(*failing))


def test_version_that_cannot_be_encoded_is_quarantined_and_missing():
    found, records = decided_encodable(of(1), observed(version(2), OTHER), {}, 2, by=OTHER)
    assert (records, found.publications) == ([], [])
    assert [(each.reason, each.field_path, each.trekkpliktig, each.trekkversjon) for each in found.rejected] == [
        (RejectionReason.TOO_LARGE, "$", OTHER, 2)
    ]
    assert found.order.missing == (Missing(2, 2, "rejected"),)


def test_versions_by_number_that_cannot_be_encoded_are_rejected_one_after_another():
    versions = {number: version(number) for number in (2, 3, 4)}
    found, records = decided_encodable(of(1), observed(version(5)), versions, 2, 4, by="")
    assert records == [3, 5]
    assert [each.trekkversjon for each in found.rejected] == [2, 4]
    assert found.rejected[0].trekkpliktig == version().trekkpliktig


def test_correction_that_cannot_be_encoded_is_quarantined():
    found, records = decided_encodable(of(1), observed(version(1, trekkstatus=Trekkstatus.AVSLUTTET)), {}, 1)
    assert (records, len(found.rejected), found.order.trekkversjon, found.order.is_open) == ([], 1, 1, False)


def test_decision_that_wants_versions_encodes_nothing():
    assert decided_encodable(of(1), observed(version(3)), {}, 3) == (Decision(of(1), wanted=[2]), [])


# However the source is read, each version is published once, in order, and late only if it was missing

numbers = st.integers(1, 6)
answers = st.dictionaries(
    numbers,
    st.sampled_from(["version", "rejected", "gone", "failed", "changed"]),
)
elements = st.one_of(
    st.builds(version, numbers),
    st.builds(version, numbers, st.just(200)),
    st.builds(rejected_version, numbers | st.none(), st.sampled_from([b"x", b"y"])),
    st.none(),
)
observations = st.one_of(
    st.none(),
    st.builds(observed, elements, st.sampled_from([TREKKPLIKTIG, OTHER])),
    st.builds(too_large, numbers),
)
steps = st.lists(st.tuples(observations, answers, st.sampled_from([1, DAY // 2, DAY + 1])), max_size=12)


def answered(plan):
    """The answers of this plan; versions that it does not name are gone."""
    made = {
        "version": version,
        "rejected": rejected_version,
        "gone": lambda _: GONE,
        "failed": lambda _: FAILED,
        "changed": lambda number: version(number, 300),
    }
    return {number: made[kind](number) for number, kind in plan.items()}


@given(steps)
def test_each_version_comes_once_and_in_order_whatever_is_observed_and_answered(history):
    home = Home()
    for observation, plan, later in history:
        home.now += later
        before = home.order
        home.decide(observation, answered(plan))
        once = [number for asked in home.asked for number in asked]
        assert len(once) == len(set(once))
        assert all(n > before.trekkversjon or before.is_missing(n) or (observation and n == observation.version)
                   for n in once)  # fmt: skip
        check_state(home)
    everything = {number: version(number) for number in range(1, 7)}
    for _ in range(2):  # once for what is missing, once for what was behind it
        home.retry(everything)
    versions = [each for each in home.published if each[3] is None]
    assert sorted(each[0] for each in versions) == [1, 2, 3, 4, 5, 6]
    assert not home.order.is_open


def check_state(home):
    """What is published, missing and waited for adds up, and everything in it is in its one form."""
    order = home.order
    versions = [each for each in home.published if each[3] is None]
    assert len({each[0] for each in versions}) == len(versions)
    in_order = [each[0] for each in versions if not each[2]]
    assert in_order == sorted(in_order)
    assert order.trekkversjon == max(in_order, default=0)
    missing = {number for each in order.missing for number in range(each.first, each.last + 1)}
    assert not missing & {each[0] for each in versions}
    assert missing | {each[0] for each in versions} >= set(range(1, order.trekkversjon + 1))
    assert order.seen == 0 or order.seen > order.trekkversjon
    waiting = set(range(order.trekkversjon + 1, order.seen + 1)) - missing
    assert bool(waiting) == bool(order.seen)
    failing = {number for each in order.failing for number in range(each.first, each.last + 1)}
    assert failing <= waiting
    assert (order.tried_at is not None) == order.is_open
    assert bool(order.readers) <= order.is_open


@given(steps, st.sets(numbers))
def test_nothing_more_is_wanted_after_a_version_was_found_not_encodable(history, unencodable):
    order = NO_ORDER
    for observation, plan, _ in history:

        def decide_call(versions, order=order, observation=observation):
            if observation is None:
                return retry(order, versions, NOW)
            return decide(order, observation, versions, NOW, dict.fromkeys(range(1, 7), ()))

        versions = {}
        while wanted := decide_call(versions).wanted:
            versions |= {number: answered(plan).get(number, GONE) for number in wanted}
        found, records = decide_encodable(decide_call, versions, "", encoded(*unencodable))
        assert found.is_final
        assert not unencodable & set(records)
        order = found.order


def test_counts_are_added():
    assert Counts(1, 2, 3, 4, 5) + Counts(version_jumps=1) == Counts(1, 2, 3, 4, 6)
