"""Who is sent next: whatever the receiver does, one order's events never overtake each other and no other waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumers.webhook.delivery import Meaning, Outcome
from consumers.webhook.schedule import Again, Deliver, Park, RetryPolicy, Schedule, Stop, Waiting, decide

POLICY = RetryPolicy(attempts_max=3, first_pause_seconds=1.0, longest_pause_seconds=8.0)


def test_one_of_an_order_at_a_time_and_others_meanwhile() -> None:
    schedule = Schedule(4)
    for sequence, order in enumerate("aabac"):
        schedule.add(Waiting(sequence, order))
    assert [each.sequence for each in schedule.take_due(0)] == [0, 2, 4]
    assert schedule.take_due(0) == []
    schedule.delivered(Waiting(0, "a"))
    assert [each.sequence for each in schedule.take_due(0)] == [1]
    assert schedule.waiting_count == 4


def test_no_more_are_on_their_way_than_allowed() -> None:
    schedule = Schedule(2)
    for sequence in range(5):
        schedule.add(Waiting(sequence, f"order {sequence}"))
    assert len(schedule.take_due(0)) == 2
    assert schedule.take_due(0) == []
    assert schedule.due_in_seconds(0) is None


def test_an_order_waits_for_its_failed_event_and_others_do_not() -> None:
    schedule = Schedule(4)
    for sequence, order in enumerate("aab"):
        schedule.add(Waiting(sequence, order))
    first, second = schedule.take_due(0)
    schedule.again(first, Waiting(0, "a", tries=1, failures=1, due_seconds=10.0))
    schedule.delivered(second)
    assert schedule.take_due(9) == []
    assert schedule.due_in_seconds(9) == 1.0
    assert [each.sequence for each in schedule.take_due(10)] == [0]


def test_a_parked_event_blocks_its_order_until_it_is_released() -> None:
    schedule = Schedule(4)
    for sequence, order in enumerate("aab"):
        schedule.add(Waiting(sequence, order))
    first, second = schedule.take_due(0)
    schedule.parked(first)
    schedule.delivered(second)
    schedule.add(Waiting(3, "a"))
    assert (schedule.waiting_count, schedule.take_due(0), schedule.blocked) == (0, [], {"a"})
    schedule.unblock("a", [Waiting(0, "a"), Waiting(1, "a"), Waiting(3, "a")])
    assert [each.sequence for each in schedule.take_due(0)] == [0]
    assert schedule.waiting_count == 3


def test_while_the_receiver_is_away_all_wait_and_then_one_feels_its_way() -> None:
    schedule = Schedule(4)
    for sequence in range(5):
        schedule.add(Waiting(sequence, f"order {sequence}"))
    for each in schedule.take_due(0):
        schedule.hold(each, each, 5.0, 0.0)
    assert schedule.troubles == 1, "what was on its way together is one trouble"
    assert schedule.take_due(4.9) == []
    (one,) = schedule.take_due(5.0)
    assert schedule.take_due(5.0) == []
    schedule.delivered(one)
    assert (schedule.troubles, len(schedule.take_due(5.0))) == (0, 4)


MEANINGS = st.sampled_from([*Meaning, Meaning.DELIVERED, Meaning.FAILED])
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
        self.kept: dict[int, Waiting] = {}
        self.parked: set[int] = set()
        self.delivered: dict[str, list[int]] = {}
        self.dropped: set[int] = set()
        self.arrived: list[Waiting] = []
        self.on_the_way: list[Waiting] = []
        self.schedule = Schedule(concurrency_max)

    def take_step(self, step: str, argument: object) -> None:
        match step:
            case "arrive":
                self.arrive(argument)
            case "send":
                self.send()
            case "come back":
                self.come_back(*argument)
            case "time":
                self.now += argument
            case "release" | "drop":
                self.decide_parked(argument, drop=step == "drop")
            case "restart":
                self.restart()

    def of_order(self, order: str) -> list[Waiting]:
        return [self.kept[sequence] for sequence in sorted(self.kept) if self.kept[sequence].order == order]

    def arrive(self, order: str) -> None:
        waiting = Waiting(len(self.arrived), order)
        self.arrived.append(waiting)
        self.kept[waiting.sequence] = waiting
        self.schedule.add(waiting)

    def send(self) -> None:
        for each in self.schedule.take_due(self.now):
            assert each == self.of_order(each.order)[0], "the oldest of its order that is not delivered"
            assert each.sequence not in self.parked
            assert each.order not in {other.order for other in self.on_the_way}
            assert each.due_seconds <= self.now
            self.on_the_way.append(each)
        assert len(self.on_the_way) <= self.concurrency_max

    def come_back(self, which: int, meaning: Meaning, chance: float) -> None:
        if not self.on_the_way:
            return
        waiting = self.on_the_way.pop(which % len(self.on_the_way))
        decision = decide(
            waiting,
            Outcome(meaning),
            troubles=self.schedule.troubles,
            now_seconds=self.now,
            retry=POLICY,
            chance=lambda: chance,
        )
        match decision:
            case Deliver():
                del self.kept[waiting.sequence]
                self.delivered.setdefault(waiting.order, []).append(waiting.sequence)
                self.schedule.delivered(waiting)
            case Again(_, later, _, None):
                self.kept[waiting.sequence] = later
                self.schedule.again(waiting, later)
            case Again(_, later, _, until):
                self.kept[waiting.sequence] = later
                self.schedule.hold(waiting, later, until, self.now)
            case Park():
                self.parked.add(waiting.sequence)
                self.schedule.parked(waiting)
            case Stop():
                self.schedule.again(waiting, waiting)

    def decide_parked(self, order: str, *, drop: bool) -> None:
        for sequence in [each for each in self.parked if self.kept[each].order == order]:
            self.parked.discard(sequence)
            if drop:
                del self.kept[sequence]
                self.dropped.add(sequence)
            self.schedule.unblock(order, self.of_order(order))

    def restart(self) -> None:
        """A crash: what was on its way may or may not have arrived; it is still kept."""
        self.on_the_way.clear()
        blocked = {self.kept[sequence].order for sequence in self.parked}
        self.schedule = Schedule(self.concurrency_max, blocked)
        for sequence in sorted(self.kept):
            self.schedule.add(self.kept[sequence])


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
            world.come_back(0, Meaning.DELIVERED, 0.5)
    wanted: dict[str, list[int]] = {}
    for each in world.arrived:
        if each.sequence not in world.dropped:
            wanted.setdefault(each.order, []).append(each.sequence)
    assert world.delivered == wanted
    assert world.schedule.waiting_count == world.schedule.on_the_way_count == 0
