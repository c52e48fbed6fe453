"""What the producer tells about itself while it runs; metrics, and the commands that show progress, listen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from producer.detect.detect import Detection


class LaneFigures(msgspec.Struct, frozen=True):
    """Standing figures of one lane; classes are those of the schedule. Ages are in seconds.

    `oldest_read_seconds` is, per class, how long ago the one that has waited longest was last read to its end;
    `oldest_pull_seconds` the same of the last answer of Altinn, where Altinn is asked.
    """

    trekkpliktige: dict[str, int]
    oldest_read_seconds: dict[str, float]
    orders: int
    versions_missing: int
    position_max: int
    oldest_pull_seconds: dict[str, float] = {}


class Observer(Protocol):
    """Told by any thread; must neither block nor raise. No argument holds a national id."""

    def call_finished(self, operation: str, status: str, seconds: float) -> None:
        """One HTTP call of the API ended: `list` or `version`, and its status code or a word for what went wrong."""

    def token_fetched(self, outcome: str) -> None:
        """A token was asked for: `ok`, `retry`, `suspended` or `fatal`."""

    def notification_received(self, outcome: str) -> None:
        """A call told of a change, or was to; what came of it: `wake_up`, `double` or what `Receiver` says.

        Where Altinn is asked: what came of each event, or of a call that failed: `pull_failed` or `pull_refused`.
        """

    def lanes_found(self, lanes: int) -> None:
        """So many lanes the application has, shared among its processes."""

    def lane_taken(self, lane: int, trekkpliktige: int, orders: int) -> None:
        """This process owns the lane now, and has read back what is known of so many."""

    def lane_left(self, lane: int) -> None:
        """This process no longer owns the lane."""

    def transaction_finished(self, outcome: str, seconds: float) -> None:
        """A transaction was `committed`, `aborted`, `fenced`, or its outcome is `unknown`."""

    def records_recovered(self, kind: str, records: int) -> None:
        """Kafka had left out markers of a transaction: so many records were `hanging`, or written as it stood in part.

        The latter are `incomplete`.
        """

    def published(self, lane: int, trekkpliktig: str, detection: Detection) -> None:
        """What was detected stands in Kafka."""

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:
        """A reading ended well (None) or not; `vanished` orders were known and did not come in a full one."""

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:
        """The source's highest sekvensnummer is below what was published: its numbers may have begun anew."""

    def signal_taken(self, lane: int, kind: str) -> None:
        """A signal came: `wake_up`, `request`, `forwarded` to its lane, `foreign` (nobody of ours) or `invalid`."""

    def unannounced(self, versions: int) -> None:
        """So many versions were published that polling found, and that no signal had told of."""

    def figures(self, lane: int, figures: LaneFigures) -> None:
        """Standing figures, every few seconds."""


class NullObserver:
    """Listens to nothing."""

    def call_finished(self, operation: str, status: str, seconds: float) -> None:
        """Ignore."""

    def token_fetched(self, outcome: str) -> None:
        """Ignore."""

    def notification_received(self, outcome: str) -> None:
        """Ignore."""

    def lanes_found(self, lanes: int) -> None:
        """Ignore."""

    def lane_taken(self, lane: int, trekkpliktige: int, orders: int) -> None:
        """Ignore."""

    def lane_left(self, lane: int) -> None:
        """Ignore."""

    def transaction_finished(self, outcome: str, seconds: float) -> None:
        """Ignore."""

    def records_recovered(self, kind: str, records: int) -> None:
        """Ignore."""

    def published(self, lane: int, trekkpliktig: str, detection: Detection) -> None:
        """Ignore."""

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:
        """Ignore."""

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:
        """Ignore."""

    def signal_taken(self, lane: int, kind: str) -> None:
        """Ignore."""

    def unannounced(self, versions: int) -> None:
        """Ignore."""

    def figures(self, lane: int, figures: LaneFigures) -> None:
        """Ignore."""
