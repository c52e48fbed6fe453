"""The program `trekkpaalegg-producer`: its commands and their options."""

from __future__ import annotations

import gc
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from producer import bootstrap
from producer.admin.doctor import examine
from producer.cli import PROGRAM, example, output, settings_of
from producer.cli.acls import app as acls_app
from producer.cli.position import forget_position, set_position, show_position
from producer.cli.quarantine import list_quarantine, release_quarantine, show_quarantine
from producer.cli.requests import change_suspension
from producer.cli.rounds import run_backfill, run_once, run_reconcile
from producer.cli.run import run_service
from producer.cli.schemas import check_schemas, register_schemas
from producer.cli.subscriptions import VALIDATION_SECONDS, apply_subscriptions, delete_subscriptions, list_subscriptions
from producer.cli.topics import apply_topics
from producer.domain.requests import RESUME, SUSPEND
from producer.publish.topics import PARTITIONS_DEFAULT, REPLICATION_OF_THE_BROKER
from producer.settings.model import ALL_NEEDS, read_settings
from trekkpaalegg import cli
from trekkpaalegg.cli import AsJson, EnvFile, Yes, confirm, make_program
from trekkpaalegg.errors import FatalError
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from producer.settings.model import Need, Settings
    from trekkpaalegg.cli import Output


_ALTINN: frozenset[Need] = frozenset({"maskinporten", "trekkpliktige", "webhook"})
_KAFKA: frozenset[Need] = frozenset({"kafka"})

subscriptions_app = typer.Typer(
    help="Altinn's notifications: one subscription for each trekkpliktig.",
    epilog=example("subscriptions apply"),
    no_args_is_help=True,
)


@subscriptions_app.command("apply", epilog=example("subscriptions apply --prune"))
def subscriptions_apply(
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
    settings = settings_of(env_file, _ALTINN | _KAFKA if prune else _ALTINN)
    apply_subscriptions(settings, output(as_json=as_json), trekkpliktig or [], prune=prune, wait_seconds=wait_seconds)


@subscriptions_app.command("list", epilog=example("subscriptions list --json"))
def subscriptions_list(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show each trekkpliktig's subscription and whether Altinn has validated it. The secret is never shown."""
    list_subscriptions(settings_of(env_file, _ALTINN), output(as_json=as_json), trekkpliktig or [])


@subscriptions_app.command("delete", epilog=example("subscriptions delete --trekkpliktig 314159265"))
def subscriptions_delete(
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


RecordId = Annotated[str, typer.Argument(metavar="ID", help="partition/offset, as `quarantine list` shows it.")]
OrAll = Annotated[list[str] | None, typer.Option(help="Only this one; may be given again. `all`: all of the settings.")]

app = make_program(
    PROGRAM,
    about="Publishes every version of every trekkpålegg to Kafka, exactly once.",
    example="doctor --env-file production.env",
)
topics_app = typer.Typer(
    help="The five topics on Kafka.", epilog=example("topics apply --dry-run"), no_args_is_help=True
)
schemas_app = typer.Typer(
    help="The Avro schemas and the registry.", epilog=example("schemas check"), no_args_is_help=True
)
position_app = typer.Typer(
    help="How far each trekkpliktig has been published.", epilog=example("position show"), no_args_is_help=True
)
quarantine_app = typer.Typer(
    help="Records that could not be understood.", epilog=example("quarantine list"), no_args_is_help=True
)
app.add_typer(position_app, name="position")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(subscriptions_app, name="subscriptions")
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")
app.add_typer(acls_app, name="acls")


@app.command(epilog=example("run"))
def run(*, env_file: EnvFile = None) -> int:
    """Run the service, which publishes new versions until SIGTERM stops it, cleanly and within ten seconds."""
    return run_service(settings_of(env_file, ALL_NEEDS | {"receiver"}))


@app.command(epilog=example("once --json"))
def once(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Read every trekkpliktig once and publish what is new. Fails unless every one was read to its end."""
    run_once(settings_of(env_file, ALL_NEEDS), output(as_json=as_json))


@app.command(epilog=example("backfill --trekkpliktig 314159265"))
def backfill(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Read again from the start and publish what is missing. Running workers do it, or else this command."""
    run_backfill(settings_of(env_file, ALL_NEEDS), output(as_json=as_json), trekkpliktig or [])


@app.command(epilog=example("reconcile --json"))
def reconcile(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Compare the full lists of the source with what was published, publish what is missing, print differences."""
    run_reconcile(settings_of(env_file, ALL_NEEDS), output(as_json=as_json))


@app.command(epilog=example("suspend --trekkpliktig 314159265"))
def suspend(*, trekkpliktig: OrAll = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Stop reading these until they are resumed. Restarts and moved lanes do not end it."""
    change_suspension(settings_of(env_file, _KAFKA), output(as_json=as_json), SUSPEND, trekkpliktig or [])


@app.command(epilog=example("resume --trekkpliktig all"))
def resume(*, trekkpliktig: OrAll = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Start reading these again at once, from where reading stopped."""
    change_suspension(settings_of(env_file, _KAFKA), output(as_json=as_json), RESUME, trekkpliktig or [])


@position_app.command("show", epilog=example("position show --json"))
def position_show(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show how far each trekkpliktig has been published, and when it was last compared in full."""
    show_position(settings_of(env_file, _KAFKA), output(as_json=as_json), trekkpliktig or [])


@position_app.command("set", epilog=example("position set 314159265 4711"))
def position_set(
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
    set_position(settings_of(env_file, _KAFKA), output(), trekkpliktig, position)


@position_app.command("forget", epilog=example("position forget 314159265"))
def position_forget(
    trekkpliktig: Annotated[str, typer.Argument(help="Its organisation number.")],
    *,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Drop the state of a trekkpliktig, so that every version is published again."""
    confirm(f"Forget {trekkpliktig}? Every version of its orders will be published a second time.", yes=yes)
    forget_position(settings_of(env_file, _KAFKA), output(), trekkpliktig)


@quarantine_app.command("list", epilog=example("quarantine list --json"))
def quarantine_list(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """List the records that could not be understood, without personal data."""
    list_quarantine(settings_of(env_file, _KAFKA), output(as_json=as_json))


@quarantine_app.command("show", epilog=example("quarantine show 3/17"))
def quarantine_show(record_id: RecordId, *, env_file: EnvFile = None) -> None:
    """Print the raw bytes of one record. They may hold personal data."""
    show_quarantine(settings_of(env_file, _KAFKA), output(), record_id)


@quarantine_app.command("release", epilog=example("quarantine release 3/17 --correction"))
def quarantine_release(
    record_id: RecordId,
    *,
    correction: Annotated[
        bool, typer.Option("--correction", help="Publish changed content of a version that is published already.")
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Process one record again, and publish it if it can be understood now."""
    release_quarantine(settings_of(env_file, ALL_NEEDS), output(), record_id, correction=correction)


@topics_app.command("apply", epilog=example("topics apply --partitions 12 --history-retention 400d"))
def topics_apply(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")] = False,
    partitions: Annotated[
        int, typer.Option(min=1, help="Of each topic. This is the number of lanes, and cannot be changed later.")
    ] = PARTITIONS_DEFAULT,
    replication: Annotated[
        int, typer.Option(min=-1, help="Copies of each partition; -1 is the broker's default.")
    ] = REPLICATION_OF_THE_BROKER,
    history_retention: Annotated[
        str, typer.Option(help="How long every version is kept: forever, or days such as 400d.")
    ] = "forever",
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Create missing topics, record the number of lanes, and report what differs from what is wanted."""
    apply_topics(
        settings_of(env_file, _KAFKA),
        output(as_json=as_json),
        dry_run=dry_run,
        partitions=partitions,
        replication=replication,
        history_retention=history_retention,
    )


@schemas_app.command("check", epilog=example("schemas check --json"))
def schemas_check(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Check the schemas against every released version, and every registered one if a registry is given."""
    check_schemas(settings_of(env_file, frozenset()), output(as_json=as_json))


@schemas_app.command("register", epilog=example("schemas register"))
def schemas_register(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Register the schemas, and set FULL_TRANSITIVE compatibility for each."""
    register_schemas(settings_of(env_file, frozenset()), output(as_json=as_json))


@app.command(epilog=example("doctor --env-file production.env"))
def doctor(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Check every dependency in turn: what was tried, what was found, what to do."""
    # The findings report every failure; log entries would repeat them.
    logging.getLogger().setLevel(logging.CRITICAL)
    settings, faults = read_settings(env_file, os.environ)
    run_doctor(settings, faults, output(as_json=as_json))


def run_doctor(settings: Settings, faults: list[str], output: Output) -> None:
    """Check every dependency and print the findings. Raises `FatalError` if a check failed.

    `settings` are those that can be used, `faults` what is wrong with the others.
    """
    with bootstrap.doctor_adapters(settings) as adapters:
        findings = examine(settings, faults, adapters)
    if output.as_json:
        output.json([msgspec.to_builtins(each) for each in findings])
    else:
        table = Table("", "check", "tried", "found", "what to do", show_lines=True)
        for each in findings:
            mark = {"ok": "✓", "failed": "✗", "skipped": "-"}[each.verdict]
            table.add_row(mark, each.name, each.tried, each.found, each.todo)
        output.table(table)
    failed = [each.name for each in findings if each.verdict == "failed"]
    if failed:
        raise FatalError(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}; see what to do beside each"
        )


run_command = partial(cli.run_command, app)


def main() -> None:
    """Entry point of the console script. The service sets its own signal handlers and log level."""
    configure_logs(level="WARNING")
    # Imported modules stay in memory: searching them at each full collection took a tenth of a back-fill's time.
    gc.freeze()
    cli.main(app)
