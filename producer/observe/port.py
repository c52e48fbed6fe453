"""The port through which the producer reports what it does, to metrics and to commands that show progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.detect.decide import Decision


class LaneMetrics(msgspec.Struct, frozen=True):
    """The current state of one lane, in numbers. Classes are those of the schedule, rows those of the observations.

    Of the lane as a reader, by class: `oldest_read_seconds` is how long ago the trekkpliktig that has waited longest
    was last read to its end, `oldest_comparison_seconds` how long ago its whole list was last compared, and
    `oldest_pull_seconds` how long ago Altinn last answered, if Altinn is polled. `position_max` is the highest
    sekvensnummer handed over.

    Of the lane as a home: `orders` are those at home here, `orders_waiting` those of them that wait for versions that
    fail, `versions_missing` the versions that were passed over, and `observations_waiting`, by row, those that came
    and are not decided on.
    """

    trekkpliktige: dict[str, int]
    oldest_read_seconds: dict[str, float]
    oldest_comparison_seconds: dict[str, float]
    orders: int
    orders_waiting: int
    versions_missing: int
    observations_waiting: dict[str, int]
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

    def handed_over(self, row: str, observations: int) -> None:
        """Kafka has stored so many observations in this row: `urgent` or `bulk`."""

    def versions_lowered(self, trekkpliktig: str, versions: int) -> None:
        """A list showed so many orders with a lower version than it did before."""

    def unrecorded(self, elements: int) -> None:
        """A list showed so many elements without trekkid that were only counted, as too many came that day."""

    def published(self, lane: int, decisions: Sequence[Decision]) -> None:
        """What the home of these orders decided is committed to Kafka."""

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:
        """A reading ended with success (None) or an error; `vanished` known orders were missing from a full one."""

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:
        """The source's highest sekvensnummer is below the position: it may have been reset."""

    def signal_received(self, lane: int, kind: str) -> None:
        """A signal was received.

        It is a `wake_up`, `request`, `answer` or `show`, `forwarded` to its lane, `foreign` (for nobody served),
        `unknown` (it waits for a newer program) or `invalid`.
        """

    def unannounced(self, versions: int) -> None:
        """Polling found so many versions, now published, without a notification."""

    def lane_metrics(self, lane: int, metrics: LaneMetrics) -> None:
        """The current state of a lane, every few seconds."""


class NullObserver(Observer):
    """Ignores everything."""
