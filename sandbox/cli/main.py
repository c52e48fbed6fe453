"""The program `trekkpaalegg-sandbox`: the simulated outside world, embedded servers and the demo.

Each command is imported when it is called.
"""

from __future__ import annotations

import sys

from trekkpaalegg.cli import CommandModule, lazy_group, make_program
from trekkpaalegg.errors import FatalError

# The container image has only what the simulated outside world needs: `up`, `prepare` and `demo` say so there.
COMMANDS = {
    "secrets": CommandModule(f"{__package__}.secrets", extra="sandbox"),
    "up": CommandModule(f"{__package__}.up", extra="sandbox"),
    "prepare": CommandModule(f"{__package__}.up", extra="sandbox"),
    "demo": CommandModule(f"{__package__.rpartition('.')[0]}.demo.command", extra="sandbox"),
    "api": CommandModule(f"{__package__}.api", extra="sandbox"),
}

app = make_program(
    "trekkpaalegg-sandbox",
    about="The world outside, simulated: Skatteetaten, Maskinporten and Altinn, and the servers that a stream needs.",
    example="demo",
    commands=lazy_group(COMMANDS),
)


def main() -> None:
    """Entry point of the console script."""
    try:
        app(prog_name=app.info.name)
    except FatalError as error:  # an extra is missing
        sys.exit(f"{app.info.name}: {error}")
