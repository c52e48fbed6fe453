"""Building and running the forwarder from settings and options."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from consumers.bootstrap import decoding, health_server
from consumers.webhook.cloudevent import event_message
from consumers.webhook.delivery import ANSWER_SECONDS, ReceiverClient, SenderPool, Signer, address_fault, shown
from consumers.webhook.forward import Forwarder, Limits
from consumers.webhook.observe import (
    ForwarderHealth,
    ForwarderObserver,
    PrometheusForwarderObserver,
)
from consumers.webhook.opening import ForwarderLock, open_store, state_address
from trekkpaalegg.errors import KafkaSettingsError, RefusedError, RetryableError, SettingsError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.properties import kafka_properties
from trekkpaalegg.kafka.reader import Follower
from trekkpaalegg.retry import Service, ServiceRetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from consumers.ledger.address import Address
    from consumers.settings.model import Settings
    from consumers.webhook.cloudevent import EventMessage
    from consumers.webhook.store import ForwarderStore

_T = TypeVar("_T")

# librdkafka reads ahead into memory; its default limit is 64 MiB.
_READ_AHEAD = {"queued.max.messages.kbytes": "8192"}
_REFUSED_PAUSE_SECONDS = 5.0


class Options(msgspec.Struct, frozen=True):
    """The options of the command line."""

    state: str | None
    allow_plain_http: bool = False
    until_end: bool = False
    answer_seconds: float = ANSWER_SECONDS
    limits: Limits = Limits()


class _TopicSource:
    """The followed topic as the forwarder's source. While Kafka refuses us, a new follower is tried again and again.

    With `waits` this holds from the start, also for a Kafka that cannot be reached; stored events are sent meanwhile.
    Without `lasts` every error is raised.
    """

    def __init__(
        self,
        follow: Callable[[], Follower],
        note: Callable[[str], None],
        observer: ForwarderObserver,
        *,
        waits: bool,
        lasts: bool,
    ) -> None:
        self._follow = follow
        self._note = note
        self._observer = observer
        self._waits = waits
        self._lasts = lasts
        self._follower: Follower | None = None
        self._next_attempt_at = 0.0
        self._reported = ""
        if not waits:
            self._follower = follow()

    @property
    def has_reached_end(self) -> bool:
        return self._follower is not None and self._follower.has_reached_first_ends

    def poll(self, seconds_max: float) -> list[EventMessage]:
        try:
            if self._follower is None:
                if time.monotonic() < self._next_attempt_at:
                    time.sleep(seconds_max)
                    return []
                self._begin()
            return self._poll_follower(seconds_max)
        except (RetryableError, KafkaSettingsError) as error:
            if not self._is_temporary(error):
                raise
            self._wait(str(error))
            return []

    def _begin(self) -> None:
        self._follower = self._follow()
        self._observer.call_ended(Service.KAFKA)
        if self._reported:
            self._note("Kafka admits us again; reading continues")
        self._reported = ""

    def _poll_follower(self, seconds_max: float) -> list[EventMessage]:
        follower = self._follower
        if follower is None:
            return []
        # The forwarder has stored what it got before: otherwise it would not ask for more.
        self._observer.stored_to({each.partition: offset for each, offset in follower.positions.items()})
        messages = follower.poll(seconds_max)
        self._observer.client_checked(follower.client_status())
        return [event_message(each) for each in messages]

    def _is_temporary(self, error: RetryableError | KafkaSettingsError) -> bool:
        is_at_start = self._waits and self._follower is None and not isinstance(error, KafkaSettingsError)
        return self._lasts and (isinstance(error, RefusedError) or bool(self._reported) or is_at_start)

    def _wait(self, why: str) -> None:
        self.close()
        self._next_attempt_at = time.monotonic() + _REFUSED_PAUSE_SECONDS
        self._observer.call_failed(Service.KAFKA, why)
        if why != self._reported:
            self._note(f"{why}; retrying")
        self._reported = why

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
        self._follower = None


def forward(
    settings: Settings,
    options: Options,
    note: Callable[[str], None],
    stopping: threading.Event,
    observer: ForwarderObserver,
) -> None:
    """Forward events until `stopping` is set, or with `until_end` until every event is delivered or parked.

    With a port for health, and without `until_end`, it waits at the start for services that do not answer.

    Raises `SettingsError` with every fault of address, secret and state at once, and what `Forwarder.run` raises.
    """
    url, signer, address = _checked(settings, options)
    waits = settings.consumer_http_port is not None and not options.until_end
    retry = ServiceRetry(stopping, partial(_note_event, note), observer)

    def with_retry(call: Callable[[], _T]) -> _T:
        return retry.call(Service.STATE, call) if waits else call()

    try:
        with (
            decoding(settings) as decoder,
            closing(with_retry(lambda: open_store(address, make=True))) as store,
            with_retry(lambda: ForwarderLock(address)),
        ):
            with_retry(store.claim_ownership)
            forwarder = with_retry(lambda: Forwarder(store, decoder, options.limits, note, stopping, observer))
            with (
                closing(_topic(settings, options, store, note, observer, with_retry, waits=waits)) as source,
                SenderPool(
                    ReceiverClient(url, signer, answer_seconds=options.answer_seconds), options.limits.concurrency_max
                ) as senders,
            ):
                note(f"forwarding {_topic_name(settings)} to {shown(url)}; {forwarder.waiting_count} wait from before")
                try:
                    forwarder.run(source, senders, until_end=options.until_end)
                finally:
                    note(str(forwarder.tally))
    except RetryableError:
        # A service failed while the forwarder was stopping: what is not delivered stays in the state.
        if not stopping.is_set():
            raise


def _topic(
    settings: Settings,
    options: Options,
    store: ForwarderStore,
    note: Callable[[str], None],
    observer: ForwarderObserver,
    with_retry: Callable[[Callable[[], dict[int, int]]], dict[int, int]],
    *,
    waits: bool,
) -> _TopicSource:
    topic = _topic_name(settings)

    def follow() -> Follower:
        return Follower(
            kafka_properties(settings) | _READ_AHEAD,
            [topic],
            {
                Partition(topic, number): offset
                for number, offset in with_retry(lambda: store.next_offsets(topic)).items()
            },
            waits_for_open=options.until_end,
            on_silence=lambda: note("Kafka does not answer; reading continues when it does"),
        )

    return _TopicSource(follow, note, observer, waits=waits, lasts=not options.until_end)


def _topic_name(settings: Settings) -> str:
    return f"{settings.topic_prefix}-versjoner"


def _note_event(note: Callable[[str], None], event: str, **details: object) -> None:
    note(f"{event}: {details['reason']}" if "reason" in details else event)


def _checked(settings: Settings, options: Options) -> tuple[str, Signer, Address]:
    """The receiver's address, the signer and the state's address. Raises `SettingsError` with every fault at once."""
    faults: list[str] = []
    url, signer, address = settings.forward_url, None, None
    if url is None:
        faults.append("--to: missing; give the receiver's address, or set TREKKPAALEGG_FORWARD_URL")
    elif fault := address_fault(url, allow_plain_http=options.allow_plain_http):
        faults.append(f"--to or TREKKPAALEGG_FORWARD_URL: {fault}")
    try:
        signer = Signer(settings.forward_secret.get_secret_value() if settings.forward_secret else "")
    except SettingsError as error:
        faults += error.faults
    try:
        address = state_address(options.state)
    except SettingsError as error:
        faults += error.faults
    if url is None or signer is None or address is None or faults:
        raise SettingsError(faults)
    return url, signer, address


@contextmanager
def observing(settings: Settings, note: Callable[[str], None]) -> Iterator[ForwarderObserver]:
    """As `consumers.bootstrap.observing`, for the forwarder."""
    if settings.consumer_http_port is None:
        yield ForwarderObserver()
        return
    observer = PrometheusForwarderObserver(ForwarderHealth())
    with health_server(observer, settings.http_host, settings.consumer_http_port) as server:
        note(f"health is served at {settings.http_host}, port {server.port}")
        yield observer
