"""`subscriptions apply`, `list` and `delete`: one Altinn subscription for each employer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
from rich.table import Table

from producer import bootstrap
from producer.errors import SuspendedError
from producer.notifications.address import shown
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from trekkpaalegg.cli import progress_bar, run_interruptible
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError, TrekkpaaleggError
from trekkpaalegg.identifiers import ORGANISASJONSNUMMER_DIGITS
from trekkpaalegg.retry import short_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.notifications.subscriptions import Applied, SubscriptionKeeper
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output


UNANSWERED_IN_A_ROW_MAX = 25
"""So many passing failures with no success between them, and the other side is taken to be down: no one else is tried.
"""

Result = TypeVar("Result")


class Failure(msgspec.Struct, frozen=True):
    """It could not be done for this one."""

    error: TrekkpaaleggError


class Many:
    """Runs operations for many trekkpliktige. Passing failures are tried again a few times, in seconds."""

    def __init__(self, at_once: int, stopping: threading.Event) -> None:
        self._at_once = at_once
        self._stopping = stopping
        self._lock = threading.Lock()
        self._unanswered = 0

    @property
    def is_stopping(self) -> bool:
        """Whether a signal to end has come."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, no longer than until a signal to end."""
        self._stopping.wait(seconds)

    def each(self, what: str, names: Sequence[str], operation: Callable[[str], Result]) -> dict[str, Result | Failure]:
        """The result or failure of each name, in their order. Raises what strikes all, `FatalError` for one."""
        self._unanswered = 0
        with progress_bar() as progress, ThreadPoolExecutor(self._at_once, thread_name_prefix="many") as pool:
            task = progress.add_task(what, total=len(names))

            def run(name: str) -> Result | Failure:
                try:
                    return self._one(name, operation)
                finally:
                    progress.advance(task)

            try:
                return dict(zip(names, pool.map(run, names), strict=True))
            except BaseException:
                self._stopping.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, name: str, operation: Callable[[str], Result]) -> Result | Failure:
        with self._lock:
            is_down = self._unanswered >= UNANSWERED_IN_A_ROW_MAX
        if is_down or self.is_stopping:
            return Failure(RetryableError("not tried: those before it got no answer"))
        try:
            result = short_retry(self._stopping)(operation, name)
        except SuspendedError as error:
            self._count(answered=True)
            return Failure(error)
        except RetryableError as error:
            self._count(answered=False)
            return Failure(error)
        self._count(answered=True)
        return result

    def _count(self, *, answered: bool) -> None:
        with self._lock:
            self._unanswered = 0 if answered else self._unanswered + 1


VALIDATION_SECONDS = 30.0
"""How long `apply` waits for Altinn to have tried the address; it takes a second, and a failed attempt ten more."""

ROWS_SHOWN_MAX = 500
"""Of a table for people."""

_PAUSE_SECONDS = 0.5
_PAUSE_SECONDS_MAX = 5.0
_NAMES_SHOWN_MAX = 20
_STANDING = ("made", "renewed", "unchanged")
_UNTRIED = "not validated: Altinn got no 2xx from the address, and sends no events there"

Results = dict[str, "Applied | Failure"]


def apply_subscriptions(
    settings: Settings, output: Output, trekkpliktige: list[str], *, prune: bool, wait_seconds: float
) -> None:
    """See that one stands for each, validated; with `prune` also that none stands for those no longer in the list.

    `wait_seconds` is how long Altinn has for the validation.

    Raises `FatalError` that names those for whom it could not be done; all others are served.
    """
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, output.note))
    names = _chosen(served, trekkpliktige)

    def work(keeper: SubscriptionKeeper, many: Many) -> Results:
        results = many.each("subscriptions", names, keeper.apply)
        _await_validation(keeper, many, results, wait_seconds)
        if prune:
            results |= many.each("former trekkpliktige", _former(settings, served), keeper.remove)
        return results

    _run(settings, output, served, work, must_be_valid=True)


def list_subscriptions(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Show what stands for each. Raises as `apply_subscriptions`, save for what is not validated."""
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, output.note))
    names = _chosen(served, trekkpliktige)
    _run(settings, output, served, lambda keeper, many: many.each("subscriptions", names, keeper.found))


def delete_subscriptions(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Remove those of all in the list, or of those named, who need not be in it. Raises as `list_subscriptions`."""
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, output.note))
    wrong = [name for name in trekkpliktige if not (name.isascii() and name.isdigit() and _has_nine(name))]
    if wrong:
        raise SettingsError([f"--trekkpliktig: {len(wrong)} of those given are no organisation numbers of nine digits"])
    names = trekkpliktige or list(served)
    _run(settings, output, served, lambda keeper, many: many.each("subscriptions", names, keeper.remove))


def _has_nine(name: str) -> bool:
    return len(name) == ORGANISASJONSNUMMER_DIGITS


def _chosen(served: ServedTrekkpliktige, trekkpliktige: list[str]) -> list[str]:
    unknown = [name for name in trekkpliktige if name not in served]
    if unknown:
        raise SettingsError(
            [f"--trekkpliktig {name}: is not among the trekkpliktige of the settings" for name in unknown]
        )
    return trekkpliktige or list(served)


def _former(settings: Settings, served: ServedTrekkpliktige) -> list[str]:
    """Those of whom something was published once, and who are no longer in the list: what is known stands in Kafka."""
    found = bootstrap.find_cluster(settings)
    known = [name for lane in range(found.lanes) for name, _ in bootstrap.read_state(settings, lane)]
    return sorted(name for name in known if name not in served)


def _run(
    settings: Settings,
    output: Output,
    served: ServedTrekkpliktige,
    work: Callable[[SubscriptionKeeper, Many], Results],
    *,
    must_be_valid: bool = False,
) -> None:
    stopping = threading.Event()
    results: Results = {}
    with bootstrap.open_subscription_keeper(settings, served.external_ref_of, stopping) as keeper:
        many = Many(settings.max_concurrent_calls, stopping)

        def body() -> None:
            results.update(work(keeper, many))

        run_interruptible(body, stopping)
    _tell(output, results)
    bad = [name for name, result in results.items() if isinstance(result, Failure)]
    if must_be_valid:
        bad += [name for name, result in results.items() if _is_wanting(result)]
    if bad:
        named = ", ".join(bad[:_NAMES_SHOWN_MAX])
        more = f" and {len(bad) - _NAMES_SHOWN_MAX} more" if len(bad) > _NAMES_SHOWN_MAX else ""
        raise FatalError(f"{len(bad)} of {len(results)} trekkpliktige are not as they should be: {named}{more}")


def _await_validation(keeper: SubscriptionKeeper, many: Many, results: Results, wait_seconds: float) -> None:
    """Look at those again that Altinn has yet to try, for a while, and keep how they stand at the end."""
    deadline, pause = time.monotonic() + wait_seconds, _PAUSE_SECONDS
    while (waiting := [name for name, result in results.items() if _is_untried(result)]) and not many.is_stopping:
        if time.monotonic() > deadline:
            return
        many.pause(pause)
        pause = min(2 * pause, _PAUSE_SECONDS_MAX)

        before = {name: applied for name, applied in results.items() if not isinstance(applied, Failure)}
        look = partial(_look_again, keeper, before)
        results.update(many.each("validation", waiting, look))


def _look_again(keeper: SubscriptionKeeper, before: dict[str, Applied], name: str) -> Applied:
    return keeper.refreshed(name, before[name])


def _is_untried(result: Applied | Failure) -> bool:
    return not isinstance(result, Failure) and bool(result.standing) and not result.is_validated


def _is_wanting(result: Applied | Failure) -> bool:
    """Whether one should stand that Altinn sends events to, and does not."""
    return not isinstance(result, Failure) and result.done in _STANDING and not result.is_validated


def _tell(output: Output, results: Results) -> None:
    rows = [_row(name, result) for name, result in results.items()]
    if output.as_json:
        output.json(rows)
        return
    table = Table("trekkpliktig", "done", "id", "validated", "address", "remark")
    told = rows if len(rows) <= ROWS_SHOWN_MAX else [row for row in rows if row["remark"]]
    for row in told[:ROWS_SHOWN_MAX]:
        table.add_row(*(_cell(value) for value in row.values()))
    output.table(table)
    if len(rows) > ROWS_SHOWN_MAX:
        output.note(f"of {len(rows)} those with a remark, at most {ROWS_SHOWN_MAX}; --json prints all")
    done = Counter(str(row["done"]) for row in rows)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(done.items()))
    output.line(f"{len(rows)} trekkpliktige: {counts}; {sum(row['validated'] is True for row in rows)} validated")


def _row(name: str, result: Applied | Failure) -> dict[str, object]:
    """What is told of one; its address without the secret."""
    if isinstance(result, Failure):
        return {
            "trekkpliktig": name,
            "done": "failed",
            "id": None,
            "validated": None,
            "address": None,
            "remark": str(result.error),
        }
    remark = f"{result.removed} removed" if result.removed else ""
    if len(result.standing) > 1:
        remark = f"{len(result.standing)} stand: apply removes all but one"
    if _is_untried(result):
        remark = _UNTRIED
    standing = next(iter(result.standing), None)
    return {
        "trekkpliktig": name,
        "done": result.done,
        "id": None if standing is None else standing.id,
        "validated": None if standing is None else result.is_validated,
        "address": None if standing is None else shown(standing.end_point),
        "remark": remark,
    }


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
