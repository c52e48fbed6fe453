"""Random histories of orders, employers, workers and Kafka, for real lanes: what happens, and what is wrong in the end.

`tests.kit.histories` does the same with the decisions alone, and tells what is looked for. Beside that, each operator
request has one result.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from producer.domain.requests import RELEASE, RESUME, SET, OperatorRequest
from producer.domain.trekkpaalegg import RejectionReason
from producer.encode.signal import encode_request
from producer.publish.port import Row
from producer.publish.topics import home_of
from tests.kit.history_world import LANES, ORDERS, VERSIONS_MAX, World
from tests.kit.stages.lane_hall import RECONCILE_INTERVAL_SECONDS, LaneHall, WorldSource, number_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.fakes.observations import WriteFault
    from tests.kit.fakes.publisher import Fault
    from tests.kit.history_world import Rule, Setting

    Action = tuple[Any, ...]

WORKERS = 3
READ_AGAIN = 4
DAY_SECONDS = 86_400.0


class History:
    """One history in progress."""

    def __init__(self, setting: Setting, ahead: list[float]) -> None:
        self.numbers = {each: number_of(each, lane) for each, lane in setting.lane_of.items()}
        self.setting = setting
        self.world = World(setting)
        self.source = WorldSource(self.world, self.numbers)
        served = [self.served() for _ in range(WORKERS)]
        self.hall = LaneHall(self.source, served, self.world.draw, ahead)
        self.requests: dict[str, str] = {}
        """The employer of each request, by its id."""
        self.is_lossless = True
        self.hangs = False

    def act(self, action: Action) -> None:
        """Let one action happen."""
        kind, *arguments = action
        getattr(self, f"_{kind}")(*arguments)

    def served(self) -> set[str]:
        """The numbers of those who are ours now."""
        return {self.numbers[each] for each in self.world.ours}

    def _step(self, number: int, times: int, chances: int) -> None:
        self.world.chances = chances
        for _ in range(times):
            self.hall.step(self.hall.owners[number % LANES])

    def _step_frozen(self, number: int, times: int, chances: int) -> None:
        """A worker that was taken for dead goes on for a while."""
        self.world.chances = chances
        for _ in range(times):
            if self.hall.frozen:
                self.hall.step(self.hall.frozen[number % len(self.hall.frozen)])

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
        self.hall.refresh(worker, self.served())

    def _kill(self, worker: int, heir: int) -> None:
        self.hall.kill(worker, heir)
        self._refresh(worker)

    def _move(self, lane: int, worker: int, is_frozen: bool) -> None:
        self.hall.move(lane, worker, is_frozen=is_frozen)

    def _give(self, rule: Rule) -> None:
        self.world.rule = rule

    def _show(self, parent_shows: bool) -> None:
        self.world.parent_shows = parent_shows

    def _withhold(self, trekkid: str, number: int) -> None:
        self.world.withheld.add((trekkid, number))

    def _garble(self, trekkid: str, number: int, is_nameless: bool) -> None:
        self.source.garbled[trekkid, number] = is_nameless

    def _restore(self) -> None:
        self.world.withheld.clear()
        self.source.garbled.clear()

    def _wait(self, seconds: float) -> None:
        self.hall.seconds += seconds

    def _fail_transaction(self, fault: Fault) -> None:
        self.hall.kafka.fail(fault)

    def _fail_write(self, fault: WriteFault, times: int) -> None:
        self.hall.kafka.observations.fail(fault, times=times)

    def _fail_signal(self) -> None:
        self.hall.signal_failures += 1

    def _catch_up(self) -> None:
        self.hall.kafka.observations.catch_up()

    def _lose(self, lane: int) -> None:
        """Kafka loses what a home has not decided on, and the worker that had read it has died.

        What only observations told is gone, such as whose list once showed an order.
        """
        self.is_lossless = False
        observations = self.hall.kafka.observations
        for row in Row:
            observations.log(row, lane).delete_before(observations.end(lane, row))
        self.hall.move(lane, self.hall.owners[lane].worker, is_frozen=False)

    def _release(self, number: int, times: int) -> None:
        """Request the release of some record of the quarantine."""
        records = self.hall.quarantine()
        if records:
            number %= len(records)
            self._request(RELEASE, "A", times, f"{records[number].partition}/{number}")

    def _request(self, kind: str, employer: str, times: int, record: str | None = None) -> None:
        """Request something, with as many signals in the partition of any lane."""
        number = len(self.requests)
        position = 0 if kind == SET else None
        request = OperatorRequest(f"{kind}-{number}", kind, number, position, record=record)
        self.requests[request.id] = employer
        lane = self.world.draw(LANES)
        for _ in range(times):
            self.hall.signal(self.numbers[employer], encode_request(request), lane)

    def end(self) -> None:
        """Nothing changes or fails any more, and every employer is read in full a few times."""
        self.world.chances, self.hall.signal_failures = 0, 0
        self.source.garbled.clear()
        self.hall.frozen.clear()
        self.hall.kafka.heal()
        for worker in range(WORKERS):
            self._refresh(worker)
        self.hangs = not self.hall.run_until(Counter())
        for employer in sorted(self.world.ours):
            self._request(RESUME, employer, 1)
        for _ in range(READ_AGAIN):
            self._wait(DAY_SECONDS + RECONCILE_INTERVAL_SECONDS)
            self.hangs |= not self.hall.run_until(self.hall.readings.ended + Counter(self.served()))


def judge(history: History) -> Iterator[str]:
    """What is wrong at the end, a sentence each, which begins with its kind."""
    if history.hangs:
        yield "hangs: a lane never ends its round though nothing fails any more"
        return
    if history.hall.readings.lowered or RejectionReason.CHANGED_CONTENT.value in history.hall.quarantined():
        yield "alarm: something is taken for a lower version or changed content, though the source changed none"
    for trekkid in history.world.named:
        yield from _judge_events(history, trekkid)
        yield from _judge_state(history, trekkid)
    results = Counter(result.request.id for result in history.hall.results())
    for name, employer in history.requests.items():
        if results[name] > 1:
            yield f"results: request {name} has {results[name]}"
        elif not results[name] and employer in history.world.ours:
            yield f"no result: of request {name}"


def _judge_events(history: History, trekkid: str) -> Iterator[str]:
    published, newest = set(), 0
    for event in history.hall.events():
        if event.trekkid != trekkid:
            continue
        number = event.trekkversjon
        if number in published:
            yield f"double: {number} is published twice (order {trekkid})"
        elif event.late != (number < newest):
            yield f"order: {number} comes after {newest}, late: {event.late} (order {trekkid})"
        published.add(number)
        newest = max(newest, number)
    if [each.trekkversjon for each in history.hall.current() if each.trekkid == trekkid][-1:] != [newest][:newest]:
        yield f"current: {newest} is not the last in gjeldende (order {trekkid})"


def _judge_state(history: History, trekkid: str) -> Iterator[str]:
    world, states, key = history.world, history.hall.states(), trekkid.encode()
    order = states[home_of(key, LANES)].orders.order(key)
    published = {each.trekkversjon for each in history.hall.events() if each.trekkid == trekkid}
    missing = {number for each in order.missing for number in range(each.first, each.last + 1)}
    missing |= set(range(order.trekkversjon + 1, order.seen + 1))
    showed = {each.trekkpliktig for each in history.hall.observed(key) if history.is_lossless}
    readers = {
        employer
        for employer in world.ours
        if history.numbers[employer] in showed
        or key in states[history.setting.lane_of[employer]].of(history.numbers[employer])
    }
    top = max(published, default=0)
    if any(each.trekkid == trekkid for employer in world.ours for each in world.listed(employer)):
        top = len(world.named[trekkid])
    top += any(world.gives(reader, trekkid, top + 1) for reader in readers)
    for number in range(1, top + 1):
        if number not in published | missing:
            yield f"lost: {number} is neither published nor missing (order {trekkid})"
    for number in sorted(missing):
        if number in published:
            yield f"false-missing: {number} is missing though published (order {trekkid})"
        elif any(world.gives(reader, trekkid, number) for reader in readers):
            yield f"stuck: {number} is missing though a reader is given it (order {trekkid})"


def wrong_in(setting: Setting, ahead: list[float], actions: list[Action]) -> list[str]:
    """Play one history to its end, and judge it."""
    history = History(setting, ahead)
    for action in actions:
        history.act(action)
    history.end()
    return list(judge(history))
