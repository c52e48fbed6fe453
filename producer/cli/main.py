"""The command line of the producer: commands, options and exit codes."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from producer.admin.doctor import run_doctor
from producer.cli.acls import app as acls_app
from producer.cli.exit_codes import ExitCode, ending_of
from producer.cli.output import Output
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
from producer.settings.model import ALL_NEEDS, load_settings, read_settings
from trekkpaalegg.errors import StoppedError
from trekkpaalegg.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from producer.settings.model import Need, Settings


PROGRAM = "trekkpaalegg-producer"

EnvFile = Annotated[
    Path | None,
    typer.Option("--env-file", help="Read settings from this file too; the environment wins.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_log = structlog.get_logger(__name__)


def example(arguments: str) -> str:
    """The last line of a command's help."""
    return f"Example: {PROGRAM} {arguments}"


def ask(question: str, *, yes: bool) -> None:
    """Go on only if the answer is yes, or was given beforehand."""
    if not yes:
        typer.confirm(question, abort=True, err=True)


def settings_of(env_file: Path | None, needs: frozenset[Need]) -> Settings:
    """The settings of a command, what is odd about them told. Raises `SettingsError`."""
    settings = load_settings(env_file, os.environ, needs=needs)
    for warning in settings.warnings:
        _log.warning(warning)
    return settings


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
        typer.Option("--prune", help="Also remove those of trekkpliktige that Kafka knows and the list no longer."),
    ] = False,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for Altinn to validate what was made.")
    ] = VALIDATION_SECONDS,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Subscribe for every trekkpliktig that has no valid subscription yet; run the receiver first. Safe to repeat."""
    settings = settings_of(env_file, _ALTINN | _KAFKA if prune else _ALTINN)
    apply_subscriptions(settings, Output(as_json=as_json), trekkpliktig or [], prune=prune, wait_seconds=wait_seconds)


@subscriptions_app.command("list", epilog=example("subscriptions list --json"))
def subscriptions_list(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show each trekkpliktig's subscription and whether Altinn has validated it. The secret is never shown."""
    list_subscriptions(settings_of(env_file, _ALTINN), Output(as_json=as_json), trekkpliktig or [])


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
    """Remove the subscriptions that lead to our receiver; polling goes on."""
    settings = settings_of(env_file, _ALTINN)
    whose = ", ".join(trekkpliktig) if trekkpliktig else "every trekkpliktig of the list"
    ask(f"Remove the subscriptions of {whose}? Nothing will be notified any more.", yes=yes)
    delete_subscriptions(settings, Output(as_json=as_json), trekkpliktig or [])


RecordId = Annotated[str, typer.Argument(metavar="ID", help="partition/offset, as `quarantine list` shows it.")]
OrAll = Annotated[list[str] | None, typer.Option(help="This one; may be given again. `all` are all of the settings.")]

app = typer.Typer(
    name=PROGRAM,
    help="Publishes every version of every trekkpålegg to Kafka, exactly once.",
    epilog=example("doctor --env-file production.env"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
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
    """Publish new versions for ever: the service. SIGTERM ends it cleanly within ten seconds."""
    return run_service(settings_of(env_file, ALL_NEEDS | {"receiver"}))


@app.command(epilog=example("once --json"))
def once(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Read every trekkpliktig once and publish what is new; fails unless every one was read to its end."""
    run_once(settings_of(env_file, ALL_NEEDS), Output(as_json=as_json))


@app.command(epilog=example("backfill --trekkpliktig 314159265"))
def backfill(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Read again from the start and publish what is missing. Workers that run do it, else this command itself."""
    run_backfill(settings_of(env_file, ALL_NEEDS), Output(as_json=as_json), trekkpliktig or [])


@app.command(epilog=example("reconcile --json"))
def reconcile(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Compare all that the source has with what was published, publish what is missing, print the differences."""
    run_reconcile(settings_of(env_file, ALL_NEEDS), Output(as_json=as_json))


@app.command(epilog=example("suspend --trekkpliktig 314159265"))
def suspend(*, trekkpliktig: OrAll = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Read these no more until they are resumed, whatever starts or moves meanwhile."""
    change_suspension(settings_of(env_file, _KAFKA), Output(as_json=as_json), SUSPEND, trekkpliktig or [])


@app.command(epilog=example("resume --trekkpliktig all"))
def resume(*, trekkpliktig: OrAll = None, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Read these again, beginning at once where they were left."""
    change_suspension(settings_of(env_file, _KAFKA), Output(as_json=as_json), RESUME, trekkpliktig or [])


@position_app.command("show", epilog=example("position show --json"))
def position_show(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show how far each trekkpliktig has been published, and when it was last compared in full."""
    show_position(settings_of(env_file, _KAFKA), Output(as_json=as_json), trekkpliktig or [])


@position_app.command("set", epilog=example("position set 314159265 4711"))
def position_set(
    trekkpliktig: Annotated[str, typer.Argument(help="Its organisation number.")],
    position: Annotated[int, typer.Argument(min=0, help="Sekvensnummer after which the next reading begins.")],
    *,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Make the next reading begin elsewhere. Nothing is published twice by it."""
    ask(f"Set the position of {trekkpliktig} to {position}? Versions below it wait for the next comparison.", yes=yes)
    set_position(settings_of(env_file, _KAFKA), Output(), trekkpliktig, position)


@position_app.command("forget", epilog=example("position forget 314159265"))
def position_forget(
    trekkpliktig: Annotated[str, typer.Argument(help="Its organisation number.")],
    *,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Drop all that is known of a trekkpliktig, so that all is published anew."""
    ask(f"Forget {trekkpliktig}? Every version of its orders will be published a second time.", yes=yes)
    forget_position(settings_of(env_file, _KAFKA), Output(), trekkpliktig)


@quarantine_app.command("list", epilog=example("quarantine list --json"))
def quarantine_list(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """List what could not be understood, without anything personal."""
    list_quarantine(settings_of(env_file, _KAFKA), Output(as_json=as_json))


@quarantine_app.command("show", epilog=example("quarantine show 3/17"))
def quarantine_show(record_id: RecordId, *, env_file: EnvFile = None) -> None:
    """Print the raw bytes of one record. They may hold personal data."""
    show_quarantine(settings_of(env_file, _KAFKA), Output(), record_id)


@quarantine_app.command("release", epilog=example("quarantine release 3/17 --correction"))
def quarantine_release(
    record_id: RecordId,
    *,
    correction: Annotated[
        bool, typer.Option("--correction", help="Publish other content of a version that was published before.")
    ] = False,
    env_file: EnvFile = None,
) -> None:
    """Try one record again, and publish it if it can be understood now. No worker may run."""
    release_quarantine(settings_of(env_file, ALL_NEEDS), Output(), record_id, correction=correction)


@topics_app.command("apply", epilog=example("topics apply --partitions 12 --history-retention 400d"))
def topics_apply(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; change nothing.")] = False,
    partitions: Annotated[
        int, typer.Option(min=1, help="Of each topic; for ever, since it is the number of lanes.")
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
    """Create the topics that are missing, record the number of lanes, tell what is otherwise than wanted."""
    apply_topics(
        settings_of(env_file, _KAFKA),
        Output(as_json=as_json),
        dry_run=dry_run,
        partitions=partitions,
        replication=replication,
        history_retention=history_retention,
    )


@schemas_app.command("check", epilog=example("schemas check --json"))
def schemas_check(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Check the schemas against every released version, and every registered one where a registry is given."""
    check_schemas(settings_of(env_file, frozenset()), Output(as_json=as_json))


@schemas_app.command("register", epilog=example("schemas register"))
def schemas_register(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Register the schemas, and set FULL_TRANSITIVE compatibility for each."""
    register_schemas(settings_of(env_file, frozenset()), Output(as_json=as_json))


@app.command(epilog=example("doctor --env-file production.env"))
def doctor(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Try every dependency in turn: what was tried, what came back, what to do."""
    # It tells all that fails itself, in words.
    logging.getLogger().setLevel(logging.CRITICAL)
    settings, faults = read_settings(env_file, os.environ)
    run_doctor(settings, faults, Output(as_json=as_json))


def run_command(arguments: Sequence[str] | None = None) -> ExitCode:
    """Run one command line (without the program's name). Every error ends here, as words on stderr and a code."""
    try:
        ended = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  the last border
        code, lines = ending_of(error)
        if code is None:
            _log.exception("unexpected error")
        for line in lines:
            sys.stderr.write(f"{PROGRAM}: {line}\n")
        return ExitCode.FAILED if code is None else code
    return ExitCode(ended) if isinstance(ended, int) else ExitCode.DONE


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise StoppedError


def main() -> None:
    """Entry point of the console script. The service sets its own handlers of signals and level of logs."""
    configure_logs(level="WARNING")
    # Ctrl-C too: typer would turn KeyboardInterrupt into a code of its own.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    # All that is imported stays: walking it anew at each full collection was a tenth of a back-fill's time.
    gc.freeze()
    sys.exit(run_command())
