"""Random histories of orders, employers, workers and Kafka, for the pure decisions of readers and homes.

A history is a setting (who is ours, who may read what) and a list of actions: versions are made, orders and employers
move, workers take steps, are killed, freeze and lose lanes, Kafka writes markers late. In the end the world stands
still, nothing fails, every employer is read a few times, and `judge` says what is wrong:

  double         a version is published twice
  order          a version comes after a newer one and is not marked late, or the newest one is marked late
  current        the last of an order in `…-gjeldende` is not its newest published version
  lost           a version is neither published nor recorded as missing, though it is below one that is published, or in
                 a list of ours, or the next one of an order and a reader of it, still ours, is given it by number
  stuck          a version is recorded as missing though a reader of the order, still ours, is given it by number
  false-missing  a version is recorded as missing though it is published
  hangs          a lane never ends its round though nothing fails any more

Played are the source, Kafka's logs and transactions, and the loop of a lane, as a reader and as a home. Under test are
`decide`, `retry`, `differences`, `absent` and the state of a lane. Every `yield` is a place where anything else may
happen, and what lies between two of them is atomic.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING, Any

from producer.detect.decide import Decision, decide, retry
from producer.detect.differences import absent, differences, digest_of
from producer.domain.observation import Observation, order_key
from producer.domain.state import NO_ORDER, NOT_HANDED_OVER, LaneState, ObservationOffsets, OrderState
from producer.domain.trekkpaalegg import Failed, Fetched, Gone, Origin, Trekkpaalegg
from tests.kit.history_world import (
    LANES,
    ORDERS,
    VERSIONS_MAX,
    Changes,
    Event,
    FencedError,
    Kafka,
    Rule,
    Setting,
    World,
    home_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator

    Steps = Generator[None, None, None]
    Action = tuple[Any, ...]

WORKERS = 3
READ_AGAIN = 5
STEPS_OF_A_ROUND_MAX = 400
HOUR = 3600 * 1_000_000


class Fault(enum.Enum):
    """What a lane may do wrong; each must be found."""

    OFFSET_FIRST = "commits the offsets of observations before what comes of them"
    STATE_BEFORE_FENCE = "reads its state before it fences the former owner"
    REMEMBER_FIRST = "commits what is handed over before it is stored"
    ONE_READER = "asks by number with the token of the last reader alone"
    NO_FIRST_KNOW = "does not commit that a list shows an order before it hands it over"


# Lanes


class Incarnation:
    """A lane as one worker runs it: one thread and one producer, as a reader and as a home."""

    ROLES = ("reader", "home")

    def __init__(self, history: History, lane: int, worker: int) -> None:
        self.history, self.lane, self.worker = history, lane, worker
        self.state = LaneState()
        self.is_alive = True
        self.rounds = [0, 0]
        self._acquiring: Steps | None = self._acquire()
        self._roles = (self._read(), self._decide())
        self._in_transaction: int | None = None

    def step(self, role: int) -> None:
        """Take one step; while a transaction is open, the one that began it takes it."""
        try:
            if self._acquiring is not None:
                if next(self._acquiring, self) is self:
                    self._acquiring = None
            else:
                next(self._roles[role if self._in_transaction is None else self._in_transaction])
        except FencedError:
            self.is_alive = False

    def _acquire(self) -> Steps:
        kafka = self.history.kafka
        if self.history.fault is Fault.STATE_BEFORE_FENCE:
            self.state = kafka.state(self.lane)
            yield
            kafka.fence(self, self.lane)
        else:
            kafka.fence(self, self.lane)
            yield
            self.state = kafka.state(self.lane)
        yield

    def _commit(self, role: int, events: list[Event], changes: Changes) -> Steps:
        kafka = self.history.kafka
        transaction = kafka.begin(self, self.lane, events, changes)
        self._in_transaction = role
        yield
        kafka.commit(transaction)
        self._in_transaction = None
        changes.apply(self.state)

    def _end_round(self, role: int) -> Steps:
        """A lane commits something now and then, and so learns that it was fenced."""
        history = self.history
        if history.world.draw(2) == 0 and not history.is_quiet:
            yield from self._commit(role, [], Changes())
        self.rounds[role] += 1
        yield

    # As a reader

    def _read(self) -> Steps:
        history = self.history
        while True:
            mine = [each for each in history.copies[self.worker] if history.setting.lane_of[each] == self.lane]
            for employer in sorted(mine):
                yield
                yield from self._read_one(employer)
            yield from self._end_round(0)
            while history.is_quiet and self.rounds[0]:
                yield

    def _read_one(self, employer: str) -> Steps:
        world, state, fault = self.history.world, self.state.ensure(employer), self.history.fault
        elements = world.listed(employer)
        is_full, everything = world.draw(3) != 1, world.draw(8) == 1
        different = differences(state, elements, everything=everything)
        new = {(employer, key): NOT_HANDED_OVER for each in different if (key := order_key(each)) not in state}
        if new and fault is not Fault.NO_FIRST_KNOW:
            yield from self._commit(0, [], Changes(handed_over=new))
        handed_over = Changes(handed_over={(employer, order_key(each)): digest_of(each) for each in different})
        if different and fault is Fault.REMEMBER_FIRST:
            yield from self._commit(0, [], handed_over)
        yield from self._send([Observation(order_key(each), employer, Origin.POLL, each) for each in different])
        if different and fault is not Fault.REMEMBER_FIRST:
            yield from self._commit(0, [], handed_over)
        if is_full:
            keys = absent(state, [hash(order_key(each)) for each in elements], seed=1)
            yield from self._send([Observation(key, employer, Origin.RECONCILE) for key in sorted(keys)])

    def _send(self, observations: list[Observation]) -> Steps:
        for observation in observations:
            yield
            row = self.history.world.draw(2)
            self.history.kafka.rows[home_of(observation.key.decode())][row].append(observation)
        yield

    # As a home

    def _decide(self) -> Steps:
        while True:
            yield
            observations, offsets = self._next()
            if observations:
                yield from self._decide_on([(each.key, each) for each in observations], offsets)
                continue
            for key, _ in list(self.state.orders.open_orders()):
                yield from self._decide_on([(key, None)], None)
            yield from self._end_round(1)

    def _next(self) -> tuple[list[Observation], ObservationOffsets]:
        """The next few observations of one row, and the offsets behind them."""
        rows, at = self.history.kafka.rows[self.lane], self.state.observations
        few = 1 + self.history.world.draw(3)
        urgent = rows[0][at.urgent : at.urgent + few]
        if urgent:
            return urgent, ObservationOffsets(at.urgent + len(urgent), at.bulk)
        bulk = rows[1][at.bulk : at.bulk + few]
        return bulk, ObservationOffsets(at.urgent, at.bulk + len(bulk))

    def _decide_on(self, tasks: list[tuple[bytes, Observation | None]], offsets: ObservationOffsets | None) -> Steps:
        """Decide on these orders, and commit all of it with the offsets."""
        if offsets is not None and self.history.fault is Fault.OFFSET_FIRST:
            yield from self._commit(1, [], Changes(observations=offsets))
            offsets = None
        orders: dict[bytes, OrderState] = {}
        events: list[Event] = []
        for key, observation in tasks:
            before = orders.get(key) or self.state.orders.order(key)
            decision, readers = yield from self._decide_on_one(key, before, observation)
            if decision.order != before:
                orders[key] = decision.order
            for each in decision.publications:
                number = each.trekkpaalegg.trekkversjon
                shown_by = "" if observation is None else observation.trekkpliktig
                events.append(Event(key.decode(), number, each.late, each.current, readers.get(number, shown_by)))
        if orders or events or offsets is not None:
            yield from self._commit(1, events, Changes(orders, observations=offsets))

    def _decide_on_one(
        self, key: bytes, order: OrderState, observation: Observation | None
    ) -> Generator[None, None, tuple[Decision, dict[int, str]]]:
        """The decision on one order, and who gave each version that was fetched for it."""
        history = self.history
        shown_by = () if observation is None else (observation.trekkpliktig,)
        readers = list(dict.fromkeys((*shown_by, *order.readers)))
        if history.fault is Fault.ONE_READER:
            readers = readers[:1] if shown_by else readers[-1:]
        readers = [each for each in readers if each in history.copies[self.worker]]
        versions: dict[int, Fetched] = {}
        given: dict[int, str] = {}
        looked_up: dict[int, Collection[bytes]] = {}
        while True:
            if observation is None:
                decision = retry(order, versions, history.now)
            else:
                decision = decide(order, observation, versions, history.now, looked_up)
            if decision.is_final:
                return decision, given
            if decision.wanted_history is not None:
                looked_up[decision.wanted_history] = ()
            for number in decision.wanted:
                versions[number] = Gone("nobody of ours has shown it")
                for reader in readers:
                    yield
                    fetched = history.world.fetch(reader, key.decode(), number)
                    if isinstance(fetched, Trekkpaalegg):
                        versions[number], given[number] = fetched, reader
                        break
                    if not isinstance(versions[number], Failed):
                        versions[number] = fetched


# Histories


class History:
    """One history in progress. `copies` are the workers' own copies of the list of ours."""

    def __init__(self, setting: Setting, fault: Fault | None = None) -> None:
        self.setting, self.fault = setting, fault
        self.world, self.kafka = World(setting), Kafka()
        self.now = 1_790_000_000_000_000
        self.copies = [set(setting.ours) for _ in range(WORKERS)]
        self.owners = [Incarnation(self, lane, lane % 2) for lane in range(LANES)]
        self.frozen: list[Incarnation] = []
        self.is_quiet = False
        self.hangs = False

    def act(self, action: Action) -> None:
        """Let one action happen."""
        kind, *arguments = action
        getattr(self, f"_{kind}")(*arguments)

    def _step(self, number: int, times: int, chances: int) -> None:
        self.world.chances = chances
        for _ in range(times):
            self._step_lane(number % LANES, number // LANES % 2)

    def _step_lane(self, lane: int, role: int) -> None:
        owner = self.owners[lane]
        owner.step(role)
        if not owner.is_alive:
            self.owners[lane] = Incarnation(self, lane, owner.worker)

    def _step_frozen(self, number: int, role: int, times: int, chances: int) -> None:
        """A worker that was taken for dead goes on for a while."""
        self.world.chances = chances
        for _ in range(times):
            if self.frozen and (each := self.frozen[number % len(self.frozen)]).is_alive:
                each.step(role)

    def _wait(self, hours: int) -> None:
        self.now += hours * HOUR

    def _create(self, employer: str) -> None:
        trekkid = next((each for each in ORDERS if each not in self.world.named), None)
        if trekkid is not None:
            self.world.named[trekkid] = [employer]

    def _change(self, trekkid: str, employer: str) -> None:
        """A further version, which names this employer, or the same as before."""
        named = self.world.named.get(trekkid)
        if named and len(named) < VERSIONS_MAX:
            named.append(employer or named[-1])

    def _add(self, employer: str) -> None:
        self.world.ours.add(employer)

    def _remove(self, employer: str) -> None:
        if len(self.world.ours) > 1:
            self.world.ours.discard(employer)

    def _refresh(self, worker: int) -> None:
        self.copies[worker] = set(self.world.ours)

    def _kill(self, worker: int, heir: int) -> None:
        """A worker is killed, and starts again; another one takes over its lanes."""
        self.frozen = [each for each in self.frozen if each.worker != worker]
        self._refresh(worker)
        for lane, owner in enumerate(self.owners):
            if owner.worker == worker:
                self.owners[lane] = Incarnation(self, lane, heir)

    def _move(self, lane: int, worker: int, is_frozen: bool) -> None:
        if is_frozen:
            self.frozen.append(self.owners[lane])
        self.owners[lane] = Incarnation(self, lane, worker)

    def _mark(self, lane: int) -> None:
        self.kafka.mark(lane)

    def _give(self, rule: Rule) -> None:
        self.world.rule = rule

    def _show(self, parent_shows: bool) -> None:
        self.world.parent_shows = parent_shows

    def _withhold(self, trekkid: str, number: int) -> None:
        self.world.withheld.add((trekkid, number))

    def _restore(self) -> None:
        self.world.withheld.clear()

    def end(self) -> None:
        """Nothing changes or fails any more, and every employer is read a few times."""
        self.world.chances, self.is_quiet, self.frozen = 0, True, []
        self.kafka.marks_at_once = True
        for lane in range(LANES):
            while any(each.status == "committed" and not each.is_marked for each in self.kafka.transactions[lane]):
                self.kafka.mark(lane)
        for worker in range(WORKERS):
            self._refresh(worker)
        for _ in range(READ_AGAIN):
            for owner in self.owners:
                owner.rounds = [0, 0]
            for _ in range(STEPS_OF_A_ROUND_MAX):
                if all(all(owner.rounds) for owner in self.owners):
                    break
                for number in range(2 * LANES):
                    self._step_lane(number % LANES, number // LANES)
            else:
                self.hangs = True


def judge(history: History) -> list[str]:
    """What is wrong at the end, a sentence each, which begins with its kind."""
    wrong = ["hangs: a lane never ends its round though nothing fails any more"] if history.hangs else []
    return wrong + [f"{each} (order {trekkid})" for trekkid in history.world.named for each in _judge(history, trekkid)]


def _judge(history: History, trekkid: str) -> Iterator[str]:
    events, order = history.kafka.events(trekkid), _order_in_state(history.kafka, trekkid)
    yield from _judge_events(events)
    published = {event.number for event in events}
    missing = {number for each in order.missing for number in range(each.first, each.last + 1)}
    missing |= set(range(order.trekkversjon + 1, order.seen + 1))
    readers = {event.reader for event in events} & history.world.ours
    top = _top(history.world, trekkid, max(published, default=0), readers)
    for number in range(1, top + 1):
        if number not in published | missing:
            yield f"lost: {number} is neither published nor missing"
    for number in sorted(missing):
        if number in published:
            yield f"false-missing: {number} is missing though published"
        elif any(history.world.gives(reader, trekkid, number) for reader in readers):
            yield f"stuck: {number} is missing though a reader is given it"


def _judge_events(events: list[Event]) -> Iterator[str]:
    newest = 0
    for event in events:
        if event.late and event.number > newest:
            yield f"order: {event.number} is marked late though it is the newest"
        elif not event.late and event.number < newest:
            yield f"order: {event.number} comes after {newest} and is not marked late"
        newest = max(newest, event.number)
    counts = Counter(event.number for event in events)
    yield from (f"double: {number} is published {count} times" for number, count in counts.items() if count > 1)
    if [event.number for event in events if event.current][-1:] != ([newest] if newest else []):
        yield f"current: {newest} is not the last in gjeldende"


def _top(world: World, trekkid: str, newest: int, readers: set[str]) -> int:
    """The highest version of an order that must be known."""
    if any(each.trekkid == trekkid for employer in world.ours for each in world.listed(employer)):
        newest = len(world.named[trekkid])
    return newest + any(world.gives(reader, trekkid, newest + 1) for reader in readers)


def _order_in_state(kafka: Kafka, trekkid: str) -> OrderState:
    order = NO_ORDER
    for transaction in kafka.transactions[home_of(trekkid)]:
        if transaction.status == "committed":
            order = transaction.changes.orders.get(trekkid.encode(), order)
    return order


def wrong_in(setting: Setting, actions: list[Action], fault: Fault | None = None) -> list[str]:
    """Play one history to its end, and judge it."""
    history = History(setting, fault)
    for action in actions:
        history.act(action)
    history.end()
    return judge(history)
