"""`once`, `backfill` and `reconcile`: read every trekkpliktig, show progress and print the outcome."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.table import Table

from producer import bootstrap
from producer.cli import example, output, settings_of
from producer.cli.requests import new_request, perform_in_lanes, perform_request, versions_bar
from producer.domain.requests import BACKFILL, RECONCILE, REPAIR
from producer.domain.state import LOST
from producer.observe.port import NullObserver
from producer.publish.quarantine_log import decode_quarantined
from producer.publish.topics import Topics
from producer.settings.model import ALL_NEEDS
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from trekkpaalegg.cli import AsJson, EnvFile, freeze_imported_modules, run_interruptible
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka import Message
    from rich.progress import Progress

    from producer.detect.decide import Decision
    from producer.domain.requests import RequestResult
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output


class RoundCounts(NullObserver):
    """Counts what a round does, and advances the progress bar."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("trekkpliktige", total=total, versions=0)
        self._lock = threading.Lock()
        self.published_count = 0
        self.quarantined_count = 0
        self.vanished_count = 0
        self.positions_lowered = 0

    def published(self, lane: int, decisions: Sequence[Decision]) -> None:  # noqa: ARG002 - totals matter
        """See `Observer`."""
        with self._lock:
            self.published_count += sum(len(each.publications) for each in decisions)
            self.quarantined_count += sum(len(each.rejected) for each in decisions)
        self._progress.update(self._task, versions=self.published_count)

    def reading_ended(self, lane: int, trekkpliktig: str, error: BaseException | None, vanished: int) -> None:  # noqa: ARG002 - as above
        """See `Observer`."""
        if error is None:
            with self._lock:
                self.vanished_count += vanished
            self._progress.advance(self._task)

    def position_ahead(self, trekkpliktig: str, position: int, source_max: int) -> None:  # noqa: ARG002 - as above
        """See `Observer`."""
        with self._lock:
            self.positions_lowered += 1


def run_once(settings: Settings, output: Output) -> None:
    """One round over all trekkpliktige. Raises `FatalError` unless every one was read to its end."""
    total = len(ServedTrekkpliktige(TrekkpliktigeList(settings, output.note)))
    with versions_bar() as progress:
        journal = RoundCounts(progress, total)
        stopping = threading.Event()
        service = bootstrap.build_service(settings, journal, stopping, once=True)
        run_interruptible(service.run, stopping)
    failed = {name: why for each in service.rounds.values() for name, why in each.failed_for_good.items()}
    counts = {
        "trekkpliktige": total,
        "read_to_end": total - len(failed),
        "published": journal.published_count,
        "quarantined": journal.quarantined_count,
        "known_but_not_listed": journal.vanished_count,
        "positions_lowered": journal.positions_lowered,
    }
    print_round(output, counts, failed)


def print_round(
    output: Output,
    counts: dict[str, int],
    failed: dict[str, str],
    differences: list[dict[str, object]] | None = None,
) -> None:
    """Print what a round did. Raises `FatalError` unless all were read to their end."""
    if output.as_json:
        output.json({**counts, "failed": failed} | ({} if differences is None else {"differences": differences}))
    else:
        for name, why in failed.items():
            output.note(f"{name}: {why}")
        output.line(
            f"{counts['read_to_end']} of {counts['trekkpliktige']} trekkpliktige read to their end; "
            f"{counts['published']} versions published, {counts['quarantined']} records quarantined, "
            f"{counts['known_but_not_listed']} known orders not listed"
        )
    if failed:
        raise FatalError(
            f"{len(failed)} of {counts['trekkpliktige']} trekkpliktige were not read to their end; the log says why"
        )


DIFFERENCES_SHOWN_MAX = 100_000
ENDS_SECONDS_MAX = 30.0
"""How long to wait for the last rows. An open transaction of another lane hides what follows it for at most 15 s."""

_RECONCILE = b"reconcile"
_REPAIR = b"repair"
_COMPARED = frozenset({_RECONCILE, _REPAIR})
_GAPFILL = b"gapfill"
_COLUMNS = ("trekkpliktig", "trekkid", "trekkversjon", "difference")


def run_backfill(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Read all, or those named, from 0 and publish what is missing. Raises `FatalError` unless all were read."""
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, output.note))
    unknown = sum(name not in served for name in trekkpliktige)
    if unknown:
        raise SettingsError(
            [f"--trekkpliktig: {unknown} of those given are not among the trekkpliktige of the settings"]
        )
    wanted = frozenset(trekkpliktige) or frozenset(served)
    _print(output, perform_request(settings, output, new_request(BACKFILL), wanted))


def run_reconcile(settings: Settings, output: Output, *, history: bool) -> None:
    """Compare all that the source has with what was published; publish and print what is missing.

    With `history` also compare what was published with what stands in the topic, and publish again what is lost. Raises
    as `run_backfill`, and `FatalError` also if something of that cannot be had.
    """
    wanted = frozenset(ServedTrekkpliktige(TrekkpliktigeList(settings, output.note)))
    topics = Topics.of(settings.topic_prefix)
    bootstrap.find_cluster(settings)
    with bootstrap.build_follower(settings, (topics.versjoner, topics.quarantine)) as tail:
        differences = Differences(topics.quarantine)

        def watch(wait_seconds: float = 0.0) -> None:
            differences.add(tail.poll(wait_seconds))

        lost = _find_lost(settings, output) if history else None
        results = perform_request(settings, output, new_request(RECONCILE), wanted, watch)
        ends, deadline = tail.admin.ends(tail.positions), time.monotonic() + ENDS_SECONDS_MAX
        while not tail.has_reached(ends) and time.monotonic() < deadline:
            watch(0.1)
    if lost is None:
        _print(output, results, differences.rows())
        return
    left = _still_lost(settings)
    output.note(
        f"{lost.versions} versions were found to be lost from the history; {differences.repaired} lost ones are "
        f"published again; {lost.copied} newest versions are copied to {topics.gjeldende}"
    )
    for names in lost.corrections:
        output.note(f"corrections are lost, and are held back until `quarantine release --correction`: {names}")
    _print(output, results, differences.rows() + left)
    if left or lost.corrections:
        raise FatalError(
            f"what the history has lost cannot all be had now: {len(left)} ranges of versions are recorded as missing, "
            "as listed; they are published if they can be had later"
        )


class _Lost(NamedTuple):
    """What was found to be lost: how many versions, how many in `…-gjeldende` alone, and of which the corrections."""

    versions: int
    copied: int
    corrections: list[str]


def _find_lost(settings: Settings, output: Output) -> _Lost:
    """Have each lane compare what it has published with the history. Raises `FatalError` unless all have."""
    results = perform_in_lanes(settings, output, new_request(REPAIR))
    for lane, each in enumerate(results):
        if each.outcome != "done":
            raise FatalError(f"lane {lane} was not compared with the history: {each.detail}")
    return _Lost(
        sum(each.vanished for each in results),
        sum(each.request.published for each in results),
        [each.detail for each in results if each.detail],
    )


def _still_lost(settings: Settings) -> list[dict[str, object]]:
    """A row for each range of versions that the history has lost and that are not published again."""
    return [
        _difference(next(iter(order.readers), None), key.decode(), each.first, f"up to {each.last}: {each.reason}")
        for lane in range(bootstrap.find_cluster(settings).lanes)
        for key, order in bootstrap.read_state(settings, lane).orders.open_orders()
        for each in order.missing
        if each.reason.startswith(LOST)
    ]


class Differences:
    """What a comparison has published and quarantined, from the records of the topics.

    Gaps are filled by comparisons and by ordinary polling. Those of polling come just before the version that it found.
    """

    def __init__(self, quarantine: str) -> None:
        self._quarantine = quarantine
        self._rows: list[dict[str, object]] = []
        self._filled: dict[str, list[dict[str, object]]] = {}
        """Rows of filled gaps by trekkid, until a version of another origin follows."""
        self.repaired = 0
        """How many versions that the history had lost are published again."""

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages, in the order of their partitions."""
        for message in messages:
            headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]  # a consumer gives pairs with bytes
            origin = headers.get("ce_origin")
            if message.topic() == self._quarantine:
                if origin == _RECONCILE:
                    record = decode_quarantined(message)
                    reason = f"quarantined: {record.reason}"
                    self._add(_difference(record.trekkpliktig, record.trekkid, record.trekkversjon, reason))
                continue
            trekkid = headers["ce_subject"].decode()
            filled = self._filled.pop(trekkid, [])
            if origin == _GAPFILL:
                self._filled[trekkid] = [*filled, _row_of(trekkid, headers)][:DIFFERENCES_SHOWN_MAX]
            elif origin in _COMPARED:
                self.repaired += origin == _REPAIR
                for row in (*filled, _row_of(trekkid, headers)):
                    self._add(row)

    def rows(self) -> list[dict[str, object]]:
        """A row for each event and quarantined record that a comparison, or a gap that it found, has led to."""
        return self._rows + [row for rows in self._filled.values() for row in rows]

    def _add(self, row: dict[str, object]) -> None:
        if len(self._rows) < DIFFERENCES_SHOWN_MAX:
            self._rows.append(row)


def _row_of(trekkid: str, headers: dict[str, bytes]) -> dict[str, object]:
    trekkversjon = int(headers["ce_id"].decode().removeprefix(f"{trekkid}/").split("/")[0])
    kind = "published late" if headers.get("ce_late") == b"true" else "published"
    if "ce_correction" in headers:
        kind = "corrected"
    if headers["ce_origin"] == _REPAIR:
        kind = "published again"
    return _difference(headers["ce_trekkpliktig"].decode(), trekkid, trekkversjon, kind)


def _difference(
    trekkpliktig: str | None, trekkid: str | None, trekkversjon: int | None, what: str
) -> dict[str, object]:
    return {"trekkpliktig": trekkpliktig, "trekkid": trekkid, "trekkversjon": trekkversjon, "difference": what}


def _print(
    output: Output, results: dict[str, RequestResult], differences: list[dict[str, object]] | None = None
) -> None:
    failed = {name: each.detail for name, each in sorted(results.items()) if each.outcome != "done"}
    counts = {
        "trekkpliktige": len(results),
        "read_to_end": len(results) - len(failed),
        "published": sum(each.request.published for each in results.values()),
        "quarantined": sum(each.request.quarantined for each in results.values()),
        "known_but_not_listed": sum(each.vanished for each in results.values()),
        "positions_lowered": sum(each.position_lowered for each in results.values()),
    }
    if differences and not output.as_json:
        table = Table(*_COLUMNS)
        for each in differences:
            table.add_row(*(str(each[column] or "?") for column in _COLUMNS))
        output.table(table)
    print_round(output, counts, failed, differences)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.command(epilog=example("once --json"))(once)
    program.command(epilog=example("backfill --trekkpliktig 314159265"))(backfill)
    program.command(epilog=example("reconcile --json"))(reconcile)


def once(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Read every trekkpliktig once and publish what is new. Fails unless every one was read to its end."""
    freeze_imported_modules()
    run_once(settings_of(env_file, ALL_NEEDS), output(as_json=as_json))


def backfill(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Read again from the start and publish what is missing. Running workers do it, or else this command."""
    freeze_imported_modules()
    run_backfill(settings_of(env_file, ALL_NEEDS), output(as_json=as_json), trekkpliktig or [])


def reconcile(
    *,
    history: Annotated[
        bool, typer.Option("--history", help="Compare with what stands in Kafka too; publish again what is lost there.")
    ] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Compare the full lists of the source with what was published, publish what is missing, print differences."""
    freeze_imported_modules()
    run_reconcile(settings_of(env_file, ALL_NEEDS), output(as_json=as_json), history=history)
