"""Which event is sent next, what an answer means, and that one order's events never overtake each other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.webhook.delivery import (
    RETRY_AFTER_SECONDS_MAX,
    DeliveryResult,
    ResultKind,
    result_of,
)
from consumers.webhook.schedule import (
    HOLD_SECONDS_MAX,
    Complete,
    DeliverySchedule,
    Park,
    PendingEvent,
    RetryLater,
    RetryPolicy,
    Stop,
    decide,
)

# Which event is sent next: those of an order never overtake each other, and no other order waits for it
POLICY = RetryPolicy(attempts_max=3, first_pause_seconds=1.0, longest_pause_seconds=8.0)


def test_one_of_an_order_at_a_time_and_others_meanwhile() -> None:
    schedule = DeliverySchedule(4)
    for sequence, order in enumerate("aabac"):
        schedule.add(PendingEvent(sequence, order))
    assert [each.sequence for each in schedule.start_due(0)] == [0, 2, 4]
    assert schedule.start_due(0) == []
    schedule.complete(PendingEvent(0, "a"))
    assert [each.sequence for each in schedule.start_due(0)] == [1]
    assert schedule.waiting_count == 4


def test_no_more_events_are_in_flight_than_allowed() -> None:
    schedule = DeliverySchedule(2)
    for sequence in range(5):
        schedule.add(PendingEvent(sequence, f"order {sequence}"))
    assert len(schedule.start_due(0)) == 2
    assert schedule.start_due(0) == []
    assert schedule.due_in_seconds(0) is None


def test_an_order_waits_for_its_failed_event_and_others_do_not() -> None:
    schedule = DeliverySchedule(4)
    for sequence, order in enumerate("aab"):
        schedule.add(PendingEvent(sequence, order))
    first, second = schedule.start_due(0)
    schedule.retry(first, PendingEvent(0, "a", tries=1, failures=1, due_seconds=10.0))
    schedule.complete(second)
    assert schedule.start_due(9) == []
    assert schedule.due_in_seconds(9) == 1.0
    assert [each.sequence for each in schedule.start_due(10)] == [0]


def test_a_parked_event_blocks_its_order_until_it_is_released() -> None:
    schedule = DeliverySchedule(4)
    for sequence, order in enumerate("aab"):
        schedule.add(PendingEvent(sequence, order))
    first, second = schedule.start_due(0)
    schedule.park(first)
    schedule.complete(second)
    schedule.add(PendingEvent(3, "a"))
    assert (schedule.waiting_count, schedule.start_due(0), schedule.blocked) == (0, [], {"a"})
    schedule.unblock("a", [PendingEvent(0, "a"), PendingEvent(1, "a"), PendingEvent(3, "a")])
    assert [each.sequence for each in schedule.start_due(0)] == [0]
    assert schedule.waiting_count == 3


def test_while_the_receiver_is_away_all_wait_and_then_one_event_probes_it() -> None:
    schedule = DeliverySchedule(4)
    for sequence in range(5):
        schedule.add(PendingEvent(sequence, f"order {sequence}"))
    for each in schedule.start_due(0):
        schedule.hold(each, each, 5.0, 0.0)
    assert schedule.outages == 1, "what was on its way together is one trouble"
    assert schedule.start_due(4.9) == []
    (one,) = schedule.start_due(5.0)
    assert schedule.start_due(5.0) == []
    schedule.complete(one)
    assert (schedule.outages, len(schedule.start_due(5.0))) == (0, 4)


MEANINGS = st.sampled_from([*ResultKind, ResultKind.DELIVERED, ResultKind.FAILED])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from("abcd")),
        st.tuples(st.just("send"), st.just("")),
        st.tuples(st.just("come back"), st.tuples(st.integers(0, 3), MEANINGS, st.floats(0, 1))),
        st.tuples(st.just("time"), st.floats(0, 20)),
        st.tuples(st.just("release"), st.sampled_from("abcd")),
        st.tuples(st.just("drop"), st.sampled_from("abcd")),
        st.tuples(st.just("restart"), st.just("")),
    ),
    max_size=120,
)


class World:
    """The schedule, the store that it is loaded from, and the receiver, in step."""

    def __init__(self, concurrency_max: int) -> None:
        self.concurrency_max = concurrency_max
        self.now = 0.0
        self.counts: dict[int, PendingEvent] = {}
        self.parked: set[int] = set()
        self.delivered: dict[str, list[int]] = {}
        self.dropped: set[int] = set()
        self.arrived: list[PendingEvent] = []
        self.on_the_way: list[PendingEvent] = []
        self.schedule = DeliverySchedule(concurrency_max)

    def take_step(self, step: str, argument: object) -> None:
        match step:
            case "arrive":
                self.arrive(argument)
            case "send":
                self.send()
            case "come back":
                self.results(*argument)
            case "time":
                self.now += argument
            case "release" | "drop":
                self.decide_parked(argument, drop=step == "drop")
            case "restart":
                self.restart()

    def of_order(self, order: str) -> list[PendingEvent]:
        return [self.counts[sequence] for sequence in sorted(self.counts) if self.counts[sequence].order == order]

    def arrive(self, order: str) -> None:
        pending = PendingEvent(len(self.arrived), order)
        self.arrived.append(pending)
        self.counts[pending.sequence] = pending
        self.schedule.add(pending)

    def send(self) -> None:
        for each in self.schedule.start_due(self.now):
            assert each == self.of_order(each.order)[0], "the oldest of its order that is not delivered"
            assert each.sequence not in self.parked
            assert each.order not in {other.order for other in self.on_the_way}
            assert each.due_seconds <= self.now
            self.on_the_way.append(each)
        assert len(self.on_the_way) <= self.concurrency_max

    def results(self, which: int, kind: ResultKind, chance: float) -> None:
        if not self.on_the_way:
            return
        pending = self.on_the_way.pop(which % len(self.on_the_way))
        decision = decide(
            pending,
            DeliveryResult(kind),
            outages=self.schedule.outages,
            now_seconds=self.now,
            retry=POLICY,
            chance=lambda: chance,
        )
        match decision:
            case Complete():
                del self.counts[pending.sequence]
                self.delivered.setdefault(pending.order, []).append(pending.sequence)
                self.schedule.complete(pending)
            case RetryLater(_, later, _, None):
                self.counts[pending.sequence] = later
                self.schedule.retry(pending, later)
            case RetryLater(_, later, _, until):
                self.counts[pending.sequence] = later
                self.schedule.hold(pending, later, until, self.now)
            case Park():
                self.parked.add(pending.sequence)
                self.schedule.park(pending)
            case Stop():
                self.schedule.retry(pending, pending)

    def decide_parked(self, order: str, *, drop: bool) -> None:
        for sequence in [each for each in self.parked if self.counts[each].order == order]:
            self.parked.discard(sequence)
            if drop:
                del self.counts[sequence]
                self.dropped.add(sequence)
            self.schedule.unblock(order, self.of_order(order))

    def restart(self) -> None:
        """A crash: what was on its way may or may not have arrived; it is still kept."""
        self.on_the_way.clear()
        blocked = {self.counts[sequence].order for sequence in self.parked}
        self.schedule = DeliverySchedule(self.concurrency_max, blocked)
        for sequence in sorted(self.counts):
            self.schedule.add(self.counts[sequence])


@given(STEPS, st.integers(1, 4))
def test_whatever_happens_each_order_arrives_in_order_and_nothing_is_lost(steps: list, concurrency_max: int) -> None:
    world = World(concurrency_max)
    for step, argument in steps:
        world.take_step(step, argument)
    # In the end the receiver is well, and someone releases all that is parked.
    for order in "abcd":
        world.decide_parked(order, drop=False)
    for _ in range(len(world.arrived) + 10):
        world.now += 100.0
        world.send()
        while world.on_the_way:
            world.results(0, ResultKind.DELIVERED, 0.5)
    wanted: dict[str, list[int]] = {}
    for each in world.arrived:
        if each.sequence not in world.dropped:
            wanted.setdefault(each.order, []).append(each.sequence)
    assert world.delivered == wanted
    assert world.schedule.waiting_count == world.schedule.in_flight_count == 0


# What an answer means, and what is done about it
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC).timestamp()
DEFAULT_POLICY = RetryPolicy()
FIRST = PendingEvent(1, "a")


def decided(result: DeliveryResult, pending: PendingEvent = FIRST, *, outages: int = 0, chance: float = 0.5):
    return decide(pending, result, outages=outages, now_seconds=1000.0, retry=DEFAULT_POLICY, chance=lambda: chance)


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ((200, 201, 202, 204, 299), ResultKind.DELIVERED),
        ((400, 413, 422), ResultKind.REFUSED),
        ((410,), ResultKind.GONE),
        ((429, 502, 503, 504), ResultKind.UNAVAILABLE),
        ((300, 301, 302, 307, 308, 401, 403, 404, 405, 408, 409, 415, 425, 500, 501, 599), ResultKind.FAILED),
    ],
)
def test_every_status_means_something(statuses: tuple[int, ...], kind: ResultKind) -> None:
    assert {result_of(status, None, NOW).kind for status in statuses} == {kind}


def test_a_result_carries_the_pause_that_the_receiver_asks_for_at_most_a_day() -> None:
    assert result_of(429, "120", NOW).retry_after_seconds == 120.0
    assert result_of(503, "9" * 50, NOW).retry_after_seconds == RETRY_AFTER_SECONDS_MAX
    assert result_of(500, None, NOW).retry_after_seconds is None


def test_delivered_refused_and_gone_are_final() -> None:
    pending = PendingEvent(1, "a")
    assert decided(DeliveryResult(ResultKind.DELIVERED)) == Complete(pending)
    assert decided(DeliveryResult(ResultKind.REFUSED, "no")) == Park(pending, "no")
    assert decided(DeliveryResult(ResultKind.GONE, "gone")) == Stop(pending, "gone")


def test_failures_are_tried_again_after_growing_pauses_and_parked_at_the_limit() -> None:
    pending, pauses = PendingEvent(1, "a"), []
    for _ in range(DEFAULT_POLICY.attempts_max - 1):
        decision = decided(DeliveryResult(ResultKind.FAILED, "500"), pending)
        assert isinstance(decision, RetryLater)
        assert decision.hold_until_seconds is None, "others go on"
        pending = decision.later
        pauses.append(pending.due_seconds - 1000.0)
    decision = decided(DeliveryResult(ResultKind.FAILED, "500"), pending)
    assert isinstance(decision, Park)
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
    assert 2.0 < sum(pauses) / 3600 < 2.5, "as the docstring of RetryPolicy says"


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_stay_within_their_limits(tries: int, chance: float) -> None:
    pause = DEFAULT_POLICY.pause_seconds(tries, chance)
    assert DEFAULT_POLICY.first_pause_seconds * 0.799 <= pause <= DEFAULT_POLICY.longest_pause_seconds * 1.201


def test_a_longer_requested_pause_is_kept_and_a_shorter_one_is_not() -> None:
    longer = decided(DeliveryResult(ResultKind.FAILED, "", 700.0))
    shorter = decided(DeliveryResult(ResultKind.FAILED, "", 1.0))
    assert isinstance(longer, RetryLater)
    assert isinstance(shorter, RetryLater)
    assert (longer.later.due_seconds, shorter.later.due_seconds) == (1700.0, 1005.0)


def test_a_receiver_that_is_away_holds_all_and_parks_nothing() -> None:
    pending = PendingEvent(1, "a")
    for outages in range(1000):
        decision = decided(DeliveryResult(ResultKind.UNAVAILABLE, "503"), pending, outages=outages)
        assert isinstance(decision, RetryLater)
        assert decision.hold_until_seconds is not None
        assert decision.hold_until_seconds - 1000.0 <= HOLD_SECONDS_MAX
        if outages:
            assert decision.later.due_seconds <= decision.hold_until_seconds, "it comes back with the receiver"
        pending = decision.later
    assert pending.failures == 0


def test_an_event_that_alone_finds_the_receiver_absent_delays_others_less_and_less() -> None:
    pending, pauses = PendingEvent(1, "a"), []
    for _ in range(8):
        decision = decided(DeliveryResult(ResultKind.UNAVAILABLE, "503"), pending, outages=0)
        assert isinstance(decision, RetryLater)
        pending = decision.later
        pauses.append(pending.due_seconds - 1000.0)
        assert decision.hold_until_seconds == 1005.0
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640]


def test_many_retries_are_spread_over_time() -> None:
    due = {decided(DeliveryResult(ResultKind.FAILED), chance=chance / 10).later.due_seconds for chance in range(11)}
    assert (len(due), min(due), max(due)) == (11, 1004.0, 1006.0)
