"""A polling source that reads the simulated world, with employers to read: for tests of the source."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producer.observe.port import NullObserver
from producer.source.auth.grant import load_client_key
from producer.source.auth.maskinporten import MaskinportenTokens, WellKnown
from producer.source.client import SkatteetatenClient
from producer.source.polling import PollingSource
from sandbox.skatteetaten.state import Behaviour
from trekkpaalegg.retry import short_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from sandbox.control.world import OutsideWorld

MADE = itertools.count(1)
MEGABYTE = 1024 * 1024


class Listener(NullObserver):
    """Remembers the calls and token outcomes that it is told of."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.tokens: list[str] = []

    def call_finished(self, operation: str, status: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((operation, status))

    def token_fetched(self, outcome: str) -> None:
        self.tokens.append(outcome)


class Reader:
    """A polling source, and what belongs to it."""

    def __init__(self, outside: OutsideWorld, http: httpx.Client, *, max_concurrent_calls: int = 5) -> None:
        environment = outside.environment([])
        self.listener = Listener()
        self.stop = threading.Event()
        tokens = MaskinportenTokens(
            http,
            WellKnown(http, environment["MASKINPORTEN_WELL_KNOWN_URL"]),
            load_client_key(environment["MASKINPORTEN_CLIENT_JWK"]),
            client_id=environment["MASKINPORTEN_CLIENT_ID"],
            scope=environment["MASKINPORTEN_SCOPES"],
            authentication="systembruker",
            observer=self.listener,
        )
        self.client = SkatteetatenClient(
            http,
            environment["TREKKPAALEGG_API_URL"],
            tokens,
            max_concurrent_calls=max_concurrent_calls,
            response_bytes_max=4 * MEGABYTE,
            observer=self.listener,
        )
        self.source = PollingSource(self.client, short_retry(self.stop), maks_antall=100)


@contextmanager
def reader_of(outside: OutsideWorld, http: httpx.Client) -> Iterator[Reader]:
    """A reader; the world is at the end as it was, without faults."""
    yield Reader(outside, http)
    outside.skatteetaten.faults.clear()
    outside.skatteetaten.forget_calls()
    outside.skatteetaten.behaviour = Behaviour()


def employer_with_three_orders(outside: OutsideWorld) -> str:
    made = f"{311_000_000 + next(MADE):09}"
    outside.register(made)
    for _ in range(3):
        outside.skatteetaten.create(made)
    return made
