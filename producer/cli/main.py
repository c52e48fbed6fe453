"""The program `trekkpaalegg-producer`: its commands, each imported when it is called."""

from __future__ import annotations

from functools import partial

from producer.cli import PROGRAM
from trekkpaalegg import cli
from trekkpaalegg.cli import CommandModule, lazy_group
from trekkpaalegg.logs import configure_logs

COMMANDS = {
    "position": CommandModule(f"{__package__}.position"),
    "quarantine": CommandModule(f"{__package__}.quarantine"),
    "subscriptions": CommandModule(f"{__package__}.subscriptions"),
    "topics": CommandModule(f"{__package__}.topics"),
    "schemas": CommandModule(f"{__package__}.schemas"),
    "acls": CommandModule(f"{__package__}.acls"),
    "run": CommandModule(f"{__package__}.run"),
    "once": CommandModule(f"{__package__}.rounds"),
    "backfill": CommandModule(f"{__package__}.rounds"),
    "reconcile": CommandModule(f"{__package__}.rounds"),
    "suspend": CommandModule(f"{__package__}.requests"),
    "resume": CommandModule(f"{__package__}.requests"),
    "doctor": CommandModule(f"{__package__}.doctor"),
}

app = cli.make_program(
    PROGRAM,
    about="Publishes every version of every trekkpålegg to Kafka, exactly once.",
    example="doctor --env-file production.env",
    commands=lazy_group(COMMANDS),
)

run_command = partial(cli.run_command, app)


def main() -> None:
    """Entry point of the console script. The service sets its own signal handlers and log level."""
    configure_logs(level="WARNING")
    cli.main(app)
