"""Run the producer: one worker and its lanes, as the service or for a single command."""

from __future__ import annotations

import random
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import structlog

from producer.domain.identity import Identity
from producer.group.slots import WorkerSlots
from producer.group.worker import ALONE_TRIES_MAX, TIMES, LaneWorker
from producer.lane.calls import CallPool
from producer.lane.lane import Lane, LaneParts, RoundEnd
from producer.lane.priority import TransactionPriority
from producer.lane.reading import LaneOptions
from producer.lane.schedule import OnRequestSchedule, RoundSchedule, Schedule
from producer.settings.trekkpliktige import AllTrekkpliktige, ServedTrekkpliktige
from producer.source.parse.page import read_element
from trekkpaalegg.errors import FatalError, RefusedError, RetryableError
from trekkpaalegg.kafka.properties import tolerate_renewal

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Container

    from producer.domain.trekkpaalegg import Element, Fetched
    from producer.group.port import Membership
    from producer.lane.commit import RecordBuilder
    from producer.lane.lane import FindPublished
    from producer.lane.outbox import SignalWriter
    from producer.lane.pulling import PullParts
    from producer.lane.releasing import Quarantine
    from producer.lane.repairing import FindLost
    from producer.observe.port import Observer
    from producer.publish.plain_log import PlainLog
    from producer.publish.port import LanePublisher, ObservationReader, ObservationWriter
    from producer.settings.model import Settings
    from producer.source.port import Page, TrekkpaaleggSource
    from trekkpaalegg.errors import TrekkpaaleggError

START_PAUSE_SECONDS = 2.0
LIST_INTERVAL_SECONDS = 5.0
FOUND_SECONDS_MAX = 10.0
WORKER_BEAT = "worker"

_log = structlog.get_logger(__name__)


class LoopObserver(Protocol):
    """Observes the loops of a service. Any thread may call it."""

    def beat(self, loop: str) -> None:
        """The loop has started another turn."""

    def ended(self, loop: str) -> None:
        """The loop has ended on purpose."""

    def ready(self, what: str, missing: str | None) -> None:
        """What keeps the service from being ready; None if nothing of this kind does any more."""


class FoundCluster(msgspec.Struct, frozen=True):
    """The cluster as found: whose topics it has, the largest batch every topic takes, and what makes it less safe."""

    identity: Identity
    batch_bytes_max: int
    warnings: tuple[str, ...] = ()

    @property
    def lanes(self) -> int:
        """The number of lanes."""
        return self.identity.lanes


class ServiceParts(NamedTuple):
    """What a service is made of; `bootstrap.build_service` builds it. Functions build what needs Kafka's answer.

    `served` and `source` are None for a command that reads nothing, `pull` unless events are polled.
    """

    served: ServedTrekkpliktige | None
    source: TrekkpaaleggSource | None
    pull: PullParts | None
    find_cluster: Callable[[], FoundCluster]
    count_members: Callable[..., int]
    build_membership: Callable[[Callable[[TrekkpaaleggError | None], None]], Membership]
    build_records: Callable[[FoundCluster], RecordBuilder]
    build_publisher: Callable[[FoundCluster, int, Membership], LanePublisher]
    build_observation_reader: Callable[[int], ObservationReader]
    build_plain_log: Callable[[], PlainLog]
    build_writers: Callable[[PlainLog], tuple[ObservationWriter, SignalWriter]]
    build_quarantine: Callable[[TrekkpaaleggSource], Quarantine]
    find_published: FindPublished
    find_lost: FindLost


class NullLoopObserver:
    """Watches nothing."""

    def beat(self, loop: str) -> None:
        """Ignore."""

    def ended(self, loop: str) -> None:
        """Ignore."""

    def ready(self, what: str, missing: str | None) -> None:
        """Ignore."""


class ProducerService:
    """One worker and its lanes.

    With `once` it ends when every trekkpliktig has been read to its end. With `errand` it carries out operator requests
    until it is stopped, and reads only the trekkpliktige in `errand`, when a request needs it.
    """

    def __init__(
        self,
        settings: Settings,
        parts: ServiceParts,
        observer: Observer,
        watch: LoopObserver,
        stopping: threading.Event,
        *,
        once: bool = False,
        errand: frozenset[str] | None = None,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._observer = observer
        self._watch = watch
        self._stopping = stopping
        self._once = once
        self._errand = errand
        self._served = parts.served
        self._source: TrekkpaaleggSource = parts.source or _NoSource()
        self._priority = TransactionPriority()
        self._pool = CallPool(settings.calls_share, self._priority.bulk_calls_max)
        self._lanes: dict[int, Lane] = {}
        self._reasons: dict[int, str | None] = {}
        self._kafka_trouble: str | None = None
        self._list_checked_at = 0.0
        self._found: tuple[FoundCluster, RecordBuilder] | None = None
        self._found_at = 0.0
        self._slots = WorkerSlots(
            None if self._is_command else settings.workers,
            parts.count_members,
            lambda: watch.beat(WORKER_BEAT),
            stopping,
        )
        self._options = LaneOptions(
            served=self._served if self._served is not None else AllTrekkpliktige(),
            overlap_sekvensnummer=settings.overlap_sekvensnummer,
            reconcile_interval_seconds=settings.reconcile_interval_seconds,
            now=now_microseconds,
        )
        self.rounds: dict[int, RoundSchedule] = {}
        self._writers: tuple[ObservationWriter, SignalWriter]
        self._round_end: RoundEnd | None = None

    @property
    def served(self) -> Container[str]:
        """The trekkpliktige that are served now."""
        return self._options.served

    def run(self) -> None:
        """Run until stopped, or until the round is done. Raises what `LaneWorker.run` raises."""
        found = self._await()
        if found is None:
            return
        self._watch.ready("start", None)
        self._observer.lanes_found(found.lanes)
        if found.warnings:
            _log.warning("the topics are less safe than they can be", reason="; ".join(found.warnings))
        if self._once:
            self._round_end = RoundEnd(found.lanes)
        log = self._parts.build_plain_log()
        self._writers = self._parts.build_writers(log)
        try:
            while self._slots.await_slot() and self._work(found).is_surplus:
                self._watch.ready("lanes", None)
        finally:
            log.close()
            # Also if nobody has stopped us: it interrupts calls in progress, for which the process would wait.
            self._stopping.set()
            self._pool.shutdown()
            if self._parts.pull is not None:
                self._parts.pull.pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, found: FoundCluster) -> LaneWorker:
        """Join the group and work until stopped, done, or one worker too many; then leave the group."""
        membership = self._parts.build_membership(self._report_group_trouble)
        worker = LaneWorker(
            membership,
            lambda lane: self._make_lane(lane, membership),
            found.lanes,
            self._stopping,
            lambda: self._turn(found.lanes, membership, worker),
            alone=self._once,
            times=msgspec.structs.replace(TIMES, tries_max=ALONE_TRIES_MAX if self._is_command else None),
            waits=self._report_waiting,
            may_work=self._slots.may_work,
        )
        try:
            worker.run()
        finally:
            worker.leave()
        return worker

    @property
    def _is_command(self) -> bool:
        return self._once or self._errand is not None

    def _turn(self, lanes: int, membership: Membership, worker: LaneWorker) -> None:
        self._watch.beat(WORKER_BEAT)
        self._report_kafka(membership.trouble())
        waiting = [f"lane {lane}: {reason}" for lane, reason in worker.waiting_lanes().items()]
        self._watch.ready("lanes", "; ".join(waiting) or None)
        now = time.monotonic()
        if self._served is None or self._is_command or now - self._list_checked_at < LIST_INTERVAL_SECONDS:
            return
        self._list_checked_at = now
        if self._served.refresh():
            for number, lane in self._lanes.items():
                lane.set_trekkpliktige(self._served.in_lane(number, lanes))

    def _report_kafka(self, trouble: str | None) -> None:
        if trouble == self._kafka_trouble:
            return
        if trouble is None:
            _log.info("Kafka answers again")
        else:
            _log.warning("Kafka does not answer", reason=trouble)
        self._kafka_trouble = trouble
        self._watch.ready("kafka", trouble)

    def _report_waiting(self, lane: int, reason: str | None) -> None:
        self._reasons[lane] = reason
        self._watch.ready(lane_name(lane), reason)

    def _report_group_trouble(self, trouble: TrekkpaaleggError | None) -> None:
        """Report trouble with the group, or its end. A command ends if it is refused: waiting would only hide that."""
        if self._is_command and isinstance(trouble, RefusedError):
            raise FatalError(str(trouble)) from trouble
        if trouble is None:
            _log.info("Kafka can be used again")
        else:
            _log.warning("Kafka cannot be used now", reason=str(trouble))
        self._watch.ready("Kafka", None if trouble is None else str(trouble))

    def _await(self) -> FoundCluster | None:
        """The cluster, as soon as it is found; None if stopped before. Commands do not wait."""
        has_waited = False
        while not self._stopping.is_set():
            self._watch.beat(WORKER_BEAT)
            try:
                with tolerate_renewal() if has_waited else nullcontext():
                    return self._parts.find_cluster()
            except RetryableError as error:
                if self._is_command:
                    raise
                has_waited = True
                _log.warning("cannot start yet", reason=str(error))
                self._watch.ready("start", str(error))
                self._stopping.wait(START_PAUSE_SECONDS)
        return None

    def _make_lane(self, number: int, membership: Membership) -> Lane:
        """A lane that is not acquired yet."""
        found, records = self._surroundings()
        schedule: Schedule
        served = self._served.in_lane(number, found.lanes) if self._served is not None else []
        if self._once:
            schedule = self.rounds[number] = RoundSchedule(random.random)
        elif self._errand is not None:
            schedule = OnRequestSchedule(random.random)
            served = [each for each in served if each in self._errand]
        else:
            schedule = Schedule(self._settings.poll_interval_seconds, random.random)
        schedule.set_trekkpliktige(served, time.monotonic())
        publisher = self._parts.build_publisher(found, number, membership)
        understand = self._parts.build_quarantine(self._source).understand
        observations = self._parts.build_observation_reader(number) if self._parts.source is not None else None
        parts = LaneParts(
            *(self._source, self._pool, publisher, observations, self._parts.find_published, *self._writers, records),
            *(schedule, self._observer, self._priority, self._parts.pull, understand, self._round_end),
            self._parts.find_lost,
        )
        options = msgspec.structs.replace(self._options, lanes=found.lanes)
        watch = _LaneWatch(self._watch, number, self._reasons.pop(number, None))
        lane = self._lanes[number] = Lane(number, parts, options, watch)
        return lane

    def _surroundings(self) -> tuple[FoundCluster, RecordBuilder]:
        """The limits of the topics and the registry's ids, found again if a lane starts later than the others."""
        now = time.monotonic()
        if self._found is None or now - self._found_at > FOUND_SECONDS_MAX:
            with tolerate_renewal():
                found = self._parts.find_cluster()
            self._found, self._found_at = (found, self._parts.build_records(found)), now
        return self._found


class _NoSource:
    """Implements `TrekkpaaleggSource` for a command that does not read anything."""

    def fetch_page(self, trekkpliktig: str, cursor: int) -> Page:
        raise FatalError(f"this command reads nothing, but a page of {trekkpliktig} from {cursor} was requested")

    def fetch_trekkpaalegg(self, trekkpliktig: str, trekkid: str, trekkversjon: int) -> Fetched:
        raise FatalError(f"this command reads nothing, but {trekkpliktig}'s {trekkid}/{trekkversjon} was requested")

    def read_element(self, raw: bytes, trekkpliktig: str) -> Element:
        return read_element(raw, trekkpliktig)

    def preparation(self, trekkpliktig: str) -> None:
        pass


def now_microseconds() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def lane_name(lane: int) -> str:
    """The name of a lane's loop in a `LoopObserver`."""
    return f"lane-{lane}"


class _LaneWatch:
    """Watches one lane: it is ready from its first turn until it ends. `reason` is why it ended before, if it did."""

    def __init__(self, watch: LoopObserver, lane: int, reason: str | None = None) -> None:
        self._watch = watch
        self._name = lane_name(lane)
        self._is_ready = False
        watch.ready(self._name, "not acquired yet" if reason is None else f"not acquired again yet: {reason}")

    def beat(self) -> None:
        self._watch.beat(self._name)
        if not self._is_ready:
            self._is_ready = True
            self._watch.ready(self._name, None)

    def ended(self) -> None:
        self._watch.ended(self._name)
        self._watch.ready(self._name, None)
