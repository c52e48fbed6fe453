"""An `Observer` that keeps everything that lanes report, and wakes tests that wait for it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from producer.observe.port import NullObserver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producer.detect.decide import Decision
    from producer.observe.port import LaneMetrics


class LaneJournal(NullObserver):
    """Keeps what lanes report. Safe for several threads."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.ended: Counter[str] = Counter()
        self.errors: dict[str, BaseException | None] = {}
        self.vanished: dict[str, int] = {}
        self.decisions: list[Decision] = []
        self.handed: Counter[str] = Counter()
        self.lowered: Counter[str] = Counter()
        self.unrecorded_count = 0
        self.metrics: list[LaneMetrics] = []
        self.positions_ahead: list[tuple[str, int, int]] = []
        self.lanes_left = 0
        self.signals: Counter[str] = Counter()
        self.unannounced_count = 0
        self.notifications: Counter[str] = Counter()

    def published(self, lane: int, decisions: Sequence[Decision]) -> None:  # noqa: ARG002 - the port gives it
        """Keep the decisions."""
        with self.changed:
            self.decisions += decisions
            self.changed.notify_all()

    def handed_over(self, row: str, observations: int) -> None:
        """Count them."""
        with self.changed:
            self.handed[row] += observations

    def versions_lowered(self, trekkpliktig: str, versions: int) -> None:
        """Count them."""
        with self.changed:
            self.lowered[trekkpliktig] += versions

    def unrecorded(self, elements: int) -> None:
        """Count them."""
        with self.changed:
            self.unrecorded_count += elements

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:  # noqa: ARG002 - as above
        """Keep how the reading ended."""
        with self.changed:
            self.ended[trekkpliktig] += 1
            self.errors[trekkpliktig] = error
            self.vanished[trekkpliktig] = vanished
            self.changed.notify_all()

    def lane_metrics(self, lane: int, metrics: LaneMetrics) -> None:  # noqa: ARG002 - as above
        """Keep the metrics."""
        with self.changed:
            self.metrics.append(metrics)

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:
        """Keep the warning."""
        with self.changed:
            self.positions_ahead.append((trekkpliktig, position, source_max))

    def notification_received(self, outcome: str) -> None:
        """Count it."""
        with self.changed:
            self.notifications[outcome] += 1

    def signal_received(self, lane: int, kind: str) -> None:  # noqa: ARG002 - as above
        """Count it."""
        with self.changed:
            self.signals[kind] += 1

    def unannounced(self, versions: int) -> None:
        """Count them."""
        with self.changed:
            self.unannounced_count += versions

    def lane_released(self, lane: int) -> None:  # noqa: ARG002 - as above
        """Wake tests that wait for a reading that will never end."""
        with self.changed:
            self.lanes_left += 1
            self.changed.notify_all()
