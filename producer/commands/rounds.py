"""`once`: every trekkpliktig read once to its end, with progress, and what came of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from producer.commands.interruptible import run_interruptible
from producer.commands.progress import progress_bar
from producer.errors import FatalError
from producer.observe.port import NullObserver
from producer.own import Own
from producer.service import NullWatch, Service
from producer.trekkpliktige_list import TrekkpliktigeList

if TYPE_CHECKING:
    from rich.progress import Progress

    from producer.commands.output import Output
    from producer.domain.detection import Detection
    from producer.settings import Settings


class Journal(NullObserver):
    """Counts what a round did, and moves the bar."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("trekkpliktige", total=total, versions=0)
        self._lock = threading.Lock()
        self.published_count = 0
        self.quarantined_count = 0
        self.vanished_count = 0
        self.positions_lowered = 0

    def published(self, lane: int, trekkpliktig: str, detection: Detection) -> None:  # noqa: ARG002 - totals matter
        """See `Observer`."""
        with self._lock:
            self.published_count += len(detection.publications)
            self.quarantined_count += len(detection.rejected)
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
    total = len(Own(TrekkpliktigeList(settings, output.note)))
    with progress_bar() as progress:
        journal = Journal(progress, total)
        stopping = threading.Event()
        service = Service(settings, journal, NullWatch(), stopping, once=True)
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
    tell_round(output, counts, failed)


def tell_round(
    output: Output,
    counts: dict[str, int],
    failed: dict[str, str],
    differences: list[dict[str, object]] | None = None,
) -> None:
    """Print what a round did. Raises `FatalError` when some were not read to their end."""
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
