"""Settings and options in, the forwarder built and run: the only place that knows every part of it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from consumers.decode import Decoder
from consumers.errors import MisfitError, RefusedError, RetryableError, SettingsError
from consumers.registry import RegistrySchemaSource
from consumers.settings import kafka_properties
from consumers.stream.follow import Follower
from consumers.webhook.address import address_fault, shown
from consumers.webhook.claim import Claim
from consumers.webhook.delivery import ANSWER_SECONDS, Couriers, Receiver
from consumers.webhook.forward import Forwarder, Limits
from consumers.webhook.message import message_of
from consumers.webhook.opening import open_store, state_address
from consumers.webhook.signing import Signer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from consumers.ledger.address import Address
    from consumers.settings import Settings
    from consumers.webhook.message import Message

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
    """A followed topic as the forwarder's source; followed anew, from what was kept, as long as Kafka refuses us."""

    def __init__(self, follow: Callable[[], Follower], note: Callable[[str], None], *, until_end: bool) -> None:
        self._follow = follow
        self._note = note
        self._until_end = until_end
        self._follower: Follower | None = follow()
        self._again_at = 0.0
        self._told = ""

    @property
    def has_reached_end(self) -> bool:
        return self._follower is not None and self._follower.has_reached_end

    def poll(self, seconds_max: float) -> list[Message]:
        try:
            if self._follower is None:
                if time.monotonic() < self._again_at:
                    time.sleep(seconds_max)
                    return []
                self._follower = self._follow()
                self._note("Kafka lets us in again; reading goes on")
                self._told = ""
            return [message_of(each) for each in self._follower.poll(seconds_max)]
        except (RetryableError, MisfitError) as error:
            if self._until_end or not (isinstance(error, RefusedError) or self._told):
                raise
            self._wait(str(error))
            return []

    def _wait(self, why: str) -> None:
        self.close()
        self._again_at = time.monotonic() + _REFUSED_PAUSE_SECONDS
        if why != self._told:
            self._note(f"{why}; tried again until it passes")
        self._told = why

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
        self._follower = None


def forward(settings: Settings, options: Options, note: Callable[[str], None], stopping: threading.Event) -> None:
    """Forward events until `stopping` is set, or with `until_end` until all is delivered or parked.

    Raises `SettingsError` with every fault of address and secret at once, `FatalError` and `RetryableError` as the
    parts do.
    """
    url, signer, address = _checked(settings, options)
    topic = f"{settings.topic_prefix}-versjoner"
    registry = _registry(settings)
    store = open_store(address, make=True)
    try:
        with Claim(address):
            store.take_over()
            forwarder = Forwarder(store, Decoder(registry), options.limits, note, stopping)

            def follow() -> Follower:
                return Follower(
                    kafka_properties(settings) | _READ_AHEAD,
                    topic,
                    from_beginning=True,
                    next_offsets=store.next_offsets(topic),
                    awaits_open=options.until_end,
                    on_silence=lambda: note("Kafka does not answer any more; reading goes on when it does"),
                )

            with (
                closing(_Topic(follow, note, until_end=options.until_end)) as source,
                Couriers(
                    Receiver(url, signer, answer_seconds=options.answer_seconds), options.limits.concurrency_max
                ) as couriers,
            ):
                note(f"forwarding {topic} to {shown(url)}; {forwarder.waiting_count} wait from before")
                try:
                    forwarder.run(source, couriers, until_end=options.until_end)
                finally:
                    note(str(forwarder.tally))
    finally:
        store.close()
        if registry is not None:
            registry.close()


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


def _registry(settings: Settings) -> RegistrySchemaSource | None:
    if settings.kafka_schema_registry is None:
        return None
    password = settings.kafka_schema_registry_password
    return RegistrySchemaSource(
        settings.kafka_schema_registry,
        settings.kafka_schema_registry_user,
        password.get_secret_value() if password else None,
        settings.kafka_schema_registry_ca_path,
    )
