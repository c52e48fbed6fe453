"""Settings and options in, the forwarder built and run: the only place that knows every part of it."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from consumers.bootstrap import decoding, health_server
from consumers.settings.model import kafka_properties
from consumers.webhook.cloudevent import message_of
from consumers.webhook.delivery import ANSWER_SECONDS, Couriers, Receiver, Signer, address_fault, shown
from consumers.webhook.forward import Forwarder, Limits
from consumers.webhook.observe import ForwarderHealth, NullObserver, Observer, PrometheusObserver
from consumers.webhook.opening import Claim, open_store, state_address
from trekkpaalegg.errors import KafkaSettingsError, RefusedError, RetryableError, SettingsError
from trekkpaalegg.incoming import Partition
from trekkpaalegg.kafka.reader import Follower
from trekkpaalegg.retry import Service, ServiceRetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from consumers.ledger.address import Address
    from consumers.settings.model import Settings
    from consumers.webhook.cloudevent import Message
    from consumers.webhook.store import Store

_T = TypeVar("_T")

# What is read ahead stays in memory; librdkafka's own default is 64 MiB.
_READ_AHEAD = {"queued.max.messages.kbytes": "8192"}
_REFUSED_PAUSE_SECONDS = 5.0


class Options(msgspec.Struct, frozen=True):
    """What the command line says."""

    state: str | None
    allow_plain_http: bool = False
    until_end: bool = False
    answer_seconds: float = ANSWER_SECONDS
    limits: Limits = Limits()


class _Topic:
    """A followed topic as the forwarder's source; followed anew, from what was kept, as long as Kafka refuses us.

    With `waits` a Kafka that cannot be reached at the start is waited for too, and what was kept is sent meanwhile.
    Without `lasts` nothing is: an end was asked for.
    """

    def __init__(
        self,
        follow: Callable[[], Follower],
        note: Callable[[str], None],
        observer: Observer,
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
        self._again_at = 0.0
        self._told = ""
        if not waits:
            self._follower = follow()

    @property
    def has_reached_end(self) -> bool:
        return self._follower is not None and self._follower.has_reached_first_ends

    def poll(self, seconds_max: float) -> list[Message]:
        try:
            if self._follower is None:
                if time.monotonic() < self._again_at:
                    time.sleep(seconds_max)
                    return []
                self._begin()
            return self._polled(seconds_max)
        except (RetryableError, KafkaSettingsError) as error:
            if not self._passes(error):
                raise
            self._wait(str(error))
            return []

    def _begin(self) -> None:
        self._follower = self._follow()
        self._observer.call_ended(Service.KAFKA)
        if self._told:
            self._note("Kafka lets us in again; reading goes on")
        self._told = ""

    def _polled(self, seconds_max: float) -> list[Message]:
        follower = self._follower
        if follower is None:
            return []
        # What was given before is kept by now: who asks for more has taken it.
        self._observer.read_to({each.partition: offset for each, offset in follower.positions.items()})
        messages = follower.poll(seconds_max)
        self._observer.looked(follower.look())
        return [message_of(each) for each in messages]

    def _passes(self, error: RetryableError | KafkaSettingsError) -> bool:
        is_at_start = self._waits and self._follower is None and not isinstance(error, KafkaSettingsError)
        return self._lasts and (isinstance(error, RefusedError) or bool(self._told) or is_at_start)

    def _wait(self, why: str) -> None:
        self.close()
        self._again_at = time.monotonic() + _REFUSED_PAUSE_SECONDS
        self._observer.call_failed(Service.KAFKA, why)
        if why != self._told:
            self._note(f"{why}; tried again until it passes")
        self._told = why

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
        self._follower = None


def forward(
    settings: Settings,
    options: Options,
    note: Callable[[str], None],
    stopping: threading.Event,
    observer: Observer,
) -> None:
    """Forward events until `stopping` is set, or with `until_end` until all is delivered or parked.

    Who serves health waits at the start for what does not answer, unless an end was asked for.

    Raises `SettingsError` with every fault of address and secret at once, `FatalError` and `RetryableError` as the
    parts do.
    """
    url, signer, address = _checked(settings, options)
    waits = settings.consumer_http_port is not None and not options.until_end
    retry = ServiceRetry(stopping, partial(_tell, note), observer)

    def ask(call: Callable[[], _T]) -> _T:
        return retry.call(Service.STATE, call) if waits else call()

    try:
        with (
            decoding(settings) as decoder,
            closing(ask(lambda: open_store(address, make=True))) as store,
            ask(lambda: Claim(address)),
        ):
            ask(store.take_over)
            forwarder = ask(lambda: Forwarder(store, decoder, options.limits, note, stopping, observer))
            with (
                closing(_topic(settings, options, store, note, observer, ask, waits=waits)) as source,
                Couriers(
                    Receiver(url, signer, answer_seconds=options.answer_seconds), options.limits.concurrency_max
                ) as couriers,
            ):
                note(f"forwarding {_topic_name(settings)} to {shown(url)}; {forwarder.waiting_count} wait from before")
                try:
                    forwarder.run(source, couriers, until_end=options.until_end)
                finally:
                    note(str(forwarder.tally))
    except RetryableError:
        # In trouble when the word to stop came: what is not delivered is kept.
        if not stopping.is_set():
            raise


def _topic(
    settings: Settings,
    options: Options,
    store: Store,
    note: Callable[[str], None],
    observer: Observer,
    ask: Callable[[Callable[[], dict[int, int]]], dict[int, int]],
    *,
    waits: bool,
) -> _Topic:
    topic = _topic_name(settings)

    def follow() -> Follower:
        return Follower(
            kafka_properties(settings) | _READ_AHEAD,
            [topic],
            {Partition(topic, number): offset for number, offset in ask(lambda: store.next_offsets(topic)).items()},
            waits_for_open=options.until_end,
            on_silence=lambda: note("Kafka does not answer; reading goes on when it does"),
        )

    return _Topic(follow, note, observer, waits=waits, lasts=not options.until_end)


def _topic_name(settings: Settings) -> str:
    return f"{settings.topic_prefix}-versjoner"


def _tell(note: Callable[[str], None], event: str, **details: object) -> None:
    note(f"{event}: {details['reason']}" if "reason" in details else event)


def _checked(settings: Settings, options: Options) -> tuple[str, Signer, Address]:
    """Where to, signed by whom, from which state. Raises `SettingsError` with every fault of the three."""
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
def observing(settings: Settings, note: Callable[[str], None]) -> Iterator[Observer]:
    """As `consumers.bootstrap.observing`, of a forwarder."""
    if settings.consumer_http_port is None:
        yield NullObserver()
        return
    observer = PrometheusObserver(ForwarderHealth())
    with health_server(observer, settings.http_host, settings.consumer_http_port) as server:
        note(f"health is served at {settings.http_host}, port {server.port}")
        yield observer
