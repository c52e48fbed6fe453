"""`quarantine list|show|release`: what could not be understood, one of it raw, and another try with it."""

from __future__ import annotations

import re
import sys
import threading
import time
from typing import TYPE_CHECKING

from rich.table import Table

from producer import bootstrap
from producer.commands.interruptible import operate_interruptible
from producer.detect import needed_versions
from producer.domain.detection import Context
from producer.domain.trekkpaalegg import Failed, Gone, Origin, Rejected
from producer.errors import FatalError, RejectedTrekkpaaleggError, SettingsError
from producer.kafka_properties import kafka_properties
from producer.membership.kafka import SESSION_TIMEOUT_SECONDS
from producer.observe.port import NullObserver
from producer.own import Own
from producer.publish.quarantine_log import read_one, read_quarantine
from producer.publish.topics import Topics
from producer.records import DoesNotFitError
from producer.release import release
from producer.source.wire import read_trekkpaalegg
from producer.trekkpliktige_list import TrekkpliktigeList

if TYPE_CHECKING:
    from producer.commands.output import Output
    from producer.domain.state import TrekkpliktigState
    from producer.domain.trekkpaalegg import Trekkpaalegg
    from producer.publish.port import Record
    from producer.publish.quarantine_log import QuarantinedRecord
    from producer.settings import Settings
    from producer.source.port import TrekkpaaleggSource

ALONE_SECONDS_MAX = SESSION_TIMEOUT_SECONDS + 5.0
_PAUSE_SECONDS = 0.5
_ID = re.compile(r"([0-9]{1,9})/([0-9]{1,18})")


def list_quarantine(settings: Settings, output: Output) -> None:
    """Print every record without what may be personal in it."""
    found = bootstrap.find_cluster(settings)
    topic = Topics.of(settings.topic_prefix).quarantine
    records = list(read_quarantine(kafka_properties(settings), topic, found.lanes))
    records.sort(key=lambda record: record.rejected_at)
    rows = [
        {
            "id": record.id,
            "rejected_at": record.rejected_at.isoformat(timespec="seconds"),
            "reason": record.reason,
            "field_path": record.field_path,
            "trekkpliktig": record.trekkpliktig,
            "trekkid": record.trekkid,
            "trekkversjon": record.trekkversjon,
            "raw_bytes": record.raw_bytes_total,
        }
        for record in records
    ]
    if output.as_json:
        output.json(rows)
        return
    table = Table("id", "rejected", "reason", "field", "trekkpliktig", "trekkid", "trekkversjon", "bytes")
    for row in rows:
        table.add_row(*("?" if value is None else str(value) for value in row.values()))
    output.table(table)


def show_quarantine(settings: Settings, output: Output, record_id: str) -> None:
    """Print the raw bytes of one record as they are. They may hold personal data: mind where they go."""
    record = _read(settings, record_id)
    output.note(f"{record.reason} at {record.field_path or 'the whole'}: {record.detail}")
    if record.raw_truncated:
        output.note(f"only the first {len(record.raw)} of {record.raw_bytes_total} bytes were kept")
    sys.stdout.flush()
    sys.stdout.buffer.write(record.raw + b"\n")
    sys.stdout.buffer.flush()


def release_quarantine(settings: Settings, output: Output, record_id: str, *, correction: bool) -> None:
    """Try a record again, and publish what it says if it can be understood now.

    Raises `RejectedTrekkpaaleggError` when it still cannot be, or when there is nothing to publish; `FatalError` while
    a worker runs, and when versions before it cannot be fetched now.
    """
    _refuse_while_a_worker_runs(settings)
    record = _read(settings, record_id)
    own = Own(TrekkpliktigeList(settings, output.note))
    source = bootstrap.build_source(settings, NullObserver(), own, threading.Event())
    element = _understood(record, source)
    found = bootstrap.find_cluster(settings)
    builder = bootstrap.build_records(settings, found.batch_bytes_max)
    context = Context(record.trekkpliktig, own, Origin.RELEASE, bootstrap.now_microseconds(), moves_position=False)
    published: list[str] = []

    def decide(lane: int, state: TrekkpliktigState) -> list[Record]:
        versions = {
            wanted: source.fetch_trekkpaalegg(record.trekkpliktig, *wanted)
            for wanted in needed_versions(state, [element])
        }
        detection = release(state, element, versions, context, correction=correction)
        if detection.stopped is not None:
            raise FatalError(f"a version before it cannot be fetched now ({detection.stopped.reason}); try again later")
        published.extend(
            f"{each.trekkpaalegg.trekkid}/{each.trekkpaalegg.trekkversjon}" for each in detection.publications
        )
        try:
            return builder.of_detection(lane, state, detection, context)
        except DoesNotFitError as misfit:
            raise misfit.why from misfit

    operate_interruptible(settings, record.trekkpliktig, decide)
    output.line(f"{record.id} released; published: {', '.join(published) or 'nothing: it was left to another lane'}")


def _refuse_while_a_worker_runs(settings: Settings) -> None:
    """Raise `FatalError` while a worker of this application is live; one that was killed counts for one session."""
    deadline = time.monotonic() + ALONE_SECONDS_MAX
    while (members := bootstrap.group_members(settings)) > 0:
        if time.monotonic() > deadline:
            raise FatalError(
                f"{members} worker(s) of {settings.application_id} are running: this command writes to their lanes; "
                "stop them first"
            )
        time.sleep(_PAUSE_SECONDS)


def _understood(record: QuarantinedRecord, source: TrekkpaaleggSource) -> Trekkpaalegg:
    """What the record says, read anew; from the source when too little of it was kept."""
    element: Trekkpaalegg | Rejected | Gone | Failed = read_trekkpaalegg(record.raw, record.trekkpliktig)
    if record.raw_truncated and record.trekkid and record.trekkversjon:
        element = source.fetch_trekkpaalegg(record.trekkpliktig, record.trekkid, record.trekkversjon)
    if isinstance(element, Rejected):
        raise RejectedTrekkpaaleggError(f"it still cannot be understood ({element.reason.value})", element.field_path)
    if isinstance(element, Gone | Failed):
        raise FatalError("only a part of it was kept, and the source does not give the whole now; try again later")
    return element


def _read(settings: Settings, record_id: str) -> QuarantinedRecord:
    match = _ID.fullmatch(record_id)
    if match is None:
        raise SettingsError([f"{record_id!r} is no id of a quarantined record: give partition/offset, such as 3/17"])
    found = bootstrap.find_cluster(settings)
    partition, offset = int(match[1]), int(match[2])
    if partition >= found.lanes:
        raise SettingsError([f"{record_id}: the quarantine has partitions 0 to {found.lanes - 1}"])
    return read_one(kafka_properties(settings), Topics.of(settings.topic_prefix).quarantine, partition, offset)
