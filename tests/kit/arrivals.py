"""Which versions have been committed to a topic so far: for waiting, not for proving.

A wait asks many times: each time only what is new is read, and nothing is decoded.
"""

from __future__ import annotations

from typing import Any

from sandbox.demo.proof import properties_of
from trekkpaalegg.errors import RetryableError
from trekkpaalegg.kafka.reader import Follower

_WAIT_SECONDS = 0.02


class Arrivals:
    """What has arrived in one topic of events. While Kafka does not answer, nothing new has."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._follower: Follower | None = None
        self._found: set[tuple[str, int]] = set()

    def look(self) -> set[tuple[str, int]]:
        """(trekkid, trekkversjon) of all that was seen until now; what was committed a moment ago may be missing."""
        if self._follower is None:
            try:
                self._follower = Follower(properties_of(self._bootstrap_servers), [self._topic], "beginning")
            except RetryableError:
                return self._found
        while messages := self._follower.poll(_WAIT_SECONDS):
            for message in messages:
                headers: Any = dict(message.headers() or [])  # a consumer gives bytes, whatever its type says
                trekkid, trekkversjon = headers["ce_id"].decode().split("/")[:2]
                self._found.add((trekkid, int(trekkversjon)))
        return self._found

    def close(self) -> None:
        """Disconnect from Kafka."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None
