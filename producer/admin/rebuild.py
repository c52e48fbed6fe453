"""Makes the state in `…-positions` again from the history, lane by lane under the fence: `position rebuild`.

The history is the truth: a home has published what is in its partition of `…-versjoner`, and quarantined what is in its
partition of `…-quarantine`. Where the history has lost its beginning, `…-gjeldende` has the newest version of each
order. Of the former state only that is kept which the history cannot say: how far each list was read, what was handed
over, and which versions are missing. So it may be lost, incomplete, old, or of the former layout. Where it is newer
than the history, what it says is published counts as lost, and is published again when a list shows the order.

A reader follows an order that its list has shown, even when the list lacks it later. Where it is lost which orders a
list has shown, events and quarantine records tell it by the employer that they name.

It does no harm to do it again: one that was cut off is completed by the next.
"""

from __future__ import annotations

from array import array
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import IsolationLevel
from msgspec.structs import astuple

from producer.admin.kafka import KafkaAdmin
from producer.detect.rebuild import UNKNOWN, RebuiltOrders
from producer.detect.repair import rebuilt
from producer.domain.state import NO_ORDER, NOT_HANDED_OVER, ObservationOffsets, OrderState
from producer.domain.trekkpaalegg import RejectionReason
from producer.encode.event import trekkpaalegg_of
from producer.encode.state import decode_former_order, decode_identity
from producer.observe.port import NullObserver
from producer.publish.history import lost_of
from producer.publish.quarantine_log import decode_quarantined
from producer.publish.recovery.events import event_of
from producer.publish.recovery.hanging import find_hanging
from producer.publish.recovery.recover import LaneRecovery, transact
from producer.publish.state import (
    IDENTITY_KEY,
    OBSERVATIONS_KEY,
    REQUEST,
    SEPARATOR,
    handed_over_record,
    identity_record,
    key_values,
    lane_state_of,
    learn,
    observation_offsets_record,
    order_of,
    order_record,
    schema_records,
)
from producer.publish.topics import Topics, home_of, identity_fault, lane_of
from trekkpaalegg.errors import FatalError, UndecodableError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.admin import Admin
from trekkpaalegg.kafka.reader import RangeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Message, Producer

    from producer.domain.identity import Identity
    from producer.domain.state import OrderBook
    from producer.publish.port import Record
    from trekkpaalegg.decode import Decoder

TRANSACTION_SECONDS_MAX = 300
"""The state of a lane is written in one transaction, so that a lane has its former state or all of the new one."""

SHOWN_WAITING_MAX = 10_000

_log = structlog.get_logger(__name__)


class Rebuilt(NamedTuple):
    """How many orders there are, of how many the state was another, and of how many more it was deleted.

    `lost` is of how many the history lacks versions that the former state says are published.
    """

    orders: int
    written: int
    deleted: int
    lost: int


class _Former:
    """What is kept of the former states of all lanes, but for what is read again when its lane is made again.

    By lane: `identities`, `schemas` (fingerprints of those recorded there), and, of the orders at home there, `orders`
    as the former layout recorded them for the list of one employer, and as hashes of record keys, which lists have
    `shown` which orders.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._shown = [array("q") for _ in range(lanes)]
        self._forgotten: list[set[int]] = [set() for _ in range(lanes)]
        self.identities: list[Identity | None] = [None] * lanes
        self.schemas: list[set[bytes]] = [set() for _ in range(lanes)]
        self.orders: list[dict[tuple[bytes, bytes], OrderState]] = [{} for _ in range(lanes)]

    def add(self, lane: int, key: bytes, value: bytes | None) -> None:
        """Add one record of this lane's partition."""
        fingerprint = learn(key, value)
        if fingerprint is not None:
            self.schemas[lane].add(fingerprint)
            return
        trekkpliktig, separator, order = key.partition(SEPARATOR)
        if key == IDENTITY_KEY:
            self.identities[lane] = None if value is None else decode_identity(value)
        if not separator or trekkpliktig in {b"", REQUEST}:
            return
        home = home_of(order, self._lanes)
        self.orders[home].pop((trekkpliktig, order), None)
        if value is None:
            self._forgotten[home].add(hash(key))
            return
        self._shown[home].append(hash(key))
        self._forgotten[home].discard(hash(key))
        former = decode_former_order(value)
        if former is not None and (former.missing or former.rejected or former.corrections):
            self.orders[home][trekkpliktig, order] = former

    def shown(self, home: int) -> set[int]:
        """Hashes of the record keys, trekkpliktig and order, of what lists have shown of the orders at home there."""
        return set(self._shown[home]) - self._forgotten[home]


class StateRebuild:
    """See the module. `identity` is recorded in every lane, and `now` is in microseconds since 1970.

    `watch` is called with the number of records that were read, and of those to be read in all, about. `adopted` are
    the application ids that were recorded, where the identity is to take their place. Used by one thread, once.
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        prefix: str,
        identity: Identity,
        decoder: Decoder,
        now: int,
        watch: Callable[[int, int], None],
        *,
        adopted: Collection[str] | None = None,
    ) -> None:
        self._properties = properties
        self._topics = Topics.of(prefix)
        self._identity = identity
        self._decoder = decoder
        self._now = now
        self._watch = watch
        self._adopted = adopted
        self._admin = Admin(properties)
        self._reader: RangeReader
        self._owners: list[Producer] = []
        self._read = self._total = 0

    def run(self) -> Rebuilt:
        """Make the state of every lane again, that of the first lane last: without it no worker starts.

        Raises `FatalError` if the topics are recorded as others than `identity` says and are not to be adopted, or hold
        records that the state cannot be made from; `LaneFencedError` if a worker has acquired a lane meanwhile;
        `RetryableError` otherwise.
        """
        lanes = range(self._identity.lanes)
        self._total = self._count()
        admin = KafkaAdmin(self._properties)
        name = self._identity.application_id
        for former_name in set(self._adopted or ()) - {name}:
            for lane in lanes:
                admin.fence(f"{former_name}-{lane}")
        self._owners = [admin.fence(f"{name}-{lane}", TRANSACTION_SECONDS_MAX) for lane in lanes]
        with RangeReader(self._properties) as self._reader:
            former = _Former(self._identity.lanes)
            for lane in lanes:
                for key, value in key_values(self._messages(self._topics.positions, lane)):
                    former.add(lane, key, value)
            fault = recorded_fault(former.identities, self._identity)
            if fault is not None and self._adopted is None:
                raise FatalError(fault)
            for lane in lanes:
                if find_hanging(self._properties, self._topics, lane).hanging:
                    recovery = LaneRecovery(self._properties, self._topics, lane, NullObserver())
                    recovery.recover(self._owners[lane])
            for lane in lanes:
                self._write(lane, schema_records(self._topics.positions, lane, former.schemas[lane]))
            of_lanes = [self._rebuild(lane, former) for lane in reversed(lanes)]
        return Rebuilt(*map(sum, zip(*of_lanes, strict=True)))

    def _count(self) -> int:
        topics = self._topics
        read = (topics.positions, topics.positions, topics.versjoner, topics.quarantine)
        places = [Partition(topic, lane) for topic in dict.fromkeys(read) for lane in range(self._identity.lanes)]
        begins, ends = self._admin.begins(places), self._admin.ends(places, IsolationLevel.READ_UNCOMMITTED)
        return sum((ends[each] - begins[each]) * read.count(each.topic) for each in places)

    def _messages(self, topic: str, lane: int) -> Iterator[Message]:
        """Every committed message of the lane's partition."""
        place = Partition(topic, lane)
        [at], [end] = self._admin.begins([place]).values(), self._admin.ends([place]).values()
        for messages in self._reader.read({place: at}, {place: end}):
            at = self._advance(at, (messages[-1].offset() or 0) + 1 if messages else at)
            yield from messages
        self._advance(at, end)

    def _advance(self, at: int, reached: int) -> int:
        self._read += reached - at
        self._watch(self._read, max(self._read, self._total))
        return reached

    def _rebuild(self, lane: int, former: _Former) -> Rebuilt:
        """Read what the lane recorded, then the history, and write in one transaction what differs."""
        positions = self._topics.positions
        recorded = key_values(self._messages(positions, lane))
        of_home = ((key, value) for key, value in recorded if key == OBSERVATIONS_KEY or order_of(key) is not None)
        state = lane_state_of(of_home)
        before = state.orders
        orders = self._orders(lane, before, former)
        if any(home_of(key, self._identity.lanes) != lane for key in orders):
            raise FatalError(
                f"{self._topics.versjoner}/{lane} holds orders that do not belong to it with {self._identity.lanes} "
                "partitions: partitions were added, or it is not the history of these topics; restore it"
            )
        lost = self._keep_lost(lane, before, orders)
        written, deleted = _differences(before, orders)
        reached = state.observations if former.identities[lane] == self._identity else ObservationOffsets()
        observations = observation_offsets_record(positions, lane, self._offsets(lane, reached), self._now)
        # First whose state it is: a start reads no further.
        records = chain(
            [identity_record(positions, lane, self._identity), observations],
            (order_record(positions, lane, key, orders.order(key)) for key in written),
            (order_record(positions, lane, key, None) for key in deleted),
        )
        self._write(lane, records)
        # Whoever acquires the lane compares its last transaction with the history: that should not be all of it.
        self._write(lane, [observations])
        _log.info("state made again", lane=lane, orders=len(orders), written=len(written), deleted=len(deleted))
        return Rebuilt(len(orders), len(written), len(deleted), lost)

    def _keep_lost(self, lane: int, before: OrderBook, orders: OrderBook) -> int:
        """Have versions be missing that the former state says are published and the history lacks; of how many orders.

        As `reconcile --history` finds them: they are published when a list shows the order.
        """
        if not any(_says_more(before.order(key), orders.order(key)) for key in before):
            return 0
        lost = lost_of(self._properties, self._topics, lane, before).orders
        found = {key: each for key, each in lost.items() if each.versions}
        for key, each in found.items():
            orders.remember(key, rebuilt(orders.order(key), before.order(key), each, self._now))
        return len(found)

    def _offsets(self, lane: int, reached: ObservationOffsets) -> ObservationOffsets:
        """Those that the home has reached; the first there are, where it is not known how far it came with these rows.

        What it decides on again does no harm: if a version was corrected meanwhile, its former content is quarantined.
        """
        rows = [Partition(row, lane) for row in (self._topics.observations_urgent, self._topics.observations)]
        begins, ends = self._admin.begins(rows), self._admin.ends(rows)
        return ObservationOffsets(
            *(
                offset if begins[row] <= offset <= ends[row] else begins[row]
                for row, offset in zip(rows, astuple(reached), strict=True)
            )
        )

    def _orders(self, lane: int, before: OrderBook, former: _Former) -> OrderBook:
        """The orders of a lane as the history has them. Writes which lists have shown them, where that was lost."""
        topics, place = self._topics, Partition(self._topics.versjoner, lane)
        is_whole = self._admin.begins([place])[place] == 0 < self._admin.ends([place])[place]
        made = RebuiltOrders(is_whole=is_whole)
        for key in before:
            made.add_former(key, before.order(key))
        for (_, key), order in former.orders[lane].items():
            if before.order(key) == NO_ORDER:
                made.add_former(key, order)
        shown = _Shown(former.shown(lane), topics.positions, self._identity.lanes, self._write)
        for topic in (topics.versjoner,) if is_whole else (topics.versjoner, topics.gjeldende):
            for message in self._messages(topic, lane):
                self._add_event(made, shown, message)
        for message in self._messages(topics.quarantine, lane):
            _add_rejected(made, shown, message)
        shown.flush()
        return made.orders()

    def _add_event(self, made: RebuiltOrders, shown: _Shown, message: Message) -> None:
        event, value = event_of(message), message.value()
        if value is None:
            return
        if event is None:
            _pass_over(message)
            return
        try:
            trekkpaalegg = trekkpaalegg_of(self._decoder.decode_trekkpaalegg_versjon(value))
        except UndecodableError as error:
            raise FatalError(f"{_place_of(message)} cannot be read, and so not what was published: {error}") from error
        made.add_event(trekkpaalegg, event.correction)
        shown.add(trekkpaalegg.trekkpliktig, event.order)

    def _write(self, lane: int, records: Iterable[Record]) -> None:
        transact(self._owners[lane], lane, records)


class _Shown:
    """Which lists have shown the orders of one home, as hashes of record keys. Writes those that are not among `known`.

    A list counts as one that has shown an order if an event or a quarantine record of the order names its employer.
    """

    def __init__(
        self, known: set[int], positions: str, lanes: int, write: Callable[[int, Iterable[Record]], None]
    ) -> None:
        self._known = known
        self._positions = positions
        self._lanes = lanes
        self._write = write
        self._waiting: list[list[Record]] = [[] for _ in range(lanes)]
        self._added = 0

    def add(self, trekkpliktig: str, key: bytes) -> None:
        """The list of this trekkpliktig has shown the order with this key. One without a trekkid is never followed."""
        hashed = hash(trekkpliktig.encode() + SEPARATOR + key)
        if hashed in self._known or key.startswith(b"#"):
            return
        self._known.add(hashed)
        lane = lane_of(trekkpliktig, self._lanes)
        self._waiting[lane].append(handed_over_record(self._positions, lane, trekkpliktig, key, NOT_HANDED_OVER))
        self._added += 1
        if self._added % SHOWN_WAITING_MAX == 0:
            self.flush()

    def flush(self) -> None:
        """Write what waits, each in the lane that reads the list."""
        for lane, records in enumerate(self._waiting):
            if records:
                self._write(lane, records)
                self._waiting[lane] = []


def recorded_fault(recorded: Sequence[Identity | None], present: Identity) -> str | None:
    """Why what the lanes have recorded keeps their state from being made again, and the remedy; None if nothing does.

    Where a lane has recorded nothing the topics cannot be adopted, so another cluster or other topics are no fault.
    """
    there = [each for each in recorded if each is not None]
    if len(there) == len(recorded):
        return next(filter(None, (identity_fault(each, present) for each in there)), None)
    former = {each.application_id for each in there} - {present.application_id}
    if not former:
        return None
    application_id = min(former)
    return (
        f"the topics are recorded as those of {application_id}: make the state again as that, with "
        f"TREKKPAALEGG_APPLICATION_ID={application_id}, then run `trekkpaalegg-producer topics adopt` as "
        f"{present.application_id}"
    )


def _says_more(former: OrderState, order: OrderState) -> bool:
    """Whether the former state may say of a version that it is published which the history lacks."""
    return former.trekkversjon > order.trekkversjon or any(each.reason == UNKNOWN for each in order.missing)


def _differences(before: OrderBook, after: OrderBook) -> tuple[list[bytes], list[bytes]]:
    """The keys of the orders whose state is to be written, and of those whose state is to be deleted."""
    written = [key for key in after if after.order(key) != before.order(key)]
    return written, [key for key in before if after.order(key) == NO_ORDER]


def _add_rejected(made: RebuiltOrders, shown: _Shown, message: Message) -> None:
    rejected = event_of(message, is_rejected=True)
    if rejected is None or rejected.rejected is None:
        _pass_over(message)
        return
    record = decode_quarantined(message)
    is_believed = record.reason != RejectionReason.VERSION_JUMP.value
    trekkversjon = record.trekkversjon if is_believed else None
    made.add_rejected(rejected.order, rejected.rejected, trekkversjon, record.trekkpliktig)
    shown.add(record.trekkpliktig, rejected.order)


def _pass_over(message: Message) -> None:
    _log.warning("a record that is none of the producer's is passed over", where=_place_of(message))


def _place_of(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}, offset {message.offset()},"
