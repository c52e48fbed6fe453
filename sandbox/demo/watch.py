"""Count what has been committed to the topic of events, by a plain consumer."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from sandbox.demo.narrator import ClaimError
from sandbox.demo.words import named
from trekkpaalegg.decode import Decoder
from trekkpaalegg.kafka.reader import Follower
from trekkpaalegg.registry import SchemaRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from trekkpaalegg.event import TrekkpaaleggVersjon

Identity = tuple[str, int]

WAIT_SECONDS_MAX = 60.0


class Watch:
    """Follows a topic `read_committed` from its beginning; every event counts by (trekkid, trekkversjon)."""

    def __init__(self, bootstrap_servers: str, registry_url: str, topic: str) -> None:
        self._registry = SchemaRegistry(registry_url)
        self._decoder = Decoder(self._registry)
        self._follower = Follower({"bootstrap.servers": bootstrap_servers}, [topic], "beginning")
        self.counts: Counter[Identity] = Counter()
        self.origins: dict[Identity, str] = {}
        self.events: dict[Identity, TrekkpaaleggVersjon] = {}
        self.seen_at: dict[Identity, float] = {}
        """By the clock `time.monotonic`, of the first time that it came."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._follower.close()
        self._registry.close()

    def count_new(self, seconds_max: float = 0.02) -> int:
        """Count what has come since; how many events that were."""
        messages = self._follower.poll(seconds_max)
        for message in messages:
            event = self._decoder.decode_trekkpaalegg_versjon(message.value())
            headers = message.headers() or []
            self._count(event, dict(headers).get("ce_origin"))
        return len(messages)

    def count_until_quiet(self, quiet_seconds: float) -> None:
        """Count until nothing has come for so long."""
        deadline = time.monotonic() + quiet_seconds
        while time.monotonic() < deadline:
            if self.count_new():
                deadline = time.monotonic() + quiet_seconds

    def wait_for(
        self,
        wanted: set[Identity],
        check_running: Callable[[], None],
        report_progress: Callable[[int], None] = lambda _: None,
        *,
        enough: int | None = None,
    ) -> int:
        """Count until all that is wanted has come, or `enough` of it; how much of it has.

        `check_running` is called again and again and may raise, `report_progress` is given how much has come. Raises
        `ClaimError` when nothing at all has come for a minute.
        """
        enough = len(wanted) if enough is None else enough
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        left = wanted - self.counts.keys()
        while len(wanted) - len(left) < enough:
            check_running()
            if self.count_new():
                deadline = time.monotonic() + WAIT_SECONDS_MAX
                left = wanted - self.counts.keys()
                report_progress(len(wanted) - len(left))
            elif time.monotonic() > deadline:
                raise ClaimError(f"nothing came for {WAIT_SECONDS_MAX:g} s, and {named(left)} are missing")
        return len(wanted) - len(left)

    def _count(self, event: TrekkpaaleggVersjon, origin: bytes | str | None) -> None:
        identity = (event.trekkid, event.trekkversjon)
        self.counts[identity] += 1
        self.origins[identity] = origin.decode() if isinstance(origin, bytes) else origin or ""
        self.events[identity] = event
        self.seen_at.setdefault(identity, time.monotonic())
