"""`position show|set|forget`: how far each trekkpliktig has been published, and an operator's word on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

from producer import bootstrap
from producer.commands.interruptible import operate_interruptible
from producer.commands.rounds import refuse_while_a_worker_runs
from producer.kafka_properties import kafka_properties
from producer.publish.state_log import read_lane_state
from producer.publish.state_records import forget_records, state_records
from producer.publish.topics import Topics

if TYPE_CHECKING:
    from producer.commands.output import Output
    from producer.domain.state import TrekkpliktigState
    from producer.publish.port import Record
    from producer.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def show_position(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Print what stands in `…-positions`, for those named or for all. Needs no lane: it only reads."""
    found = bootstrap.find_cluster(settings)
    positions = Topics.of(settings.topic_prefix).positions
    rows = [
        _row(trekkpliktig, lane, state)
        for lane in range(found.lanes)
        for trekkpliktig, state in read_lane_state(kafka_properties(settings), positions, lane)
        if not trekkpliktige or trekkpliktig in trekkpliktige
    ]
    rows.sort(key=lambda row: str(row["trekkpliktig"]))
    if output.as_json:
        output.json(rows)
        return
    table = Table("trekkpliktig", "lane", "position", "last compared", "orders", "versions missing")
    for row in rows:
        table.add_row(*("never" if value is None else str(value) for value in row.values()))
    output.table(table)


def _row(trekkpliktig: str, lane: int, state: TrekkpliktigState) -> dict[str, object]:
    reconciled_at = state.position.reconciled_at
    when = None if reconciled_at is None else (_EPOCH + timedelta(microseconds=reconciled_at)).isoformat()
    return {
        "trekkpliktig": trekkpliktig,
        "lane": lane,
        "position": state.position.position,
        "reconciled_at": when,
        "orders": len(state),
        "versions_missing": sum(last - first + 1 for _, first, last in state.missing()),
    }


def set_position(settings: Settings, output: Output, trekkpliktig: str, position: int) -> None:
    """Make the next reading begin at this sekvensnummer. What was published is still known, so nothing comes twice."""
    refuse_while_a_worker_runs(settings)
    positions = Topics.of(settings.topic_prefix).positions

    def decide(lane: int, state: TrekkpliktigState) -> list[Record]:
        output.note(f"{trekkpliktig}: the position was {state.position.position}")
        changed = msgspec.structs.replace(state.position, position=position)
        return list(state_records(positions, lane, trekkpliktig, changed, {}))

    operate_interruptible(settings, trekkpliktig, decide)
    output.line(f"{trekkpliktig}: the position is {position}")


def forget_position(settings: Settings, output: Output, trekkpliktig: str) -> None:
    """Drop all that is known of a trekkpliktig: every version of its orders will be published anew."""
    refuse_while_a_worker_runs(settings)
    positions = Topics.of(settings.topic_prefix).positions
    forgotten: list[int] = []

    def decide(lane: int, state: TrekkpliktigState) -> list[Record]:
        forgotten.append(len(state))
        return list(forget_records(positions, lane, trekkpliktig, state.keys()))

    operate_interruptible(settings, trekkpliktig, decide)
    output.line(f"{trekkpliktig}: forgotten, with {forgotten[-1]} orders; all will be published anew")
