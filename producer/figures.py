"""From a lane's schedule and state to the standing figures that it tells. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producer.observe.port import LaneFigures

if TYPE_CHECKING:
    from producer.domain.state import LaneState
    from producer.schedule import Schedule


def figures_of(
    schedule: Schedule, state: LaneState, now: float, oldest_pull_seconds: dict[str, float] | None = None
) -> LaneFigures:
    """The figures at `now`, in monotonic seconds."""
    counts, oldest = schedule.classes(now)
    return LaneFigures(
        trekkpliktige=counts,
        oldest_read_seconds=oldest,
        orders=sum(len(each) for _, each in state),
        versions_missing=sum(last - first + 1 for _, each in state for _, first, last in each.missing()),
        position_max=max((each.position.position for _, each in state), default=0),
        oldest_pull_seconds=oldest_pull_seconds or {},
    )
