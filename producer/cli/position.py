"""`position show|set|forget|rebuild`: how far each list has been read, and what operators change of the state."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from producer import bootstrap
from producer.cli import KAFKA, example, output, settings_of
from producer.cli.requests import new_request, perform_request, require_done, require_numbers
from producer.domain.requests import FORGET, SET
from producer.service import now_microseconds
from trekkpaalegg.cli import AsJson, EnvFile, Yes, confirm, progress_bar, rare_garbage_collection
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Collection

    from producer.domain.state import TrekkpliktigState
    from producer.publish.topics import FoundTopics
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def show_position(settings: Settings, output: Output, trekkpliktige: list[str]) -> None:
    """Print the content of `…-positions` for those named, or for all. It only reads, and needs no lane."""
    found = bootstrap.find_cluster(settings)
    rows: list[dict[str, object]] = []
    missing: Counter[str] = Counter()
    for lane in range(found.lanes):
        state = bootstrap.read_state(settings, lane)
        rows += [_row(name, lane, each) for name, each in state if not trekkpliktige or name in trekkpliktige]
        for _, order in state.orders.open_orders():
            missing.update(dict.fromkeys(order.readers, sum(each.last - each.first + 1 for each in order.missing)))
    for row in rows:
        row["versions_missing"] = missing[str(row["trekkpliktig"])]
    rows.sort(key=lambda row: str(row["trekkpliktig"]))
    if output.as_json:
        output.json(rows)
        return
    table = Table(
        "trekkpliktig", "lane", "position", "last compared", "orders", "versions missing", "suspended", "requests"
    )
    for row in rows:
        shown = row | {"reconciled_at": row["reconciled_at"] or "never", "suspended_at": row["suspended_at"] or "no"}
        table.add_row(*(str(value) for value in shown.values()))
    output.table(table)


def _row(trekkpliktig: str, lane: int, state: TrekkpliktigState) -> dict[str, object]:
    position = state.position
    return {
        "trekkpliktig": trekkpliktig,
        "lane": lane,
        "position": position.position,
        "reconciled_at": _instant(position.reconciled_at),
        "orders": len(state),
        "versions_missing": 0,
        "suspended_at": _instant(position.suspended_at),
        "requests": ", ".join(request.kind for request in position.requests),
    }


def _instant(microseconds: int | None) -> str | None:
    return None if microseconds is None else (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def set_position(settings: Settings, output: Output, trekkpliktig: str, position: int) -> None:
    """Start the next reading at this sekvensnummer. Nothing is published twice."""
    require_numbers([trekkpliktig])
    require_done(perform_request(settings, output, new_request(SET, position), [trekkpliktig]))
    output.line(f"{trekkpliktig}: the position is {position}")


def forget_position(settings: Settings, output: Output, trekkpliktig: str) -> None:
    """Drop what is remembered of reading its list, so that all of it is read again. Nothing is published twice."""
    require_numbers([trekkpliktig])
    results = perform_request(settings, output, new_request(FORGET), [trekkpliktig])
    require_done(results)
    orders = results[trekkpliktig].request.orders_read
    output.line(f"{trekkpliktig}: forgotten, with {orders} orders; all are read again, and nothing is published twice")


def rebuild_state(settings: Settings, output: Output, *, yes: bool) -> None:
    """Make the state again from the history. Raises `FatalError` while workers run, and as `find_history`."""
    found = bootstrap.find_history(settings)
    _refuse_workers(settings)
    confirm(f"Make the state of all {found.present.lanes} lanes again from the history?", yes=yes)
    _refuse_workers(settings)
    run_rebuild(settings, output, found)


def run_rebuild(settings: Settings, output: Output, found: FoundTopics, adopted: Collection[str] | None = None) -> None:
    """Make the state again, with progress, and report what became of it. `adopted` as of `StateRebuild`.

    Raises as `StateRebuild.run`.
    """
    with progress_bar() as progress, rare_garbage_collection():
        task = progress.add_task("records", total=None)

        def watch(read: int, total: int) -> None:
            progress.update(task, completed=read, total=total)

        with bootstrap.open_rebuild(settings, found, now_microseconds(), watch, adopted) as rebuild:
            rebuilt = rebuild.run()
    output.line(
        f"{rebuilt.orders} orders in {found.present.lanes} lanes: the state of {rebuilt.written} was another, "
        f"and that of {rebuilt.deleted} more is deleted"
    )
    output.note("the next reading of each list is a full comparison; nothing that is published is published again")
    if rebuilt.lost:
        output.note(
            f"of {rebuilt.lost} orders the history lacks versions that were published: `reconcile --history` publishes "
            "them again, and lists those that the source does not have"
        )


def _refuse_workers(settings: Settings) -> None:
    workers = bootstrap.group_members(settings)
    if workers:
        raise FatalError(f"{workers} workers of {settings.application_id} are running; stop them first")


app = typer.Typer(
    help="How far the list of each trekkpliktig has been read.", epilog=example("position show"), no_args_is_help=True
)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(app, name="position")


@app.command("show", epilog=example("position show --json"))
def _show(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show how far the list of each trekkpliktig has been read, and when it was last compared in full."""
    show_position(settings_of(env_file, KAFKA), output(as_json=as_json), trekkpliktig or [])


@app.command("set", epilog=example("position set 314159265 4711"))
def _set(
    trekkpliktig: Annotated[str, typer.Argument(help="Its organisation number.")],
    position: Annotated[int, typer.Argument(min=0, help="Sekvensnummer after which the next reading begins.")],
    *,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Start the next reading at another sekvensnummer. Nothing is published twice."""
    confirm(
        f"Set the position of {trekkpliktig} to {position}? Versions below it are read by the next full comparison.",
        yes=yes,
    )
    set_position(settings_of(env_file, KAFKA), output(), trekkpliktig, position)


@app.command("forget", epilog=example("position forget 314159265"))
def _forget(
    trekkpliktig: Annotated[str, typer.Argument(help="Its organisation number.")],
    *,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Forget what its list has shown, so that all of it is read and compared again. Nothing is published twice."""
    confirm(
        f"Forget how far {trekkpliktig} has been read? All of its orders are read again; nothing is published twice.",
        yes=yes,
    )
    forget_position(settings_of(env_file, KAFKA), output(), trekkpliktig)


@app.command("rebuild", epilog=example("position rebuild"))
def _rebuild(*, yes: Yes = False, env_file: EnvFile = None) -> None:
    """Make the state again from the history: after it was lost or restored, or was written by a former release.

    No worker may run. Nothing is published, and nothing is published twice afterwards. Interrupted, run it again.
    """
    rebuild_state(settings_of(env_file, KAFKA), output(), yes=yes)
