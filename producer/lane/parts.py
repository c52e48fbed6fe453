"""What a lane is given: its source, pool, publisher and all else that it works with, and who watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from producer.domain.trekkpaalegg import Trekkpaalegg
    from producer.lane.calls import CallPool
    from producer.lane.commit import RecordBuilder
    from producer.lane.priority import TransactionPriority
    from producer.lane.pulling import PullParts
    from producer.lane.schedule import Schedule
    from producer.observe.port import Observer
    from producer.publish.port import LanePublisher
    from producer.source.port import TrekkpaaleggSource

    Understand = Callable[[str, str], Trekkpaalegg]


class LaneParts(NamedTuple):
    """What a lane works with. `publisher` and `schedule` are its own, the rest is shared by all lanes.

    `understand` reads a quarantined record, named by its trekkpliktig and its place, anew; None where nothing is
    released.
    """

    source: TrekkpaaleggSource
    pool: CallPool
    publisher: LanePublisher
    records: RecordBuilder
    schedule: Schedule
    observer: Observer
    priority: TransactionPriority
    pull: PullParts | None = None
    understand: Understand | None = None


class LaneWatch(Protocol):
    """Told at every turn of the loop, and when it has ended."""

    def beat(self) -> None:
        """The loop has turned."""

    def ended(self) -> None:
        """The loop has ended."""
