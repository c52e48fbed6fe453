"""A synthetic stream of events from a seed, in memory or in the event topics of a prefix, as a producer writes it.

For tests of consumers and measurements: late versions, corrections and holes come as often as is asked for, and
nothing of the producer but its encoder is needed.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any, Self

import msgspec
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

import schemas
from producer.admin.kafka import KafkaAdmin
from producer.detect.rebuild import RebuiltOrders
from producer.domain.trekkpaalegg import Origin, Publication, Trekkpaalegg
from producer.encode.avro import compile_encoder, confluent_prefix, single_object_prefix
from producer.encode.event import EventEncoder
from producer.publish.state import order_record
from producer.publish.topics import Topics, home_of, wanted_topics
from producer.source.parse.page import read_trekkpaalegg
from sandbox.skatteetaten.generate import generate_versions, trekkpliktige
from sandbox.skatteetaten.wire import PLAIN
from trekkpaalegg.decode import Decoder
from trekkpaalegg.incoming import Coordinates, IncomingEvent
from trekkpaalegg.kafka.clients import create_producer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandbox.skatteetaten.wire import Shape

API_URL = "http://127.0.0.1/api/trekkpaalegg/v1"
TRANSACTION_RECORDS_MAX = 10_000
_CALL_SECONDS_MAX = 30.0
_SCHEMA = schemas.load("trekkpaalegg_versjon")


class Roughness(msgspec.Struct, frozen=True):
    """What share of the versions is late, corrected (once or more) or never published (a hole)."""

    late: float = 0.0
    corrected: float = 0.0
    missing: float = 0.0


SMOOTH = Roughness()
ROUGH = Roughness(late=0.08, corrected=0.1, missing=0.04)


def make_stream(
    seed: int,
    orders: int,
    *,
    employers: int = 10,
    versions_max: int = 4,
    roughness: Roughness = SMOOTH,
    shape: Shape = PLAIN,
) -> list[Publication]:
    """The events of so many orders, in an order in which a producer may have published them.

    A late version comes somewhere after the next one of its order, a correction somewhere after what it corrects.
    `current` is set where the event is the newest of its order when it comes.
    """
    random = Random(f"stream {seed}")
    placed: list[tuple[float, Publication]] = []
    versions = list(
        generate_versions(seed, trekkpliktige(seed, employers), orders, versions_max=versions_max, shape=shape)
    )
    newest = {version.trekkid: version.trekkversjon for version in versions}
    for place, version in enumerate(versions):
        trekkpaalegg = read_trekkpaalegg(version.body, version.owner)
        if not isinstance(trekkpaalegg, Trekkpaalegg):
            raise TypeError("the generator made a version that is rejected")
        is_newest = newest[version.trekkid] == version.trekkversjon
        if random.random() < roughness.missing and not is_newest:
            continue
        late = random.random() < roughness.late and not is_newest
        at = len(versions) + random.random() if late else float(place)
        placed.append((at, Publication(trekkpaalegg, Origin.POLL, late=late)))
        correction = 0
        while random.random() < roughness.corrected:
            correction += 1
            at += random.random() * (len(versions) + 1 - at)
            placed.append(
                (at, Publication(_corrected(trekkpaalegg, correction), Origin.RELEASE, correction=correction))
            )
    placed.sort(key=lambda each: each[0])
    return _with_current([publication for _, publication in placed])


def _corrected(trekkpaalegg: Trekkpaalegg, correction: int) -> Trekkpaalegg:
    """The version with other content: its periods carry other amounts, and it says which correction it is."""
    return msgspec.structs.replace(
        trekkpaalegg,
        saksnummer=f"{trekkpaalegg.saksnummer or 'SAK'}/{correction}",
        trekkstoerrelse_for_periode=tuple(
            msgspec.structs.replace(periode, trekkbeloep=periode.trekkbeloep + Decimal("0.5") * correction)
            if periode.trekkbeloep is not None
            else periode
            for periode in trekkpaalegg.trekkstoerrelse_for_periode
        ),
    )


def _with_current(publications: Iterable[Publication]) -> list[Publication]:
    newest: dict[str, tuple[int, int]] = {}
    marked = []
    for each in publications:
        version = (each.trekkpaalegg.trekkversjon, each.correction or 0)
        current = version >= newest.get(each.trekkpaalegg.trekkid, (0, 0)) and not each.late
        if current:
            newest[each.trekkpaalegg.trekkid] = version
        marked.append(msgspec.structs.replace(each, current=current))
    return marked


def incoming_of(
    publications: Sequence[Publication], *, topic: str = "test-versjoner", partitions: int = 1, first_offset: int = 0
) -> list[IncomingEvent]:
    """The events as a consumer decodes them, without a Kafka in between; spread over partitions by order."""
    encode = event_encoder().encode
    decode = Decoder().decode_trekkpaalegg_versjon
    next_offsets = dict.fromkeys(range(partitions), first_offset)
    made = []
    for each in publications:
        encoded = encode(each)
        partition = sum(encoded.key) % partitions
        place = Coordinates(topic, partition, next_offsets[partition])
        next_offsets[partition] += 1
        made.append(IncomingEvent(place, decode(encoded.value), each.late, each.correction or 0))
    return made


def event_encoder(schema_id: int | None = None) -> EventEncoder:
    """The producer's encoder: Confluent's wire format with a schema id, single-object encoding without."""
    prefix = single_object_prefix(_SCHEMA.fingerprint) if schema_id is None else confluent_prefix(schema_id)
    return EventEncoder(API_URL, compile_encoder(_SCHEMA, prefix), _SCHEMA.fingerprint)


class EventTopics:
    """The event topics of one prefix on a real Kafka, written to in transactions, and `…-positions`.

    With `registry_url` the values are in Confluent's wire format, else in single-object encoding. Without `with_state`
    nothing but whose topics these are is written to `…-positions`. Leave it with `close`, or use it as a context.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        prefix: str,
        *,
        partitions: int = 3,
        registry_url: str | None = None,
        with_state: bool = True,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.prefix = prefix
        self.topics = Topics.of(prefix)
        self.settings: dict[str, str] = {
            "KAFKA_BROKERS": bootstrap_servers,
            "TREKKPAALEGG_TOPIC_PREFIX": prefix,
            **({"KAFKA_SCHEMA_REGISTRY": registry_url} if registry_url else {}),
        }
        """What a consumer of these topics needs in its environment."""
        _create_topics(bootstrap_servers, prefix, partitions)
        self._partitions = partitions
        self._published = RebuiltOrders() if with_state else None
        self.encoders = dict.fromkeys((self.topics.versjoner, self.topics.gjeldende), event_encoder())
        if registry_url:
            self.encoders = _registered(registry_url, self.encoders)
        self._producer = create_producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "transactional.id": f"{prefix}-event-stream",
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._producer.init_transactions(_CALL_SECONDS_MAX)

    def write(self, publications: Sequence[Publication], *, gjeldende: bool = True, commits: bool = True) -> None:
        """All events, in transactions of `TRANSACTION_RECORDS_MAX`; those that are `current` to both topics.

        `gjeldende` false leaves out that topic; `commits` false aborts instead.
        """
        for start in range(0, len(publications), TRANSACTION_RECORDS_MAX):
            batch = publications[start : start + TRANSACTION_RECORDS_MAX]
            self._producer.begin_transaction()
            for each in batch:
                encoded = self.encoders[self.topics.versjoner].encode(each)
                self._produce(self.topics.versjoner, encoded.value, encoded.key, encoded.headers)
                if gjeldende and each.current:
                    encoded = self.encoders[self.topics.gjeldende].encode(each)
                    self._produce(self.topics.gjeldende, encoded.value, encoded.key, encoded.headers)
            if self._published is not None and commits:
                self._remember(self._published, batch)
            self._end(commits=commits)

    def write_raw(
        self,
        value: bytes | None,
        *,
        key: bytes | None = b"unknown",
        headers: Mapping[str, bytes] | None = None,
        topic: str | None = None,
        partition: int = -1,
    ) -> None:
        """One message as it is, in a transaction of its own; `topic` defaults to `…-versjoner`."""
        self._producer.begin_transaction()
        self._producer.produce(
            topic or self.topics.versjoner, value, key, headers=list((headers or {}).items()), partition=partition
        )
        self._end(commits=True)

    def close(self) -> None:
        """Leave Kafka; the topics stay."""
        self._producer.flush(_CALL_SECONDS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remember(self, published: RebuiltOrders, batch: Sequence[Publication]) -> None:
        """The states of the orders of these events, as their homes write them."""
        for each in batch:
            published.add_event(each.trekkpaalegg, each.correction)
        orders = published.orders()
        for key in dict.fromkeys(each.trekkpaalegg.trekkid.encode() for each in batch):
            home = home_of(key, self._partitions)
            record = order_record(self.topics.positions, home, key, orders.order(key))
            self._produce(record.topic, record.value, record.key, partition=home)

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes,
        headers: Mapping[str, bytes] | None = None,
        partition: int = -1,
    ) -> None:
        written: list[tuple[str, Any]] = list((headers or {}).items())
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=written)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _end(self, *, commits: bool) -> None:
        if commits:
            self._producer.commit_transaction(_CALL_SECONDS_MAX)
        else:
            self._producer.flush(_CALL_SECONDS_MAX)
            self._producer.abort_transaction(_CALL_SECONDS_MAX)


def _create_topics(bootstrap_servers: str, prefix: str, partitions: int) -> None:
    names = Topics.of(prefix)
    kept = {names.versjoner, names.gjeldende, names.positions}
    admin = KafkaAdmin({"bootstrap.servers": bootstrap_servers})
    admin.create([each for each in wanted_topics(prefix, partitions=partitions) if each.name in kept])
    admin.record_identity(names.positions, admin.inspect(prefix, f"{prefix}-producer").present)


def _registered(registry_url: str, topics: Iterable[str]) -> dict[str, EventEncoder]:
    declared = Schema(_SCHEMA.canonical_json, "AVRO")
    with SchemaRegistryClient({"url": registry_url}) as registry:
        return {topic: event_encoder(registry.register_schema(f"{topic}-value", declared)) for topic in topics}
