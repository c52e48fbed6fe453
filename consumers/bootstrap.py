"""Settings in, the parts that commands work with out: the only place that builds them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from consumers.observe.health import ConsumerHealth
from consumers.observe.port import NullObserver, Observer
from consumers.observe.prometheus import HealthObserver, PrometheusObserver
from consumers.settings.model import kafka_properties
from consumers.stream.subscription import Subscription
from consumers.webhook.observe import ForwarderHealth
from consumers.webhook.observe import NullObserver as NullForwarderObserver
from consumers.webhook.observe import PrometheusObserver as PrometheusForwarderObserver
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import SettingsError
from trekkpaalegg.http import HealthServer
from trekkpaalegg.registry import RegistrySchemaSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumers.ledger.port import Ledger
    from consumers.settings.model import Settings
    from consumers.stream.port import Owner
    from consumers.webhook.observe import Observer as ForwarderObserver


def ledger_url(option: str | None, settings: Settings) -> str:
    """What `--ledger` says, else the setting. Raises `SettingsError` when neither is given."""
    if option:
        return option
    if settings.ledger is None:
        raise SettingsError(["--ledger: missing; give postgresql://… or sqlite:///…, or set TREKKPAALEGG_LEDGER"])
    return settings.ledger.get_secret_value()


def topic_of(settings: Settings, *, newest_only: bool) -> str:
    """The topic that is applied."""
    return f"{settings.topic_prefix}-{'gjeldende' if newest_only else 'versjoner'}"


def subscribe(settings: Settings, topic: str, ledger: Ledger, owner: Owner) -> Subscription:
    """A member of the ledger's group, under the settings' stable name if there is one. Raises as `Subscription`."""
    group_id = settings.consumer_group or f"trekkpaalegg-consumer-{ledger.id}"
    return Subscription(kafka_properties(settings), topic, group_id, owner, settings.instance_id)


@contextmanager
def decoding(settings: Settings) -> Iterator[Decoder]:
    """A decoder that asks the registry, where there is one."""
    if settings.kafka_schema_registry is None:
        yield Decoder()
        return
    password = settings.kafka_schema_registry_password
    source = RegistrySchemaSource(
        settings.kafka_schema_registry,
        settings.kafka_schema_registry_user,
        password.get_secret_value() if password else None,
        settings.kafka_schema_registry_ca_path,
    )
    try:
        yield Decoder(source)
    finally:
        source.close()


@contextmanager
def observing(settings: Settings, tell: Callable[..., None]) -> Iterator[Observer]:
    """Who counts and serves health, where the settings give a port for it; the port is told.

    Raises `SettingsError` when the port cannot be had.
    """
    if settings.consumer_http_port is None:
        yield NullObserver()
        return
    observer = PrometheusObserver(ConsumerHealth())
    with health_server(observer, settings.http_host, settings.consumer_http_port) as server:
        tell("health is served", http_host=settings.http_host, http_port=server.port)
        yield observer


@contextmanager
def observing_forwarder(settings: Settings, note: Callable[[str], None]) -> Iterator[ForwarderObserver]:
    """As `observing`, for a forwarder."""
    if settings.consumer_http_port is None:
        yield NullForwarderObserver()
        return
    observer = PrometheusForwarderObserver(ForwarderHealth())
    with health_server(observer, settings.http_host, settings.consumer_http_port) as server:
        note(f"health is served at {settings.http_host}, port {server.port}")
        yield observer


def health_server(observer: HealthObserver, host: str, port: int) -> HealthServer:
    """Serves an observer's health and metrics; not started yet."""
    health = observer.health
    return HealthServer(
        health,
        observer.exposition,
        host=host,
        port=port,
        setting="TREKKPAALEGG_CONSUMER_HTTP_PORT",
        is_caught_up=lambda: health.is_caught_up,
    )
