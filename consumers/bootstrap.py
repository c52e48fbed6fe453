"""Building what commands work with, from settings: the only place that builds adapters.

An adapter is imported where it is built, so that a command starts without those that it does not use.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from trekkpaalegg.errors import SettingsError
from trekkpaalegg.kafka.properties import kafka_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumers.ledger.port import Ledger
    from consumers.observe.port import LedgerObserver
    from consumers.observe.prometheus import HealthObserver
    from consumers.settings.model import Settings
    from trekkpaalegg.decode import Decoder
    from trekkpaalegg.http import HealthServer
    from trekkpaalegg.kafka.subscription import Owner, Subscription
    from trekkpaalegg.registry import SchemaRegistry


def ledger_url(option: str | None, settings: Settings) -> str:
    """The URL of `--ledger`, or else of the settings. Raises `SettingsError` when neither is given."""
    if option:
        return option
    if settings.ledger is None:
        raise SettingsError(["--ledger: missing; give postgresql://… or sqlite:///…, or set TREKKPAALEGG_LEDGER"])
    return settings.ledger.get_secret_value()


def topic_of(settings: Settings, *, newest_only: bool) -> str:
    """The topic that a ledger is filled from."""
    return f"{settings.topic_prefix}-{'gjeldende' if newest_only else 'versjoner'}"


def subscribe(settings: Settings, topic: str, ledger: Ledger, owner: Owner) -> Subscription:
    """Join the ledger's consumer group, under the stable name of the settings if there is one.

    Raises as `Subscription`.
    """
    from trekkpaalegg.kafka.subscription import Subscription

    group_id = settings.consumer_group or f"trekkpaalegg-consumer-{ledger.id}"
    return Subscription(kafka_properties(settings), topic, group_id, owner, settings.instance_id)


@contextmanager
def schema_source(settings: Settings) -> Iterator[SchemaRegistry | None]:
    """The schema registry of the settings; None where they name none."""
    if settings.kafka_schema_registry is None:
        yield None
        return
    from trekkpaalegg.registry import SchemaRegistry

    with SchemaRegistry.of(settings) as registry:
        yield registry


@contextmanager
def decoding(settings: Settings) -> Iterator[Decoder]:
    """A decoder that fetches unknown schemas from the registry of the settings, if there is one."""
    from trekkpaalegg.decode import Decoder

    with schema_source(settings) as source:
        yield Decoder(source)


@contextmanager
def observing(settings: Settings, report: Callable[..., None]) -> Iterator[LedgerObserver]:
    """An observer that serves health and metrics if the settings give a port for it; the port is reported.

    Raises `SettingsError` when the port cannot be opened.
    """
    if settings.consumer_http_port is None:
        from consumers.observe.port import LedgerObserver

        yield LedgerObserver()
        return
    from consumers.observe.health import ConsumerHealth
    from consumers.observe.prometheus import PrometheusLedgerObserver

    observer = PrometheusLedgerObserver(ConsumerHealth())
    with health_server(observer, settings.http_host, settings.consumer_http_port) as server:
        report("health is served", http_host=settings.http_host, http_port=server.port)
        yield observer


def health_server(observer: HealthObserver, host: str, port: int) -> HealthServer:
    """Serves an observer's health and metrics; not started yet."""
    from trekkpaalegg.http import HealthServer

    health = observer.health
    return HealthServer(
        health,
        observer.exposition,
        host=host,
        port=port,
        setting="TREKKPAALEGG_CONSUMER_HTTP_PORT",
        is_caught_up=lambda: health.is_caught_up,
    )
