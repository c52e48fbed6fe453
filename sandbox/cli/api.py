"""The command `api`: the simulated Skatteetaten, Maskinporten and Altinn, without servers."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - typer reads it from the signature
from random import Random
from typing import Annotated, NoReturn

import typer

from sandbox.control.world import OutsideWorld, WorldOptions, read_client_key
from sandbox.servers.server import LOOPBACK
from sandbox.skatteetaten.generate import Traffic
from sandbox.skatteetaten.journal import Journal
from sandbox.skatteetaten.wire import EVERY_SHAPE, PLAIN


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    program.command(epilog="Example: trekkpaalegg-sandbox api --api-port 8081 --trekkpliktige 3 --orders 200")(api)


def api(  # noqa: PLR0913  # one parameter for each option
    *,
    api_port: Annotated[int, typer.Option(help="Port of the simulated Skatteetaten; 0: a free one.")] = 0,
    maskinporten_port: Annotated[int, typer.Option(help="Port of the simulated Maskinporten; 0: a free one.")] = 0,
    altinn_port: Annotated[int, typer.Option(help="Port of the simulated Altinn; 0: a free one.")] = 0,
    control_port: Annotated[int, typer.Option(help="Port of the control address; 0: a free one.")] = 0,
    trekkpliktige: Annotated[int, typer.Option(min=0, help="Generated employers.")] = 3,
    orders: Annotated[int, typer.Option(min=0, help="Generated orders, spread over the employers.")] = 0,
    versions_max: Annotated[int, typer.Option(min=1, help="Largest number of versions of a generated order.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed makes the same world.")] = 0,
    examples: Annotated[bool, typer.Option(help="Load the nineteen official example versions.")] = True,
    every_shape: Annotated[bool, typer.Option(help="Unknown fields, basic dates, 5000.0 in some orders.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on; in a container 0.0.0.0.")] = LOOPBACK,
    called: Annotated[str, typer.Option(help="Name by which others reach it, told in every address.")] = LOOPBACK,
    client_id: Annotated[str | None, typer.Option(help="Id of the client; else made up.")] = None,
    client_key: Annotated[Path | None, typer.Option(help="File with the client's public RSA key, a JWK.")] = None,
    state: Annotated[Path | None, typer.Option(help="Keep in this file what is made after the start.")] = None,
    traffic_seconds: Annotated[float, typer.Option(min=0, help="Make or change an order so often; 0: never.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines to export.")] = False,
) -> None:
    """Run the simulated Skatteetaten, Maskinporten and Altinn until Ctrl-C, and print the settings to export."""
    if orders and not trekkpliktige:
        raise typer.BadParameter("generated orders need at least one generated employer", param_hint="--trekkpliktige")
    if traffic_seconds and not trekkpliktige:
        raise typer.BadParameter("traffic needs at least one generated employer", param_hint="--trekkpliktige")
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _end)
    try:
        key = None if client_key is None else read_client_key(client_key)
        place = WorldOptions(host=host, called=called, client_id=client_id, client_key=key)
        world = OutsideWorld(
            seed=seed,
            api_port=api_port,
            maskinporten_port=maskinporten_port,
            altinn_port=altinn_port,
            control_port=control_port,
            place=place,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--client-key") from error
    except OSError as error:
        typer.echo(f"a port cannot be bound ({error}); choose another, or 0 for a free one", err=True)
        raise typer.Exit(1) from error
    with ExitStack() as stack:
        stack.callback(world.close)
        shape = EVERY_SHAPE if every_shape else PLAIN
        employers = world.generate(trekkpliktige, orders, seed=seed, versions_max=versions_max, shape=shape)
        generated = list(employers)
        if examples:
            employers.append(world.load_examples())
        if state is not None:
            stack.enter_context(_journal(state, world))
        world.start()  # nobody may see it before it is whole
        _print_settings(world, employers, as_json=as_json)
        _live(world, generated, traffic_seconds)


def _journal(path: Path, world: OutsideWorld) -> Journal:
    try:
        journal = Journal(path, world.skatteetaten.book)
    except (OSError, ValueError) as error:
        typer.echo(f"--state: {error}; give a file of this world, or remove it to start from scratch", err=True)
        raise typer.Exit(1) from error
    if journal.length:
        world.skatteetaten.reseed(journal.length)
    return journal


def _live(world: OutsideWorld, employers: list[str], traffic_seconds: float) -> NoReturn:
    """Until a signal ends it."""
    never = threading.Event()
    traffic = Traffic(world.skatteetaten, employers, Random(world.skatteetaten.random.random()))
    while True:
        if not never.wait(traffic_seconds or None):
            traffic.step()


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
            "altinn_url": world.altinn_url,
            "control_url": world.control_url,
        }
        print(json.dumps({**addresses, "trekkpliktige": employers, "environment": environment}), flush=True)
        return
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"# control address: {world.control_url}  (GET it for the commands)", flush=True)
