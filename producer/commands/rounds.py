"""`once`, `backfill` and `reconcile`: every trekkpliktig read once to its end, with progress, and what came of it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from producer import bootstrap
from producer.commands.interruptible import run_interruptible
from producer.domain.trekkpaalegg import Origin
from producer.errors import FatalError, SettingsError
from producer.membership.kafka import SESSION_TIMEOUT_SECONDS
from producer.observe.port import NullObserver
from producer.own import Own
from producer.service import NullWatch, Service
from producer.trekkpliktige_list import TrekkpliktigeList

if TYPE_CHECKING:
    from producer.commands.output import Output
    from producer.domain.detection import Detection
    from producer.domain.trekkpaalegg import Publication
    from producer.settings import Settings

ALONE_SECONDS_MAX = SESSION_TIMEOUT_SECONDS + 5.0
DIFFERENCES_SHOWN_MAX = 100_000
_PAUSE_SECONDS = 0.5


class Journal(NullObserver):
    """Keeps what a round did, and moves the bar. `differences` keeps the first so many of all published versions."""

    def __init__(self, progress: Progress, total: int, *, keep_differences: bool) -> None:
        self._progress = progress
        self._task = progress.add_task("trekkpliktige", total=total, versions=0)
        self._keep = keep_differences
        self._lock = threading.Lock()
        self.published_count = 0
        self.quarantined_count = 0
        self.vanished_count = 0
        self.positions_lowered = 0
        self.differences: list[dict[str, object]] = []

    def published(self, lane: int, trekkpliktig: str, detection: Detection) -> None:  # noqa: ARG002 - lanes do not matter
        """See `Observer`."""
        with self._lock:
            self.published_count += len(detection.publications)
            self.quarantined_count += len(detection.rejected)
            if self._keep and len(self.differences) < DIFFERENCES_SHOWN_MAX:
                self.differences += [_difference(trekkpliktig, each) for each in detection.publications]
                self.differences += [
                    {
                        "trekkpliktig": trekkpliktig,
                        "trekkid": each.trekkid,
                        "trekkversjon": each.trekkversjon,
                        "difference": f"quarantined: {each.reason.value}",
                    }
                    for each in detection.rejected
                ]
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


def _difference(trekkpliktig: str, publication: Publication) -> dict[str, object]:
    trekkpaalegg = publication.trekkpaalegg
    kind = "published late" if publication.late else "published"
    return {
        "trekkpliktig": trekkpliktig,
        "trekkid": trekkpaalegg.trekkid,
        "trekkversjon": trekkpaalegg.trekkversjon,
        "difference": "corrected" if publication.correction is not None else kind,
    }


def run_once(settings: Settings, output: Output) -> None:
    """One round over all trekkpliktige. Raises `FatalError` unless every one was read to its end."""
    _round(settings, output, None, None, show_differences=False)


def run_backfill(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Read all, or those named, from 0 and publish what is missing. Raises as `run_once`."""
    refuse_while_a_worker_runs(settings)
    _round(settings, output, Origin.BACKFILL, frozenset(trekkpliktige) or None, show_differences=False)


def run_reconcile(settings: Settings, output: Output) -> None:
    """Compare all that the source has with what was published; publish and print what is missing.

    Raises as `run_once`.
    """
    refuse_while_a_worker_runs(settings)
    _round(settings, output, Origin.RECONCILE, None, show_differences=True)


def refuse_while_a_worker_runs(settings: Settings) -> None:
    """Raise `FatalError` while a worker of this application is live; one that was killed counts for one session."""
    deadline = time.monotonic() + ALONE_SECONDS_MAX
    while (members := bootstrap.group_members(settings)) > 0:
        if time.monotonic() > deadline:
            raise FatalError(
                f"{members} worker(s) of {settings.application_id} are running: this command writes to their lanes; "
                "stop them first"
            )
        time.sleep(_PAUSE_SECONDS)


def _round(
    settings: Settings, output: Output, reread: Origin | None, only: frozenset[str] | None, *, show_differences: bool
) -> None:
    own = Own(TrekkpliktigeList(settings, output.note))
    unknown = sorted(name for name in only or () if name not in own)
    if unknown:
        raise SettingsError(
            [f"--trekkpliktig {name}: is not among the trekkpliktige of the settings" for name in unknown]
        )
    total = len(only) if only else len(own)
    with _progress() as progress:
        journal = Journal(progress, total, keep_differences=show_differences)
        stopping = threading.Event()
        service = Service(settings, journal, NullWatch(), stopping, once=True, reread=reread, only=only)
        run_interruptible(service.run, stopping)
    failed = {name: why for each in service.rounds.values() for name, why in each.failed_for_good.items()}
    _tell(output, journal, total, failed, show_differences=show_differences)
    if failed:
        raise FatalError(f"{len(failed)} of {total} trekkpliktige were not read to their end; the log says why")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[versions]} versions"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not Console(stderr=True).is_terminal,
        transient=True,
    )


def _tell(output: Output, journal: Journal, total: int, failed: dict[str, str], *, show_differences: bool) -> None:
    counts = {
        "trekkpliktige": total,
        "read_to_end": total - len(failed),
        "published": journal.published_count,
        "quarantined": journal.quarantined_count,
        "known_but_not_listed": journal.vanished_count,
        "positions_lowered": journal.positions_lowered,
    }
    if output.as_json:
        output.json({**counts, "failed": failed} | ({"differences": journal.differences} if show_differences else {}))
        return
    if show_differences and journal.differences:
        table = Table("trekkpliktig", "trekkid", "trekkversjon", "difference")
        for each in journal.differences:
            table.add_row(
                *(str(each[column] or "?") for column in ("trekkpliktig", "trekkid", "trekkversjon", "difference"))
            )
        output.table(table)
    for name, why in failed.items():
        output.note(f"{name}: {why}")
    output.line(
        f"{counts['read_to_end']} of {total} trekkpliktige read to their end; {journal.published_count} versions "
        f"published, {journal.quarantined_count} records quarantined, {journal.vanished_count} known orders not listed"
    )
