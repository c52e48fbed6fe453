"""The program `trekkpaalegg-producer`: its commands, each imported when it is called."""

from __future__ import annotations

from functools import partial

from producer.cli import PROGRAM
from trekkpaalegg import cli
from trekkpaalegg.cli import CommandModule, lazy_group
from trekkpaalegg.logs import configure_logs

COMMANDS = {
    "position": CommandModule(f"{__package__}.position", extra="producer"),
    "quarantine": CommandModule(f"{__package__}.quarantine", extra="producer"),
    "subscriptions": CommandModule(f"{__package__}.subscriptions", extra="producer"),
    "topics": CommandModule(f"{__package__}.topics", extra="producer"),
    "schemas": CommandModule(f"{__package__}.schemas", extra="producer"),
    "acls": CommandModule(f"{__package__}.acls", extra="producer"),
    "run": CommandModule(f"{__package__}.run", extra="producer"),
    "once": CommandModule(f"{__package__}.rounds", extra="producer"),
    "backfill": CommandModule(f"{__package__}.rounds", extra="producer"),
    "reconcile": CommandModule(f"{__package__}.rounds", extra="producer"),
    "suspend": CommandModule(f"{__package__}.requests", extra="producer"),
    "resume": CommandModule(f"{__package__}.requests", extra="producer"),
    "doctor": CommandModule(f"{__package__}.doctor", extra="producer"),
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
