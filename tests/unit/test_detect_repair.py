"""What the history has lost, and the state of an order that follows it; what is published again comes from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from producer.detect.decide import decide, retry
from producer.detect.repair import History, Lost, after_loss, rebuilt
from producer.domain.content import content_hash
from producer.domain.observation import Observation
from producer.domain.state import LOST, LOST_EVERYWHERE, NO_ORDER, Missing, OrderState
from producer.domain.trekkpaalegg import Gone, Origin, RejectionReason
from tests.kit.event_stream import make_stream

if TYPE_CHECKING:
    from producer.detect.decide import Decision

STREAM = make_stream(3, 40, versions_max=6)
ORDER = next(each.trekkpaalegg.trekkid for each in STREAM if each.trekkpaalegg.trekkversjon == 6)
ITS = {each.trekkpaalegg.trekkversjon: each.trekkpaalegg for each in STREAM if each.trekkpaalegg.trekkid == ORDER}
KEY, NOW = ORDER.encode(), 1_790_000_000_000_000
EMPLOYER = ITS[1].trekkpliktig


def published(newest: int, *missing: Missing, corrections: tuple[tuple[int, int], ...] = ()) -> OrderState:
    return OrderState(newest, content_hash(ITS[newest]), 1, missing, corrections=corrections)


def history_of(*versions: int, corrections: tuple[tuple[int, int], ...] = (), current: int = 6) -> History:
    history = History()
    if current:
        history.add_current(KEY, current, None)
    for number in versions:
        history.add(KEY, number, None)
    for number, correction in corrections:
        history.add(KEY, number, correction)
    return history


@pytest.mark.parametrize(
    ("order", "present", "lost"),
    [
        (published(3), (1, 2, 3), ()),
        (published(3), (2, 1, 3), ()),
        (published(3), (), (Missing(1, 3),)),
        (published(4), (1, 2), (Missing(3, 4),)),
        (published(4), (1, 3, 4), (Missing(2, 2),)),
        (published(6, Missing(2, 3, "HTTP 404")), (1, 5), (Missing(4, 4), Missing(6, 6))),
        (published(3), (1, 2, 3, 4), ()),
        (published(3), (1, 3, 3, 2), ()),
    ],
)
def test_versions_are_lost_that_are_published_and_do_not_stand_in_the_history(order, present, lost) -> None:
    found = history_of(*present).lost(KEY, order, is_kept=True)
    assert (() if found is None else found.versions) == tuple(replace(each, reason=LOST) for each in lost)


def test_versions_above_that_of_gjeldende_are_lost_everywhere() -> None:
    found = history_of(1, current=3).lost(KEY, published(5), is_kept=True)
    assert found == Lost((Missing(2, 3, LOST), Missing(4, 5, LOST_EVERYWHERE)))


@pytest.mark.parametrize(
    ("current", "behind"), [((0, None), 3), ((2, None), 3), ((3, None), 3), ((3, 1), None), ((4, None), None)]
)
def test_gjeldende_is_behind_if_it_lacks_the_newest_event_of_the_history(current, behind) -> None:
    history = history_of(1, 2, 3, corrections=((3, 1),), current=0)
    history.add_current(KEY, *current)
    found = history.lost(KEY, published(3, corrections=((3, 1),)), is_kept=True)
    assert (None if found is None else found.behind) == behind


def test_a_history_that_is_not_kept_for_ever_has_not_lost_what_became_too_old() -> None:
    assert history_of().lost(KEY, published(4), is_kept=False) is None
    assert history_of(3, 4).lost(KEY, published(4), is_kept=False) is None
    assert history_of(2, 4).lost(KEY, published(4), is_kept=False) == Lost((Missing(3, 3, LOST),))


def test_lost_corrections_are_found_of_versions_that_stand_there() -> None:
    order = published(3, corrections=((1, 2), (2, 1), (3, 1)))
    found = history_of(1, 3, corrections=((1, 1), (3, 1))).lost(KEY, order, is_kept=True)
    assert found == Lost((Missing(2, 2, LOST),), ((1, 1),))
    assert after_loss(order, found, NOW).corrections == ((1, 1), (3, 1))


def test_many_versions_are_compared_by_range() -> None:
    many = 10**12
    history = history_of(1, many, current=many)
    order = OrderState(many, missing=(Missing(2, many - 200, "jump"),))
    assert history.lost(KEY, order, is_kept=True) == Lost((Missing(many - 199, many - 1, LOST),))


def lost_of(order: OrderState, *present: int, current: int = 6) -> OrderState:
    found = history_of(*present, current=current).lost(KEY, order, is_kept=True)
    assert found is not None
    return after_loss(order, found, NOW)


def seen(order: OrderState, version: int, fetched: dict) -> Decision:
    return decide(order, Observation(KEY, EMPLOYER, Origin.RECONCILE, ITS[version]), fetched, NOW)


def told(decision: Decision) -> list[tuple[int, str, bool, bool]]:
    return [
        (each.trekkpaalegg.trekkversjon, each.origin.value, each.late, each.current) for each in decision.publications
    ]


def test_a_lost_end_is_published_again_upwards_when_the_list_shows_the_newest() -> None:
    order = lost_of(published(4), 1, 2, current=4)
    assert (order.trekkversjon, order.missing) == (2, (Missing(3, 4, LOST),))
    decision = seen(order, 4, {})
    assert decision.wanted == [3]
    decision = seen(order, 4, {3: ITS[3]})
    assert told(decision) == [(3, "repair", False, False), (4, "repair", False, False)]
    assert decision.order == published(4)


def test_an_order_that_was_lost_is_published_again_before_what_is_new_and_from_where_gjeldende_is_behind() -> None:
    order = lost_of(published(2), current=1)
    assert order.trekkversjon == 0
    assert told(seen(order, 3, {1: ITS[1], 2: ITS[2]})) == [
        (1, "repair", False, False),
        (2, "repair", False, True),
        (3, "reconcile", False, True),
    ]


def test_a_version_that_was_lost_below_the_newest_is_published_again_late() -> None:
    order = lost_of(published(4), 1, 3, 4)
    assert (order.trekkversjon, order.content_hash) == (4, content_hash(ITS[4]))
    decision = seen(order, 4, {})
    assert (decision.publications, decision.order.readers) == ([], (EMPLOYER,))
    decision = retry(decision.order, {2: ITS[2], 5: Gone()}, NOW)
    assert told(decision) == [(2, "repair", True, False)]
    assert decision.order == published(4)


def test_what_cannot_be_had_stays_lost_with_the_reason_and_is_repaired_if_it_can_be_had_later() -> None:
    order = seen(lost_of(published(4), 1, 3, 4), 4, {}).order
    order = retry(order, {2: Gone("HTTP 410"), 5: Gone()}, NOW).order
    assert order.missing == (Missing(2, 2, f"{LOST}: HTTP 410"),)
    assert told(retry(order, {2: ITS[2], 5: Gone()}, NOW)) == [(2, "repair", True, False)]


def test_a_lost_correction_of_the_newest_version_is_held_back_again() -> None:
    content = content_hash(ITS[3])
    order = OrderState(3, content, 1, rejected=(content,), corrections=((3, 1),))
    found = history_of(1, 2, 3).lost(KEY, order, is_kept=True)
    decision = seen(after_loss(order, found, NOW), 3, {})
    assert [each.reason for each in decision.rejected] == [RejectionReason.CHANGED_CONTENT]


def test_an_order_that_waits_goes_on_waiting() -> None:
    order = OrderState(3, content_hash(ITS[3]), 1, seen=5, readers=(EMPLOYER,), tried_at=1)
    order = lost_of(order, 1, 2)
    assert (order.trekkversjon, order.missing, order.seen) == (2, (Missing(3, 3, LOST),), 5)
    assert told(retry(order, {number: ITS[number] for number in (3, 4, 5)} | {6: Gone()}, NOW)) == [
        (3, "repair", False, False),
        (4, "gapfill", False, True),
        (5, "gapfill", False, True),
    ]


def test_an_order_that_was_forgotten_meanwhile_stays_so() -> None:
    assert after_loss(NO_ORDER, Lost((Missing(1, 3, LOST),)), NOW) == NO_ORDER


@pytest.mark.parametrize("current", [0, 2, 4])
def test_a_state_made_again_remembers_what_the_former_one_says_is_published(current: int) -> None:
    former = published(4, Missing(3, 3, "HTTP 404"))
    lost = history_of(1, 2, current=current).lost(KEY, former, is_kept=True)
    assert lost is not None
    made = replace(published(2), missing=former.missing)
    order = rebuilt(made, former, lost, NOW)
    reason = LOST if current == 4 else LOST_EVERYWHERE
    assert order == replace(made, missing=(*former.missing, Missing(4, 4, reason)), tried_at=NOW)
    decision = decide(order, Observation(KEY, EMPLOYER, Origin.POLL, ITS[4]), {}, NOW)
    decision = decide(
        order, Observation(KEY, EMPLOYER, Origin.POLL, ITS[4]), dict.fromkeys(decision.wanted, Gone("404")), NOW
    )
    assert [
        (each.trekkpaalegg.trekkversjon, each.origin, each.late, each.current) for each in decision.publications
    ] == [(4, Origin.REPAIR, False, current != 4)]


def test_a_state_made_again_keeps_the_hash_of_the_newest_version_unless_that_is_lost() -> None:
    former = published(4)
    kept = rebuilt(published(4, Missing(2, 2, "unknown")), former, Lost((Missing(2, 2, LOST),)), NOW)
    assert (kept.trekkversjon, kept.content_hash, kept.missing) == (4, content_hash(ITS[4]), (Missing(2, 2, LOST),))
    lost = rebuilt(published(4), former, Lost((Missing(3, 4, LOST),)), NOW)
    assert (lost.trekkversjon, lost.content_hash_version) == (2, 0)
