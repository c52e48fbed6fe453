"""The program `trekkpaalegg-consumer`: its commands, each imported when it is called."""

from __future__ import annotations

from functools import partial

from consumers.cli import PROGRAM
from trekkpaalegg import cli
from trekkpaalegg.cli import CommandModule, lazy_group

COMMANDS = {
    "run": CommandModule(f"{__package__}.run"),
    "retry": CommandModule(f"{__package__}.retry"),
    "replay": CommandModule(f"{__package__}.replay"),
    "payout": CommandModule(f"{__package__}.payout", extra="payout"),
    "take-back": CommandModule(f"{__package__}.take_back", extra="payout"),
    "tail": CommandModule(f"{__package__}.tail"),
    "verify": CommandModule(f"{__package__}.verify"),
    "webhook": CommandModule(f"{__package__}.webhook", extra="webhook"),
}

app = cli.make_program(
    PROGRAM,
    about="Reads the events of the trekkpålegg stream and applies them to payroll ledgers.",
    example="tail --from-beginning --until-end",
    commands=lazy_group(COMMANDS),
)

run_command = partial(cli.run_command, app)


def main() -> None:
    """Entry point of the console script."""
    cli.main(app)
