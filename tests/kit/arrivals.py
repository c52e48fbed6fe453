"""A topic on Kafka in, which versions have been committed to it so far out; for waiting, not for proving.

Whoever waits looks many times: each look reads only what is new, and nothing is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition

from sandbox.demo.proof import consumer_of, watermarks_of

if TYPE_CHECKING:
    from confluent_kafka import Consumer

_BATCH_RECORDS_MAX = 5000
_WAIT_SECONDS = 0.02


class Arrivals:
    """What has arrived in one topic of events. What Kafka does not answer is looked for at the next look."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._consumer: Consumer | None = None
        self._found: set[tuple[str, int]] = set()

    def look(self) -> set[tuple[str, int]]:
        """(trekkid, trekkversjon) of all that was seen until now; what was committed a moment ago may be missing."""
        if self._consumer is None:
            self._consumer = self._begin()
        while True:
            messages = self._consumer.consume(_BATCH_RECORDS_MAX, timeout=_WAIT_SECONDS)
            for message in messages:
                if message.error() is None:
                    headers: Any = dict(message.headers() or [])  # a consumer gives bytes, whatever its type says
                    trekkid, trekkversjon = headers["ce_id"].decode().split("/")[:2]
                    self._found.add((trekkid, int(trekkversjon)))
            if len(messages) < _BATCH_RECORDS_MAX:
                return self._found

    def _begin(self) -> Consumer:
        watermarks = watermarks_of(self._bootstrap_servers, self._topic)
        consumer = consumer_of(self._bootstrap_servers, "read_committed")
        consumer.assign([TopicPartition(self._topic, partition, begin) for partition, (begin, _) in watermarks.items()])
        return consumer

    def close(self) -> None:
        """Leave Kafka."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
