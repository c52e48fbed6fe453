"""Who is sent next: whatever the receiver does, one order's events never overtake each other and no other waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumers.webhook.delivery import DeliveryResult, ResultKind
from consumers.webhook.schedule import (
    Complete,
    DeliverySchedule,
    Park,
    PendingEvent,
    RetryLater,
    RetryPolicy,
    Stop,
    decide,
)

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


def test_no_more_are_on_their_way_than_allowed() -> None:
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


def test_while_the_receiver_is_away_all_wait_and_then_one_feels_its_way() -> None:
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
