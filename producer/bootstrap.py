"""Building adapters from settings, for the service and for commands: the only place that builds them.

Those that talk HTTP are imported where they are built, so that a command starts without those that it does not use.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

import schemas
from producer.admin.acls import AclAdmin, operations_needed
from producer.admin.copy import TopicsCopy
from producer.admin.kafka import KafkaAdmin
from producer.admin.rebuild import StateRebuild
from producer.encode.avro import compile_encoder, confluent_prefix, single_object_prefix
from producer.encode.event import EVENT_BYTES_MAX, EventEncoder
from producer.encode.rejected import RejectedEncoder
from producer.group.membership import KafkaMembership
from producer.lane.commit import RecordBuilder
from producer.lane.pulling import PullParts
from producer.lane.releasing import Quarantine
from producer.observe.port import NullObserver
from producer.publish.availability import ExplainedPublisher, find_standstill
from producer.publish.history import lost_of, published_of
from producer.publish.kafka import KafkaLanePublisher
from producer.publish.observations import KafkaObservationReader, KafkaObservationWriter
from producer.publish.plain_log import PlainLog, SignalLog
from producer.publish.quarantine_log import read_one, read_quarantine
from producer.publish.recovery.recover import single_broker_warnings
from producer.publish.state import read_lane_state
from producer.publish.topics import Topics, durability_warnings, lane_fault, rebuild_faults, start_faults
from producer.service import FoundCluster, NullLoopObserver, ProducerService, ServiceParts
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import FatalError, SettingsError
from trekkpaalegg.kafka.clients import create_producer
from trekkpaalegg.kafka.properties import kafka_properties, tolerate_renewal
from trekkpaalegg.kafka.reader import Follower
from trekkpaalegg.retry import short_retry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Container, Iterable, Iterator

    import httpx
    from confluent_kafka import Producer

    from producer.admin.doctor import Adapters
    from producer.domain.state import LaneState, OrderBook
    from producer.group.port import Membership
    from producer.lane.outbox import SignalWriter
    from producer.notifications.client import AltinnClient
    from producer.notifications.port import EventFeed
    from producer.notifications.subscriptions import SubscriptionKeeper
    from producer.observe.health import ProducerHealth
    from producer.observe.port import Observer
    from producer.observe.prometheus import PrometheusObserver
    from producer.publish.kafka import ConnectionLog, MakeProducer
    from producer.publish.port import LanePublisher, Loss, ObservationReader, ObservationWriter
    from producer.publish.quarantine_log import QuarantinedRecord
    from producer.publish.topics import FoundTopics
    from producer.service import LoopObserver
    from producer.settings.model import Settings
    from producer.source.auth.maskinporten import MaskinportenTokens, WellKnown
    from producer.source.port import TrekkpaaleggSource
    from trekkpaalegg.errors import TrekkpaaleggError
    from trekkpaalegg.http import HealthServer, HttpServer
    from trekkpaalegg.registry import SchemaRegistry
    from trekkpaalegg.trekkpliktige import Trekkpliktig

RECORD_OVERHEAD_BYTES = 4096
"""Kept free below a topic's limit for what headers and framing add to a value."""

BATCH_BYTES_MAX = 1_000_000

_log = structlog.get_logger(__name__)


def find_cluster(settings: Settings) -> FoundCluster:
    """Check the topics before anything is written.

    Raises `FatalError` that names every fault and its remedy, as `start_faults`; `RetryableError` when Kafka does not
    answer, as `RefusedError` that names every right on them that is missing.
    """
    properties = kafka_properties(settings)
    admin = KafkaAdmin(properties)
    needed = operations_needed(Topics.of(settings.topic_prefix))
    found = admin.inspect(settings.topic_prefix, settings.application_id, needed, in_full=False)
    faults = start_faults(settings.topic_prefix, found)
    if faults:
        raise FatalError("; ".join(faults))
    topics = found.topics
    smallest = min(int(topic.config.get("max.message.bytes", BATCH_BYTES_MAX)) for topic in topics.values())
    warnings = durability_warnings(topics, len(admin.broker_addresses())) + single_broker_warnings(properties)
    return FoundCluster(found.present, min(smallest, BATCH_BYTES_MAX), tuple(warnings))


def find_history(settings: Settings) -> FoundTopics:
    """The topics that the state is to be made again from. Raises as `find_cluster`, for the faults of this."""
    prefix = settings.topic_prefix
    admin = build_admin(settings)
    found = admin.present(prefix, settings.application_id, operations_needed(Topics.of(prefix)))
    faults = rebuild_faults(prefix, found)
    if faults:
        raise FatalError("; ".join(faults))
    return found


@contextmanager
def open_rebuild(
    settings: Settings,
    found: FoundTopics,
    now: int,
    watch: Callable[[int, int], None],
    adopted: Collection[str] | None = None,
) -> Iterator[StateRebuild]:
    """What makes the state again from the history; `watch` and `adopted` as of `StateRebuild`."""
    with build_registry(settings) if settings.kafka_schema_registry else nullcontext() as registry:
        properties, decoder = kafka_properties(settings), Decoder(registry)
        yield StateRebuild(properties, settings.topic_prefix, found.present, decoder, now, watch, adopted=adopted)


def build_copy(settings: Settings, former: Settings, prefix: str) -> TopicsCopy:
    """What copies the topics that begin with `prefix`, on the Kafka of the settings `former`, to ours."""
    return TopicsCopy(kafka_properties(former), prefix, kafka_properties(settings), settings.topic_prefix)


def build_admin(settings: Settings, role: str = "producer") -> KafkaAdmin:
    """The client that administers topics. `role`: whose rights it needs, as `acls apply` names them."""
    return KafkaAdmin(kafka_properties(settings), role=role)


def build_acl_admin(settings: Settings) -> AclAdmin:
    """The client that administers rights on Kafka."""
    return AclAdmin(kafka_properties(settings))


def build_follower(settings: Settings, topics: Iterable[str]) -> Follower:
    """Reads what is committed to the topics from now on; to be closed."""
    return Follower(kafka_properties(settings), list(topics), "end", role="producer")


def read_state(settings: Settings, lane: int) -> LaneState:
    """The committed state of a lane, as `read_lane_state`."""
    return read_lane_state(kafka_properties(settings), Topics.of(settings.topic_prefix).positions, lane)


def read_quarantined(settings: Settings, lanes: int) -> Iterator[QuarantinedRecord]:
    """Every record of the quarantine, as `read_quarantine`."""
    return read_quarantine(kafka_properties(settings), Topics.of(settings.topic_prefix).quarantine, lanes)


def read_quarantined_one(settings: Settings, partition: int, offset: int) -> QuarantinedRecord:
    """One record of the quarantine, as `read_one`."""
    return read_one(kafka_properties(settings), Topics.of(settings.topic_prefix).quarantine, partition, offset)


def group_members(settings: Settings, *, but_us: bool = False) -> int:
    """How many workers of the application are live now; without the one of our own instance id, where `but_us`."""
    instance_id = settings.instance_id if but_us else None
    return build_admin(settings).group_members(settings.application_id, but=instance_id)


def build_source(
    settings: Settings, observer: Observer, served: ServedTrekkpliktige, stopping: threading.Event
) -> TrekkpaaleggSource:
    """The source that the settings name. Raises `SettingsError` for a key that cannot sign."""
    from producer.source.client import SkatteetatenClient
    from producer.source.http import open_http_client
    from producer.source.polling import PollingSource

    http = open_http_client(settings.calls_share, stopping)
    tokens = _maskinporten_tokens(settings, http, settings.maskinporten_scopes, served.external_ref_of, observer)
    client = SkatteetatenClient(
        http,
        settings.api_url,
        tokens,
        max_concurrent_calls=settings.calls_share,
        observer=observer,
    )
    return PollingSource(client, short_retry(stopping), maks_antall=settings.maks_antall)


def build_quarantine(settings: Settings, source: TrekkpaaleggSource) -> Quarantine:
    """The quarantine as a release reads it."""
    return Quarantine(kafka_properties(settings), Topics.of(settings.topic_prefix).quarantine, source)


def find_lost(settings: Settings, lane: int, orders: OrderBook) -> Loss:
    """What the topics have lost of these orders, which are at home in this lane; as `lost_of`."""
    return lost_of(kafka_properties(settings), Topics.of(settings.topic_prefix), lane, orders)


def find_published(
    settings: Settings, lane: int, wanted: Collection[tuple[bytes, int]]
) -> dict[tuple[bytes, int], set[bytes]]:
    """What was published of these versions of orders that are at home in this lane; as `published_of`."""
    with tolerate_renewal():
        properties = kafka_properties(settings)
    return published_of(properties, Topics.of(settings.topic_prefix).versjoner, lane, wanted)


def build_plain_log(settings: Settings) -> PlainLog:
    """Writes outside of transactions; to be closed."""
    return PlainLog(lambda: kafka_properties(settings))


@contextmanager
def open_signal_log(settings: Settings) -> Iterator[SignalLog]:
    """Where signals are stored, from outside of the lanes."""
    with build_plain_log(settings) as log:
        yield SignalLog(log, Topics.of(settings.topic_prefix).signals)


def build_observation_reader(settings: Settings, lane: int) -> ObservationReader:
    """What the home of this lane reads; not yet started."""
    return KafkaObservationReader(kafka_properties(settings), Topics.of(settings.topic_prefix), lane)


def build_writers(settings: Settings, log: PlainLog) -> tuple[ObservationWriter, SignalWriter]:
    """What lanes write outside of transactions: observations for homes, and signals."""
    topics = Topics.of(settings.topic_prefix)
    return KafkaObservationWriter(log, topics), SignalLog(log, topics.signals)


def build_receiver(settings: Settings, served: Container[str], signals: SignalLog, observer: Observer) -> HttpServer:
    """The server that Altinn calls, not yet started."""
    from producer.notifications.receiver import Gate, Receiver, receiver_server

    secret = settings.webhook_secret
    gate = Gate(
        secret.get_secret_value() if secret else "",
        settings.webhook_allowed_addresses,
        settings.webhook_calls_per_second,
    )
    receiver = Receiver(gate, served, signals, observer)
    return receiver_server(
        receiver, host=settings.http_host, port=settings.webhook_port or 0, proxies=settings.webhook_proxies
    )


@contextmanager
def open_subscription_keeper(
    settings: Settings, external_ref_of: Callable[[str], str | None], stopping: threading.Event
) -> Iterator[SubscriptionKeeper]:
    """Keeps the subscriptions at Altinn that lead to our receiver. Raises `SettingsError` as `build_source`."""
    from producer.notifications.subscriptions import SubscriptionKeeper, Subscriptions
    from producer.source.http import open_http_client

    secret = settings.webhook_secret
    with open_http_client(settings.max_concurrent_calls, stopping) as http:
        yield SubscriptionKeeper(
            Subscriptions(build_altinn_client(settings, http, external_ref_of)),
            settings.webhook_url or "",
            secret.get_secret_value() if secret else "",
        )


def build_event_feed(settings: Settings, http: httpx.Client, external_ref_of: Callable[[str], str | None]) -> EventFeed:
    """The events of Altinn, to be pulled. Raises `SettingsError` as `build_source`."""
    from producer.notifications.feed import AltinnEventFeed

    return AltinnEventFeed(build_altinn_client(settings, http, external_ref_of))


def build_pull(settings: Settings, served: ServedTrekkpliktige, stopping: threading.Event) -> PullParts:
    """What the lanes ask Altinn by, with connections and threads of its own. Raises as `build_source`."""
    from producer.source.http import open_http_client

    http = open_http_client(settings.max_concurrent_calls, stopping)
    feed = build_event_feed(settings, http, served.external_ref_of)
    pool = ThreadPoolExecutor(settings.max_concurrent_calls, thread_name_prefix="pull")
    return PullParts(feed, pool, settings.pull_interval_seconds)


def build_altinn_client(
    settings: Settings, http: httpx.Client, external_ref_of: Callable[[str], str | None]
) -> AltinnClient:
    """Calls to Altinn, with tokens that act for each trekkpliktig. Raises `SettingsError` as `build_source`."""
    from producer.notifications.client import AltinnClient, AltinnTokens

    maskinporten = _maskinporten_tokens(settings, http, settings.altinn_scopes, external_ref_of, NullObserver())
    tokens = AltinnTokens(http, settings.altinn_url, maskinporten)
    return AltinnClient(http, settings.altinn_url, tokens, max_concurrent_calls=settings.max_concurrent_calls)


def build_well_known(settings: Settings, http: httpx.Client) -> WellKnown:
    """Maskinporten's addresses."""
    from producer.source.auth.maskinporten import WellKnown

    return WellKnown(
        http,
        settings.maskinporten_well_known_url,
        issuer=settings.maskinporten_issuer,
        token_endpoint=settings.maskinporten_token_endpoint,
    )


def _maskinporten_tokens(
    settings: Settings,
    http: httpx.Client,
    scope: str,
    external_ref_of: Callable[[str], str | None],
    observer: Observer,
    well_known: WellKnown | None = None,
) -> MaskinportenTokens:
    from producer.source.auth.grant import load_client_key
    from producer.source.auth.maskinporten import MaskinportenTokens

    return MaskinportenTokens(
        http,
        well_known or build_well_known(settings, http),
        load_client_key(settings.maskinporten_client_jwk.get_secret_value()),
        client_id=settings.maskinporten_client_id,
        scope=scope,
        authentication=settings.authentication,
        external_ref_of=external_ref_of,
        observer=observer,
    )


@contextmanager
def doctor_adapters(settings: Settings) -> Iterator[Adapters]:
    """What `doctor` checks the dependencies with."""
    from producer.admin.doctor import Adapters
    from producer.notifications.feed import AltinnEventFeed
    from producer.notifications.subscriptions import Subscriptions
    from producer.source.client import SkatteetatenClient
    from producer.source.http import open_http_client

    with open_http_client(1) as http:

        def tokens(well_known: WellKnown, trekkpliktig: Trekkpliktig) -> MaskinportenTokens:
            scope, reference = settings.maskinporten_scopes, _reference_of(trekkpliktig)
            return _maskinporten_tokens(settings, http, scope, reference, NullObserver(), well_known)

        def altinn(trekkpliktig: Trekkpliktig) -> AltinnClient:
            return build_altinn_client(settings, http, _reference_of(trekkpliktig))

        yield Adapters(
            well_known=lambda: build_well_known(settings, http),
            tokens=tokens,
            source=lambda tokens: SkatteetatenClient(http, settings.api_url, tokens),
            subscriptions=lambda trekkpliktig: Subscriptions(altinn(trekkpliktig)),
            event_feed=lambda trekkpliktig: AltinnEventFeed(altinn(trekkpliktig), page_events=1, pages_max=1),
            kafka_admin=lambda: build_admin(settings),
            single_broker_warnings=lambda: single_broker_warnings(kafka_properties(settings)),
            registry=lambda: build_registry(settings),
        )


def _reference_of(trekkpliktig: Trekkpliktig) -> Callable[[str], str | None]:
    return {trekkpliktig.organisasjonsnummer: trekkpliktig.external_ref}.get


def build_records(settings: Settings, batch_bytes_max: int) -> RecordBuilder:
    """Encoders in the wire format that the settings ask for.

    Raises `RetryableError` when the registry does not answer, `FatalError` when it refuses a schema.
    """
    topics = Topics.of(settings.topic_prefix)
    event, rejected = schemas.load("trekkpaalegg_versjon"), schemas.load("trekkpaalegg_rejected")
    if settings.kafka_schema_registry:
        with build_registry(settings) as registry:
            registry.register(f"{topics.gjeldende}-value", event)
            event_prefix = confluent_prefix(registry.register(f"{topics.versjoner}-value", event))
            rejected_prefix = confluent_prefix(registry.register(f"{topics.quarantine}-value", rejected))
    else:
        event_prefix = single_object_prefix(event.fingerprint)
        rejected_prefix = single_object_prefix(rejected.fingerprint)
    event_bytes_max = min(EVENT_BYTES_MAX, batch_bytes_max - RECORD_OVERHEAD_BYTES)
    return RecordBuilder(
        topics,
        EventEncoder(settings.api_url, compile_encoder(event, event_prefix), event.fingerprint, event_bytes_max),
        RejectedEncoder(settings.api_url, rejected, rejected_prefix, event_bytes_max // 2),
    )


def build_registry(settings: Settings) -> SchemaRegistry:
    """The schema registry. Raises `SettingsError` if the settings name none."""
    from trekkpaalegg.registry import SchemaRegistry

    if settings.kafka_schema_registry is None:
        raise SettingsError(["KAFKA_SCHEMA_REGISTRY: missing; give the registry's address"])
    return SchemaRegistry.of(settings)


def build_membership(settings: Settings, on_trouble: Callable[[TrekkpaaleggError | None], None]) -> Membership:
    """Membership in the group of the application's workers. `on_trouble`: see `KafkaMembership`."""
    return KafkaMembership(
        lambda: kafka_properties(settings),
        settings.application_id,
        Topics.of(settings.topic_prefix).signals,
        settings.instance_id,
        on_trouble,
    )


def _later(make_producer: MakeProducer) -> MakeProducer:
    """As `make_producer`, but for a lane that is acquired again."""

    def make(properties: dict[str, Any], /, *, logger: ConnectionLog) -> Producer:
        with tolerate_renewal():
            return make_producer(properties, logger=logger)

    return make


def build_publisher(
    settings: Settings,
    found: FoundCluster,
    lane: int,
    membership: Membership,
    observer: Observer,
    make_producer: MakeProducer = create_producer,
) -> LanePublisher:
    """The one writer of a lane."""
    properties, topics = kafka_properties(settings), Topics.of(settings.topic_prefix)
    publisher = KafkaLanePublisher(
        properties,
        topics,
        lane,
        settings.application_id,
        found.batch_bytes_max,
        membership.metadata,
        observer,
        fault_of=lambda state: lane_fault(settings.topic_prefix, lane, state.identity, found.identity),
        make_producer=_later(make_producer),
        find_lacking=lambda wanted: KafkaAdmin(properties).lacking(wanted),
    )
    return ExplainedPublisher(publisher, lambda: find_standstill(properties, topics))


def build_service(
    settings: Settings,
    observer: Observer,
    stopping: threading.Event,
    watch: LoopObserver | None = None,
    *,
    once: bool = False,
    errand: frozenset[str] | None = None,
    make_producer: MakeProducer = create_producer,
) -> ProducerService:
    """The service, or with `once` or `errand` a command, as `ProducerService`. Raises `SettingsError`."""
    served, source, pull = None, None, None
    if errand is None or errand:
        served = ServedTrekkpliktige(TrekkpliktigeList(settings, _log.warning))
        source = build_source(settings, observer, served, stopping)
    if settings.pulls and served is not None and not once and errand is None:
        pull = build_pull(settings, served, stopping)
    parts = ServiceParts(
        served,
        source,
        pull,
        find_cluster=partial(find_cluster, settings),
        count_members=partial(group_members, settings),
        build_membership=partial(build_membership, settings),
        build_records=lambda found: build_records(settings, found.batch_bytes_max),
        build_publisher=lambda found, lane, membership: build_publisher(
            settings, found, lane, membership, observer, make_producer
        ),
        build_observation_reader=partial(build_observation_reader, settings),
        build_plain_log=partial(build_plain_log, settings),
        build_writers=partial(build_writers, settings),
        build_quarantine=partial(build_quarantine, settings),
        find_published=partial(find_published, settings),
        find_lost=partial(find_lost, settings),
    )
    return ProducerService(settings, parts, observer, watch or NullLoopObserver(), stopping, once=once, errand=errand)


def build_health_server(settings: Settings, observer: PrometheusObserver, health: ProducerHealth) -> HealthServer:
    """Serves health and metrics; not yet started."""
    from trekkpaalegg.http import HealthServer

    pull_interval_seconds = settings.pull_interval_seconds if settings.pulls else None
    observer.observe_process(
        health,
        poll_interval_seconds=settings.poll_interval_seconds,
        reconcile_interval_seconds=settings.reconcile_interval_seconds,
        pull_interval_seconds=pull_interval_seconds,
    )
    return HealthServer(
        health,
        observer.exposition,
        host=settings.http_host,
        port=settings.http_port,
        setting="TREKKPAALEGG_HTTP_PORT",
    )
