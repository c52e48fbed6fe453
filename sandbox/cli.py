"""Command lines in, a running simulated world out: the program `trekkpaalegg-sandbox`."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from typing import Annotated

import typer

from sandbox.demo.command import demo
from sandbox.outside import OutsideWorld
from sandbox.skatteetaten.wire import EVERY_SHAPE, PLAIN
from sandbox.up import prepare, up

app = typer.Typer(
    name="trekkpaalegg-sandbox",
    help="The world outside, simulated: Skatteetaten and Maskinporten, and the servers that a stream needs.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _program() -> None:
    """Keep `api` a command of its own, however many there are."""


app.command(epilog="Example: trekkpaalegg-sandbox up --env-file sandbox.env")(up)
app.command(epilog="Example: trekkpaalegg-sandbox prepare")(prepare)
app.command(epilog="Example: trekkpaalegg-sandbox demo")(demo)


@app.command(epilog="Example: trekkpaalegg-sandbox api --api-port 8081 --trekkpliktige 3 --orders 200")
def api(  # noqa: PLR0913  # one parameter for each option
    *,
    api_port: Annotated[int, typer.Option(help="Port of the simulated Skatteetaten; 0: a free one.")] = 0,
    maskinporten_port: Annotated[int, typer.Option(help="Port of the simulated Maskinporten; 0: a free one.")] = 0,
    control_port: Annotated[int, typer.Option(help="Port of the control address; 0: a free one.")] = 0,
    trekkpliktige: Annotated[int, typer.Option(min=0, help="Generated employers.")] = 3,
    orders: Annotated[int, typer.Option(min=0, help="Generated orders, spread over the employers.")] = 0,
    versions_max: Annotated[int, typer.Option(min=1, help="Largest number of versions of a generated order.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed makes the same world.")] = 0,
    examples: Annotated[bool, typer.Option(help="Load the nineteen official example versions.")] = True,
    every_shape: Annotated[bool, typer.Option(help="Unknown fields, basic dates, 5000.0 in some orders.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines to export.")] = False,
) -> None:
    """Run the simulated Skatteetaten and Maskinporten until Ctrl-C, and print the settings to export."""
    if orders and not trekkpliktige:
        raise typer.BadParameter("generated orders need at least one generated employer", param_hint="--trekkpliktige")
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _end)
    try:
        world = OutsideWorld(
            seed=seed, api_port=api_port, maskinporten_port=maskinporten_port, control_port=control_port
        )
    except OSError as error:
        typer.echo(f"a port cannot be had ({error}); choose another, or 0 for a free one", err=True)
        raise typer.Exit(1) from error
    with world:
        shape = EVERY_SHAPE if every_shape else PLAIN
        employers = world.generate(trekkpliktige, orders, seed=seed, versions_max=versions_max, shape=shape)
        if examples:
            employers.append(world.load_examples())
        _print_settings(world, employers, as_json=as_json)
        threading.Event().wait()


def _end(*_: object) -> None:
    # Only the first signal ends it: a second one must not break the stopping of the servers.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def _print_settings(world: OutsideWorld, employers: list[str], *, as_json: bool) -> None:
    environment = world.environment(employers)
    if as_json:
        addresses = {
            "api_url": world.api_url,
            "well_known_url": world.well_known_url,
            "control_url": world.control_url,
        }
        print(json.dumps({**addresses, "trekkpliktige": employers, "environment": environment}), flush=True)
        return
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"# control address: {world.control_url}  (GET it for the commands)", flush=True)


def main() -> None:
    """Run the program."""
    app()
