"""The port through which the producer reports what it does, to metrics and to commands that show progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from producer.detect.detect import Detection


class LaneMetrics(msgspec.Struct, frozen=True):
    """The current state of one lane, in numbers. Classes are those of the schedule.

    `oldest_read_seconds` is, per class, how long ago the trekkpliktig that has waited longest was last read completely;
    `oldest_pull_seconds` how long ago Altinn last answered for the one that has waited longest, if Altinn is polled.
    """

    trekkpliktige: dict[str, int]
    oldest_read_seconds: dict[str, float]
    orders: int
    versions_missing: int
    position_max: int
    oldest_pull_seconds: dict[str, float] = {}


class Observer:
    """Called by any thread; must neither block nor raise. No argument holds a national id. Subclasses override."""

    def call_finished(self, operation: str, status: str, seconds: float) -> None:
        """A call to the API ended: `list` or `version`, and its status code or a word for what went wrong."""

    def token_fetched(self, outcome: str) -> None:
        """A token was requested: `ok`, `retry`, `suspended` or `fatal`."""

    def notification_received(self, outcome: str) -> None:
        """A notification was received: `wake_up`, `double` or another outcome of `Receiver`.

        If Altinn is polled: the outcome of each event, or of a call that failed: `pull_failed` or `pull_refused`.
        """

    def lanes_found(self, lanes: int) -> None:
        """The number of lanes that the processes of the application share."""

    def lane_acquired(self, lane: int, trekkpliktige: int, orders: int) -> None:
        """This process owns the lane, and has read back the state of so many trekkpliktige and orders."""

    def lane_released(self, lane: int) -> None:
        """This process no longer owns the lane."""

    def transaction_finished(self, outcome: str, seconds: float) -> None:
        """A transaction was `committed`, `aborted`, `fenced`, or its outcome is `unknown`."""

    def records_recovered(self, kind: str, records: int) -> None:
        """So many records were `hanging` and aborted, or written as the last transaction was `incomplete`."""

    def published(self, lane: int, trekkpliktig: str, detection: Detection) -> None:
        """What was detected is committed to Kafka."""

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:
        """A reading ended with success (None) or an error; `vanished` known orders were missing from a full one."""

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:
        """The source's highest sekvensnummer is below what was published: it may have been reset."""

    def signal_received(self, lane: int, kind: str) -> None:
        """A signal: `wake_up`, `request`, `forwarded` to its lane, `foreign` (for nobody served) or `invalid`."""

    def unannounced(self, versions: int) -> None:
        """Polling found so many versions, now published, without a notification."""

    def lane_metrics(self, lane: int, metrics: LaneMetrics) -> None:
        """The current state of a lane, every few seconds."""


class NullObserver(Observer):
    """Ignores everything."""
