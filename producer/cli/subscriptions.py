"""`subscriptions apply|list|delete`: one Altinn subscription for each trekkpliktig."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer
from rich.table import Table

from producer import bootstrap
from producer.cli import KAFKA, example, output, settings_of
from producer.errors import SuspendedError
from producer.notifications.subscriptions import shown
from producer.settings.trekkpliktige import ServedTrekkpliktige, TrekkpliktigeList
from trekkpaalegg.cli import AsJson, EnvFile, Yes, confirm, progress_bar, run_interruptible
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError, TrekkpaaleggError
from trekkpaalegg.identifiers import ORGANISASJONSNUMMER_DIGITS, is_digits
from trekkpaalegg.retry import short_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producer.notifications.subscriptions import SubscriptionKeeper, SubscriptionOutcome
    from producer.settings.model import Need, Settings
    from trekkpaalegg.cli import Output


UNANSWERED_IN_A_ROW_MAX = 25
"""After this many transient failures in a row Altinn is considered down, and the remaining ones are not tried."""

Result = TypeVar("Result")


class Failure(msgspec.Struct, frozen=True):
    """It could not be done for this trekkpliktig."""

    error: TrekkpaaleggError


class BatchRunner:
    """Runs an operation for many trekkpliktige. Transient failures are retried a few times, within seconds."""

    def __init__(self, at_once: int, stopping: threading.Event) -> None:
        self._at_once = at_once
        self._stopping = stopping
        self._lock = threading.Lock()
        self._unanswered = 0

    @property
    def is_stopping(self) -> bool:
        """Whether a signal to stop has come."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, or until a signal to stop comes."""
        self._stopping.wait(seconds)

    def each(self, what: str, names: Sequence[str], operation: Callable[[str], Result]) -> dict[str, Result | Failure]:
        """The result or failure of each name, in their order. Raises what concerns all, such as `FatalError`."""
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
            return Failure(RetryableError("not tried: Altinn did not answer the calls before it"))
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
"""How long `apply` waits for Altinn to call the address: that takes a second, and ten more after a failure."""

ROWS_SHOWN_MAX = 500
"""In a table; JSON has all."""

_PAUSE_SECONDS = 0.5
_PAUSE_SECONDS_MAX = 5.0
_NAMES_SHOWN_MAX = 20
_KEPT = ("made", "renewed", "unchanged")
_UNTRIED = "not validated: Altinn got no 2xx from the address, and sends no events there"

Results = dict[str, "SubscriptionOutcome | Failure"]


def apply_subscriptions(
    settings: Settings, output: Output, trekkpliktige: list[str], *, prune: bool, wait_seconds: float
) -> None:
    """Make sure that each has one validated subscription; with `prune` also that former trekkpliktige have none.

    `wait_seconds`: how long to wait for Altinn's validation. Raises `FatalError`, which names those for whom it could
    not be done, after all others have been done.
    """
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, output.note))
    names = _chosen(served, trekkpliktige)

    def work(keeper: SubscriptionKeeper, batch: BatchRunner) -> Results:
        results = batch.each("subscriptions", names, keeper.apply)
        _await_validation(keeper, batch, results, wait_seconds)
        if prune:
            results |= batch.each("former trekkpliktige", _former(settings, served), keeper.remove)
        return results

    _run(settings, output, served, work, must_be_valid=True)


def list_subscriptions(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Print the subscription of each. Raises as `apply_subscriptions`, but not for one that is not validated."""
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, output.note))
    names = _chosen(served, trekkpliktige)
    _run(settings, output, served, lambda keeper, batch: batch.each("subscriptions", names, keeper.found))


def delete_subscriptions(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Remove those of all in the list, or of those named, in the list or not. Raises as `list_subscriptions`."""
    served = ServedTrekkpliktige(TrekkpliktigeList(settings, output.note))
    wrong = [name for name in trekkpliktige if not is_digits(name, ORGANISASJONSNUMMER_DIGITS)]
    if wrong:
        raise SettingsError([f"--trekkpliktig: {len(wrong)} of those given do not have nine digits"])
    names = trekkpliktige or list(served)
    _run(settings, output, served, lambda keeper, batch: batch.each("subscriptions", names, keeper.remove))


def _chosen(served: ServedTrekkpliktige, trekkpliktige: list[str]) -> list[str]:
    unknown = [name for name in trekkpliktige if name not in served]
    if unknown:
        raise SettingsError(
            [f"--trekkpliktig {name}: is not among the trekkpliktige of the settings" for name in unknown]
        )
    return trekkpliktige or list(served)


def _former(settings: Settings, served: ServedTrekkpliktige) -> list[str]:
    """Those who are in the state on Kafka, because something of theirs was published, and no longer in the list."""
    found = bootstrap.find_cluster(settings)
    known = [name for lane in range(found.lanes) for name, _ in bootstrap.read_state(settings, lane)]
    return sorted(name for name in known if name not in served)


def _run(
    settings: Settings,
    output: Output,
    served: ServedTrekkpliktige,
    work: Callable[[SubscriptionKeeper, BatchRunner], Results],
    *,
    must_be_valid: bool = False,
) -> None:
    stopping = threading.Event()
    results: Results = {}
    with bootstrap.open_subscription_keeper(settings, served.external_ref_of, stopping) as keeper:
        batch = BatchRunner(settings.max_concurrent_calls, stopping)

        def body() -> None:
            results.update(work(keeper, batch))

        run_interruptible(body, stopping)
    _print(output, results)
    bad = [name for name, result in results.items() if isinstance(result, Failure)]
    if must_be_valid:
        bad += [name for name, result in results.items() if _is_invalid(result)]
    if bad:
        named = ", ".join(bad[:_NAMES_SHOWN_MAX])
        more = f" and {len(bad) - _NAMES_SHOWN_MAX} more" if len(bad) > _NAMES_SHOWN_MAX else ""
        raise FatalError(f"{len(bad)} of {len(results)} trekkpliktige are not as they should be: {named}{more}")


def _await_validation(keeper: SubscriptionKeeper, batch: BatchRunner, results: Results, wait_seconds: float) -> None:
    """Refresh those that Altinn has not called yet, until it has or the time is up."""
    deadline, pause = time.monotonic() + wait_seconds, _PAUSE_SECONDS
    while (waiting := [name for name, result in results.items() if _is_untried(result)]) and not batch.is_stopping:
        if time.monotonic() > deadline:
            return
        batch.pause(pause)
        pause = min(2 * pause, _PAUSE_SECONDS_MAX)

        before = {name: applied for name, applied in results.items() if not isinstance(applied, Failure)}
        refresh = partial(_refreshed, keeper, before)
        results.update(batch.each("validation", waiting, refresh))


def _refreshed(keeper: SubscriptionKeeper, before: dict[str, SubscriptionOutcome], name: str) -> SubscriptionOutcome:
    return keeper.refreshed(name, before[name])


def _is_untried(result: SubscriptionOutcome | Failure) -> bool:
    return not isinstance(result, Failure) and bool(result.standing) and not result.is_validated


def _is_invalid(result: SubscriptionOutcome | Failure) -> bool:
    """Whether it should be valid, and is not."""
    return not isinstance(result, Failure) and result.done in _KEPT and not result.is_validated


def _print(output: Output, results: Results) -> None:
    rows = [_row(name, result) for name, result in results.items()]
    if output.as_json:
        output.json(rows)
        return
    table = Table("trekkpliktig", "done", "id", "validated", "address", "remark")
    listed = rows if len(rows) <= ROWS_SHOWN_MAX else [row for row in rows if row["remark"]]
    for row in listed[:ROWS_SHOWN_MAX]:
        table.add_row(*(_cell(value) for value in row.values()))
    output.table(table)
    if len(rows) > ROWS_SHOWN_MAX:
        output.note(f"of {len(rows)} those with a remark, at most {ROWS_SHOWN_MAX}; --json prints all")
    done = Counter(str(row["done"]) for row in rows)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(done.items()))
    output.line(f"{len(rows)} trekkpliktige: {counts}; {sum(row['validated'] is True for row in rows)} validated")


def _row(name: str, result: SubscriptionOutcome | Failure) -> dict[str, object]:
    """The row of one trekkpliktig; its address without the secret."""
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
        remark = f"{len(result.standing)} subscriptions: `apply` removes all but one"
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


_ALTINN: frozenset[Need] = frozenset({"maskinporten", "trekkpliktige", "webhook"})

app = typer.Typer(
    help="Altinn's notifications: one subscription for each trekkpliktig.",
    epilog=example("subscriptions apply"),
    no_args_is_help=True,
)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(app, name="subscriptions")


@app.command("apply", epilog=example("subscriptions apply --prune"))
def _apply(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Also remove those of trekkpliktige that are in the state on Kafka but not in the list."
        ),
    ] = False,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for Altinn to validate new subscriptions.")
    ] = VALIDATION_SECONDS,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Subscribe for every trekkpliktig that has no valid subscription yet; run the receiver first. Safe to repeat."""
    settings = settings_of(env_file, _ALTINN | KAFKA if prune else _ALTINN)
    apply_subscriptions(settings, output(as_json=as_json), trekkpliktig or [], prune=prune, wait_seconds=wait_seconds)


@app.command("list", epilog=example("subscriptions list --json"))
def _list(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show each trekkpliktig's subscription and whether Altinn has validated it. The secret is never shown."""
    list_subscriptions(settings_of(env_file, _ALTINN), output(as_json=as_json), trekkpliktig or [])


@app.command("delete", epilog=example("subscriptions delete --trekkpliktig 314159265"))
def _delete(
    *,
    trekkpliktig: Annotated[
        list[str] | None, typer.Option(help="Only this one, in the list or not; may be given again.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Remove the subscriptions that lead to our receiver. Polling continues."""
    settings = settings_of(env_file, _ALTINN)
    whose = ", ".join(trekkpliktig) if trekkpliktig else "every trekkpliktig of the list"
    confirm(f"Remove the subscriptions of {whose}? Altinn will send no more events.", yes=yes)
    delete_subscriptions(settings, output(as_json=as_json), trekkpliktig or [])
