"""`quarantine list|show|release`: list rejected records, print the raw bytes of one, or process it again."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from producer import bootstrap
from producer.cli import KAFKA, example, output, settings_of
from producer.cli.requests import new_request, perform_request
from producer.domain.requests import RELEASE
from producer.settings.model import ALL_NEEDS
from trekkpaalegg.cli import AsJson, EnvFile
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from producer.publish.quarantine_log import QuarantinedRecord
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output

_ID = re.compile(r"([0-9]{1,9})/([0-9]{1,18})")


def list_quarantine(settings: Settings, output: Output) -> None:
    """Print every record, without anything that may be personal."""
    found = bootstrap.find_cluster(settings)
    records = list(bootstrap.read_quarantined(settings, found.lanes))
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
    """Print the raw bytes of one record as they are. They may hold personal data."""
    record = _read(settings, record_id)
    output.note(f"{record.reason} at {record.field_path or 'the whole'}: {record.detail}")
    if record.raw_truncated:
        output.note(f"only the first {len(record.raw)} of {record.raw_bytes_total} bytes were kept")
    sys.stdout.flush()
    sys.stdout.buffer.write(record.raw + b"\n")
    sys.stdout.buffer.flush()


def release_quarantine(settings: Settings, output: Output, record_id: str, *, correction: bool) -> None:
    """Have a record processed again, and published if it can be understood now.

    The home of its order does it; if no worker runs, this process acquires the lanes. Raises `FatalError` if the record
    still cannot be understood, or if there is nothing to publish.
    """
    record = _read(settings, record_id)
    request = new_request(RELEASE, record=record.id, correction=correction)
    result = perform_request(settings, output, request, [record.trekkpliktig])[record.trekkpliktig]
    if result.outcome != "done":
        raise FatalError(f"{record.id} is not released: {result.detail}")
    waits = "nothing yet: versions before it cannot be fetched now, and it follows them"
    output.line(f"{record.id} released; published: {result.detail or waits}")


def _read(settings: Settings, record_id: str) -> QuarantinedRecord:
    match = _ID.fullmatch(record_id)
    if match is None:
        raise SettingsError([f"{record_id!r} is no id of a quarantined record: give partition/offset, such as 3/17"])
    found = bootstrap.find_cluster(settings)
    partition, offset = int(match[1]), int(match[2])
    if partition >= found.lanes:
        raise SettingsError([f"{record_id}: the quarantine has partitions 0 to {found.lanes - 1}"])
    return bootstrap.read_quarantined_one(settings, partition, offset)


RecordId = Annotated[str, typer.Argument(metavar="ID", help="partition/offset, as `quarantine list` shows it.")]

app = typer.Typer(help="Records that could not be understood.", epilog=example("quarantine list"), no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(app, name="quarantine")


@app.command("list", epilog=example("quarantine list --json"))
def _list(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """List the records that could not be understood, without personal data."""
    list_quarantine(settings_of(env_file, KAFKA), output(as_json=as_json))


@app.command("show", epilog=example("quarantine show 3/17"))
def _show(record_id: RecordId, *, env_file: EnvFile = None) -> None:
    """Print the raw bytes of one record. They may hold personal data."""
    show_quarantine(settings_of(env_file, KAFKA), output(), record_id)


@app.command("release", epilog=example("quarantine release 3/17 --correction"))
def _release(
    record_id: RecordId,
    *,
    correction: Annotated[
        bool, typer.Option("--correction", help="Publish changed content of a version that is published already.")
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Process one record again, and publish it if it can be understood now."""
    release_quarantine(settings_of(env_file, ALL_NEEDS), output(), record_id, correction=correction)
