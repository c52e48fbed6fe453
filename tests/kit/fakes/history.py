"""The history in memory: what the transactions of a `FakeKafka` have committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.publish.history import content_hash_of
from trekkpaalegg.decode import Decoder
from trekkpaalegg.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.kit.fakes.publisher import FakeKafka


class FakeHistory:
    """Looks versions up. `look_ups` are those that were made; the next `failures` of them fail."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.look_ups: list[set[tuple[bytes, int]]] = []
        self.failures = 0
        self._kafka = kafka

    def find_published(self, lane: int, wanted: Collection[tuple[bytes, int]]) -> dict[tuple[bytes, int], set[bytes]]:
        """See `published_of`."""
        self.look_ups.append(set(wanted))
        if self.failures or not self._kafka.is_reachable:
            self.failures -= 1
            raise RetryableError("the history cannot be read, on demand")
        found: dict[tuple[bytes, int], set[bytes]] = {}
        for written in self._kafka.committed(self._kafka.topics.versjoner):
            name = written.key, int(written.headers["ce_id"].removeprefix(written.key + b"/").split(b"/")[0])
            if written.partition == lane and name in wanted:
                content_hash = content_hash_of(written.value, written.headers, Decoder())
                found.setdefault(name, set()).add(content_hash)
        return found
