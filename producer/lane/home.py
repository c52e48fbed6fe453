"""The home of orders: what was observed of each order is decided on, one order independently of all others. No I/O.

Observations come from two rows, each in the order of its offsets. An order's observations are decided on one after
another; where one needs versions by number, only that order waits. Everything decided is committed together with the
offsets below which nothing is open, so that after a crash the rest is observed again.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from producer.detect.decide import Decision, decide, decide_encodable, retry
from producer.domain.observation import Known, Observation, Question
from producer.domain.requests import RequestState
from producer.domain.state import ObservationOffsets
from producer.domain.trekkpaalegg import Origin
from producer.errors import RejectedTrekkpaaleggError
from producer.publish.port import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from producer.domain.state import LaneState, OrderState
    from producer.domain.trekkpaalegg import Fetched
    from producer.publish.port import Record

    Encode = Callable[["Task", OrderState, Decision], list[Record]]

_MICROSECONDS = 1_000_000
FAILING_PAUSE_MIN = 5 * _MICROSECONDS
FAILING_PAUSE_MAX = 3600 * _MICROSECONDS

VERSIONS_UNDER_WAY_MAX = 500
"""No further versions are requested while so many are under way, unless they are urgent: orders of a first reading may
have a million versions, and what was fetched is kept until its order is decided on."""


class Wanted(NamedTuple):
    """The versions that a task needs by number, and whose tokens may get them, in that order."""

    task: Task
    versions: Sequence[int]
    readers: tuple[str, ...]
    is_urgent: bool


class LookUp(NamedTuple):
    """A version whose content in the history a task needs."""

    task: Task
    trekkversjon: int


class Task:
    """One step of one order: what a list showed of it, another try at what is open, or an operator's release.

    `row` is None for a step that no observation led to. `requests` are the operator requests that it is done for.
    `versions` is what was fetched for it, and `history` what was looked up: see `decide`.
    """

    __slots__ = (
        "decision",
        "history",
        "key",
        "observation",
        "records",
        "release",
        "requests",
        "row",
        "under_way",
        "versions",
    )

    def __init__(
        self,
        key: bytes,
        observation: Observation | None = None,
        row: Row | None = None,
        *,
        requests: tuple[str, ...] = (),
        release: Release | None = None,
    ) -> None:
        self.key = key
        self.observation = observation
        self.row = row
        self.requests = requests
        self.release = release
        self.versions: dict[int, Fetched] = {}
        self.history: dict[int, Collection[bytes]] = {}
        self.under_way = 0
        self.decision: Decision | None = None
        self.records: list[Record] = []

    def decide(self, order: OrderState, versions: Mapping[int, Fetched], now: int) -> Decision:
        """What becomes of it, as `decide`, `retry` or `release`."""
        if self.observation is not None:
            return decide(order, self.observation, versions, now, self.history)
        return retry(order, versions, now) if self.release is None else self.release.decide(order, versions, now)

    @property
    def reader(self) -> str:
        """For which trekkpliktig it is done; empty for another try."""
        if self.observation is not None:
            return self.observation.trekkpliktig
        return "" if self.release is None else self.release.trekkpliktig

    @property
    def origin(self) -> Origin:
        """The origin of what it quarantines."""
        if self.observation is not None:
            return self.observation.origin
        return Origin.RECONCILE if self.release is None else Origin.RELEASE

    @property
    def is_urgent(self) -> bool:
        """Whether it goes before others."""
        return self.row is Row.URGENT

    @property
    def is_settled(self) -> bool:
        """Whether it is decided on."""
        return self.decision is not None


class Release(Protocol):
    """An operator's release of one version."""

    trekkpliktig: str
    offsets: list[int]
    """The offsets of the signals that ask for it."""

    def decide(self, order: OrderState, versions: Mapping[int, Fetched], now: int) -> Decision:
        """What becomes of it, as `release`."""

    def results(self, outcome: Decision | RejectedTrekkpaaleggError) -> list[Record]:
        """The records that tell how it ended."""

    def committed(self) -> None:
        """It is done."""


class OpenQuestion:
    """A question that is answered once everything before it in its row is committed, and the tries that it causes."""

    __slots__ = ("is_asked", "is_begun", "is_settled", "question", "tries")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.tries = 0
        self.is_begun = False
        """Whether it is the first in its row, so that its tries have begun."""
        self.is_asked = False
        """Whether the answer is being written."""
        self.is_settled = False


class OpenKnown:
    """Orders of a list, to be recorded with the next commit. All of them go into it, so it counts as settled."""

    __slots__ = ("known",)

    is_settled = True

    def __init__(self, known: Known) -> None:
        self.known = known


class _Progress:
    """How far one row has come: what is open, each with its offset, in order."""

    def __init__(self, offset: int) -> None:
        self.open: deque[tuple[int, Task | OpenKnown | OpenQuestion]] = deque()
        self.next_offset = offset

    @property
    def first_open(self) -> int:
        """The first offset that is not settled."""
        return next((offset for offset, each in self.open if not each.is_settled), self.next_offset)

    def drop_settled(self) -> int:
        """Forget what is settled at the front; returns how many records."""
        dropped = 0
        while self.open and self.open[0][1].is_settled:
            self.open.popleft()
            dropped += 1
        return dropped


class Home:
    """See the module. Only the lane's thread may use it.

    `encode` returns the records of a decision. `is_served` says whether we serve a trekkpliktig, whose token may be
    used; `missing_pause` is how long after a try missing versions are asked for again, in microseconds. Times, such as
    `now`, are in microseconds since 1970.
    """

    def __init__(
        self, state: LaneState, encode: Encode, is_served: Callable[[str], bool], missing_pause: int, now: int
    ) -> None:
        self._state = state
        self._encode = encode
        self._is_served = is_served
        self._missing_pause = missing_pause
        self._rows = {
            Row.URGENT: _Progress(state.observations.urgent),
            Row.BULK: _Progress(state.observations.bulk),
        }
        self._queues: dict[bytes, list[Task]] = {}
        self._undecided: dict[bool, deque[bytes]] = {True: deque(), False: deque()}
        """Keys of orders whose next task may be ready to be decided on, the urgent ones apart."""
        self._wanted: dict[bool, deque[Wanted]] = {True: deque(), False: deque()}
        """What is not requested yet."""
        self._looked_up: list[LookUp] = []
        """What is not looked up yet."""
        self._versions_under_way = 0
        self._decided: list[Task] = []
        self._orders: dict[bytes, OrderState] = {}
        """The orders as they will be once what is decided is committed."""
        self._answered: list[OpenQuestion] = []
        self._known: list[Known] = []
        self._tries: list[tuple[int, bytes]] = []
        """When each open order is asked for again; an item is outdated if the order's own time differs."""
        self._due: dict[bytes, int] = {}
        self._now = now
        self._plan_tries()

    def receive(self, row: Row, offset: int, observed: Observation | Known | Question) -> None:
        """Take up what stands at this offset of a row."""
        progress = self._rows[row]
        progress.next_offset = offset + 1
        if isinstance(observed, Question):
            progress.open.append((offset, OpenQuestion(observed)))
            self._begin_questions()
            return
        if isinstance(observed, Known):
            progress.open.append((offset, OpenKnown(observed)))
            self._known.append(observed)
            return
        task = Task(observed.key, observed, row, requests=observed.requests)
        progress.open.append((offset, task))
        self.add(task)

    def add(self, task: Task) -> None:
        """Take up a step of an order. It is decided on after those of the same order that came before."""
        queue = self._queues.get(task.key)
        if queue is None:
            self._queues[task.key] = [task]
        else:
            queue.append(task)
        self._undecided[task.row is Row.URGENT].append(task.key)

    def start_tries(self, now: int) -> None:
        """Ask again for what is open and due; also for what was asked for by a clock that was ahead."""
        was_ahead, self._now = now < self._now, now
        if was_ahead:
            self._plan_tries()
        while self._tries and self._tries[0][0] <= now:
            due, key = heapq.heappop(self._tries)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(Task(key))

    def next_try(self) -> int | None:
        """When the next order is asked for again, in microseconds since 1970."""
        return self._tries[0][0] if self._tries else None

    def decide(self, now: int, bulk_max: int) -> list[Wanted]:
        """Decide on what can be, on about `bulk_max` that are not urgent. Returns the versions to request now."""
        self._now = max(self._now, now)
        for is_urgent, keys in self._undecided.items():
            while keys and (is_urgent or len(self._decided) < bulk_max):
                key = keys.popleft()
                task = self._next_task(key)
                if task is not None:
                    self._decide(task, now)
        return self._next_wanted()

    def add_version(self, task: Task, trekkversjon: int, fetched: Fetched) -> None:
        """Add a version that was requested for a task."""
        task.versions[trekkversjon] = fetched
        self._versions_under_way -= 1
        self._arrived(task)

    def next_look_ups(self) -> list[LookUp]:
        """The versions to look up in the history now, all of them at once."""
        found, self._looked_up = self._looked_up, []
        return found

    def add_history(self, look_ups: Sequence[LookUp], found: Mapping[tuple[bytes, int], Collection[bytes]]) -> None:
        """Add what the history has of versions that were to be looked up, by key and version."""
        for task, trekkversjon in look_ups:
            task.history[trekkversjon] = found.get((task.key, trekkversjon), ())
            self._arrived(task)

    def look_up_again(self, look_ups: Sequence[LookUp]) -> None:
        """These could not be looked up now."""
        self._looked_up += look_ups

    @property
    def is_ready(self) -> bool:
        """Whether anything is decided, or may be ready to be decided on."""
        return bool(self._decided or self._answered or self._known or self._undecided[True] or self._undecided[False])

    def is_pressing(self, bulk_max: int) -> bool:
        """Whether it must be committed at once: it is urgent, answered, or at least `bulk_max` in number."""
        return bool(
            self._answered
            or self._undecided[True]
            or len(self._decided) >= bulk_max
            or any(task.row is not Row.BULK for task in self._decided)
        )

    @property
    def has_decided(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._decided or self._answered or self._known)

    @property
    def has_bulk(self) -> bool:
        """Whether anything that is not urgent may be ready to be decided on."""
        return bool(self._undecided[False])

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open at all."""
        return not self._queues and not any(progress.open for progress in self._rows.values())

    @property
    def waiting(self) -> int:
        """How many observations are received and not committed."""
        return sum(self.waiting_by_row().values())

    def waiting_by_row(self) -> dict[Row, int]:
        """The same for each row."""
        return {row: len(progress.open) for row, progress in self._rows.items()}

    def questions(self) -> list[OpenQuestion]:
        """Questions that can be answered now, and have not been: everything before them is committed."""
        return [
            each
            for progress in self._rows.values()
            if progress.open
            and isinstance(each := progress.open[0][1], OpenQuestion)
            and not (each.tries or each.is_asked)
        ]

    def answered(self, question: OpenQuestion) -> None:
        """The answer is stored: the question is done with the next commit."""
        question.is_settled = True
        self._answered.append(question)

    # What is committed next.

    def decided(self) -> list[Task]:
        """The tasks that are decided on."""
        return self._decided

    def known(self) -> dict[str, set[bytes]]:
        """Where orders were shown first: all of the list of which nothing else is recorded, by trekkpliktig."""
        shown: dict[str, set[bytes]] = {}
        for each in self._known:
            state = self._state.of(each.trekkpliktig)
            new = {key for key in each.keys if key not in state or key in state.only_known}
            if new:
                shown.setdefault(each.trekkpliktig, set(state.only_known)).update(new)
        return shown

    def offsets(self) -> ObservationOffsets:
        """The offsets once what is decided is committed."""
        return ObservationOffsets(self._rows[Row.URGENT].first_open, self._rows[Row.BULK].first_open)

    def requests(self) -> dict[str, RequestState | None]:
        """The figures of operator requests that change with what is decided; None for one that is answered."""
        changed: dict[str, RequestState | None] = {}
        for task in self._decided:
            for request in task.requests:
                if task.decision is None or not (task.decision.publications or task.decision.rejected):
                    continue
                before = changed.get(request) or self._state.requests.get(request) or RequestState("")
                changed[request] = msgspec.structs.replace(
                    before,
                    trekkpliktig=task.reader or before.trekkpliktig,
                    published=before.published + len(task.decision.publications),
                    quarantined=before.quarantined + len(task.decision.rejected),
                )
        for each in self._answered:
            if each.question.request in self._state.requests:
                changed[each.question.request] = None
        return changed

    def committed(self) -> dict[Row, int]:
        """What is decided is committed: update the state. Returns how many records of each row are done with."""
        offsets, requests = self.offsets(), self.requests()
        for task in self._decided:
            queue = self._queues[task.key]
            if len(queue) == 1:
                del self._queues[task.key]
            else:
                del queue[0]
        for key, order in self._orders.items():
            self._state.orders.remember(key, order)
            self._plan_try(key, order)
        if any(task.row is None and task.requests for task in self._decided):
            self._count_tries()
        self._state.observations = offsets
        for request, figures in requests.items():
            if figures is None:
                self._state.requests.pop(request, None)
            else:
                self._state.requests[request] = figures
        for trekkpliktig, keys in self.known().items():
            self._state.ensure(trekkpliktig).know(keys)
        self._decided, self._answered, self._known, self._orders = [], [], [], {}
        dropped = {row: progress.drop_settled() for row, progress in self._rows.items()}
        self._begin_questions()
        return dropped

    def aborted(self) -> None:
        """Nothing was committed: what was decided is decided again."""
        for task in self._decided:
            task.decision, task.records = None, []
        for key in dict.fromkeys(task.key for task in self._decided):
            self._undecided[self._is_urgent(key)].append(key)
        self._decided, self._orders = [], {}

    # The inside.

    def _arrived(self, task: Task) -> None:
        """One of the things that a task waited for is there."""
        task.under_way -= 1
        if task.under_way == 0:
            self._undecided[self._is_urgent(task.key)].append(task.key)

    def _begin_questions(self) -> None:
        """Ask again for what a trekkpliktig can read once all that its list showed before the question is committed."""
        for progress in self._rows.values():
            question = progress.open[0][1] if progress.open else None
            if not isinstance(question, OpenQuestion) or question.is_begun:
                continue
            question.is_begun = True
            for key, order in list(self._state.orders.open_orders()):
                if question.question.trekkpliktig in order.readers:
                    self.add(Task(key, requests=(question.question.request,)))
                    question.tries += 1

    def _next_task(self, key: bytes) -> Task | None:
        """The first task of this order that is not decided on, None if it waits for versions."""
        for task in self._queues.get(key, ()):
            if task.decision is None:
                return task if task.under_way == 0 else None
        return None

    def _is_urgent(self, key: bytes) -> bool:
        """Whether anything urgent of this order is not decided on: then what came before it is urgent too."""
        return any(each.is_urgent for each in self._queues[key] if not each.is_settled)

    def _next_wanted(self) -> list[Wanted]:
        """What is requested now: all that is urgent, and of the rest, in the order it came, as much as has room."""
        found: list[Wanted] = []
        for is_urgent, waiting in self._wanted.items():
            while waiting and (is_urgent or self._versions_under_way < VERSIONS_UNDER_WAY_MAX):
                found.append(waiting.popleft())
                self._versions_under_way += len(found[-1].versions)
        return found

    def _decide(self, task: Task, now: int) -> None:
        order = self._orders.get(task.key) or self._state.orders.order(task.key)
        try:
            decision, task.records = decide_encodable(
                lambda versions: task.decide(order, versions, now),
                task.versions,
                task.reader,
                lambda decision: self._encode(task, order, decision),
            )
        except RejectedTrekkpaaleggError as error:
            if task.release is None:
                raise
            decision, task.records = Decision(order), task.release.results(error)
        else:
            if task.release is not None and decision.is_final:
                task.records += task.release.results(decision)
        if not decision.is_final:
            self._want(task, decision, order)
            return
        task.decision = decision
        self._decided.append(task)
        if decision.order != order:
            self._orders[task.key] = decision.order
        if len(self._queues[task.key]) > 1:
            self._undecided[self._is_urgent(task.key)].append(task.key)

    def _want(self, task: Task, decision: Decision, order: OrderState) -> None:
        """Have what the decision wants fetched and looked up; the task waits for it."""
        task.under_way = len(decision.wanted)
        if decision.wanted:
            readers = tuple(dict.fromkeys(filter(self._is_served, (*filter(None, [task.reader]), *order.readers))))
            is_urgent = self._is_urgent(task.key)
            self._wanted[is_urgent].append(Wanted(task, decision.wanted, readers, is_urgent))
        if decision.wanted_history is not None:
            task.under_way += 1
            self._looked_up.append(LookUp(task, decision.wanted_history))

    def _plan_tries(self) -> None:
        for key, order in self._state.orders.open_orders():
            self._plan_try(key, order)

    def _plan_try(self, key: bytes, order: OrderState) -> None:
        if not order.is_open:
            self._due.pop(key, None)
            return
        due = self._due_at(order)
        if self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._tries, (due, key))

    def _due_at(self, order: OrderState) -> int:
        if order.tried_at is None or order.tried_at > self._now:
            return 0
        if order.seen > order.trekkversjon:
            failing = order.tried_at - min((each.since for each in order.failing), default=order.tried_at)
            return order.tried_at + min(max(failing, FAILING_PAUSE_MIN), FAILING_PAUSE_MAX)
        return order.tried_at + self._missing_pause

    def _count_tries(self) -> None:
        """Keep of each question how many of the tries that it caused are open."""
        waiting: dict[str, int] = {}
        for queue in self._queues.values():
            for task in queue:
                if task.row is None:
                    for request in task.requests:
                        waiting[request] = waiting.get(request, 0) + 1
        for progress in self._rows.values():
            for _, each in progress.open:
                if isinstance(each, OpenQuestion):
                    each.tries = waiting.get(each.question.request, 0)
