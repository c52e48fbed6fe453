"""The control address: commands as JSON over HTTP that change the simulated world while it runs.

`POST /control/<command>` with a JSON object of the command's arguments answers a JSON value; `GET /control` lists the
commands with their arguments. A wrong command is answered with 400 or 404 and one sentence.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from pydantic import ValidationError, validate_call
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.maskinporten.state import ScriptedError
from sandbox.skatteetaten.faults import Fault, rough_weather
from sandbox.skatteetaten.state import Behaviour
from sandbox.skatteetaten.wire import EVERY_SHAPE, PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from sandbox.altinn.commands import AltinnCommands
    from sandbox.maskinporten.state import Maskinporten
    from sandbox.maskinporten.tokens import TokenStore
    from sandbox.skatteetaten.order_book import Version
    from sandbox.skatteetaten.state import Skatteetaten
    from sandbox.skatteetaten.wire import Shape

Fields = dict[str, Any]
Command = Callable[..., Any]


class World(Protocol):
    """What is controlled; `OutsideWorld` is it."""

    skatteetaten: Skatteetaten
    maskinporten: Maskinporten
    tokens: TokenStore

    def register(self, trekkpliktig: str, external_ref: str | None = None) -> None:
        """See `OutsideWorld`, as for all that follow."""

    def environment(self, trekkpliktige: list[str], authentication: str = "systembruker") -> dict[str, str]:
        """Settings of a producer."""

    def load_examples(self) -> str:
        """The official versions."""

    def generate(
        self, trekkpliktige_count: int, orders: int, *, seed: int = 0, versions_max: int = 4, shape: Shape = PLAIN
    ) -> list[str]:
        """Employers and orders."""

    def start_api(self) -> None:
        """End an outage."""

    def stop_api(self) -> None:
        """Begin one."""

    def start_maskinporten(self) -> None:
        """End an outage."""

    def stop_maskinporten(self) -> None:
        """Begin one."""

    def start_altinn(self) -> None:
        """End an outage."""

    def stop_altinn(self) -> None:
        """Begin one."""


def control_commands(world: World, altinn: AltinnCommands) -> dict[str, Command]:
    """Every command by its name; its arguments are checked."""
    return {
        name.replace("_", "-"): validate_call(command)
        for group in (_Orders(world), _Faults(world), _Employers(world), altinn)
        for name, command in inspect.getmembers(group, inspect.ismethod)
        if not name.startswith("_")
    }


def control_app(commands: Mapping[str, Command]) -> Starlette:
    """The application over the commands of one world."""

    async def listing(_: Request) -> Response:
        return JSONResponse({name: _arguments(command) for name, command in sorted(commands.items())})

    async def run(request: Request) -> Response:
        command = commands.get(request.path_params["command"])
        if command is None:
            return _refusal(404, "no such command; GET /control lists them")
        try:
            arguments = json.loads(await request.body() or b"{}")
            if not isinstance(arguments, dict):
                return _refusal(400, "the body must be a JSON object")
            return JSONResponse(await run_in_threadpool(command, **arguments))
        except ValidationError as error:
            return _refusal(400, "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors()))
        except KeyError as error:
            return _refusal(404, f"not known: {error.args[0]}")
        except (ValueError, TypeError) as error:
            return _refusal(400, str(error))

    return Starlette(
        routes=[Route("/control", listing), Route("/control/{command}", run, methods=["GET", "POST"])],
    )


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


def _arguments(command: Command) -> dict[str, str]:
    return {name: str(parameter.annotation) for name, parameter in inspect.signature(command).parameters.items()}


def _identity(version: Version) -> Fields:
    return {
        "trekkid": version.trekkid,
        "trekkversjon": version.trekkversjon,
        "sekvensnummer": version.sekvensnummer,
        "trekkpliktig": version.owner,
    }


class _Orders:
    """Orders by hand. Each answers the identity of the version it made or touched."""

    def __init__(self, world: World) -> None:
        self._state = world.skatteetaten

    def create(self, trekkpliktig: str, fields: Fields | None = None, *, visible: bool = True) -> Fields:
        return _identity(self._state.create(trekkpliktig, fields, visible=visible))

    def change(self, trekkid: str, fields: Fields | None = None, *, visible: bool = True) -> Fields:
        return _identity(self._state.change(trekkid, fields, visible=visible))

    def move(self, trekkid: str, trekkpliktig: str) -> Fields:
        return _identity(self._state.move(trekkid, trekkpliktig))

    def put(self, wire: Fields, listed_for: str | None = None, *, visible: bool = True) -> Fields:
        return _identity(self._state.put(wire, listed_for=listed_for, visible=visible))

    def reveal(self, trekkid: str, trekkversjon: int) -> Fields:
        return _identity(self._state.reveal(trekkid, trekkversjon))

    def rewrite(self, trekkid: str, trekkversjon: int, fields: Fields) -> Fields:
        return _identity(self._state.rewrite(trekkid, trekkversjon, fields))

    def restyle(self, trekkid: str, trekkversjon: int) -> Fields:
        return _identity(self._state.restyle(trekkid, trekkversjon))

    def replace_raw(self, trekkid: str, trekkversjon: int, text: str) -> Fields:
        return _identity(self._state.replace_raw(trekkid, trekkversjon, text))

    def plant(self, trekkpliktig: str, text: str, sekvensnummer: int | None = None) -> Fields:
        return _identity(self._state.plant(trekkpliktig, text, sekvensnummer=sekvensnummer))

    def forget(self, trekkid: str, trekkversjon: int) -> Fields:
        return _identity(self._state.forget(trekkid, trekkversjon))

    def restore(self, trekkid: str, trekkversjon: int) -> Fields:
        return _identity(self._state.restore(trekkid, trekkversjon))

    def remove(self, trekkid: str) -> None:
        self._state.remove(trekkid)

    def midnight(self, today: str, *, as_new_version: bool) -> list[Fields]:
        day = date.fromisoformat(today)
        return [_identity(each) for each in self._state.switch_status_at_midnight(day, as_new_version=as_new_version)]

    def identities(self) -> list[tuple[str, int]]:
        return sorted(self._state.identities())


class _Faults:
    """What goes wrong, and what was seen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._state = world.skatteetaten

    def fault(self, fault: Fields) -> None:
        self._state.add_fault(msgspec.convert(fault, Fault))

    def rough_weather(self, rate: float) -> None:
        for fault in rough_weather(rate):
            self._state.add_fault(fault)

    def clear_faults(self) -> None:
        self._state.clear_faults()
        self._world.maskinporten.clear_script()

    def forbid(self, trekkpliktig: str) -> None:
        self._state.forbid(trekkpliktig)

    def allow(self, trekkpliktig: str) -> None:
        self._state.allow(trekkpliktig)

    def token_error(self, error: Fields) -> None:
        self._world.maskinporten.script(msgspec.convert(error, ScriptedError))

    def token_life(self, seconds: int) -> None:
        self._world.maskinporten.token_life_seconds = seconds

    def token_latency(self, seconds: float) -> None:
        self._world.maskinporten.latency_seconds = seconds

    def revoke_tokens(self, trekkpliktig: str | None = None) -> int:
        return self._world.tokens.revoke_all(trekkpliktig)

    def withdraw_system_user(self, trekkpliktig: str) -> None:
        self._world.maskinporten.withdraw_system_user(trekkpliktig)

    def outage(self, service: str, *, ended: bool = False) -> None:
        actions = {
            ("skatteetaten", False): self._world.stop_api,
            ("skatteetaten", True): self._world.start_api,
            ("maskinporten", False): self._world.stop_maskinporten,
            ("maskinporten", True): self._world.start_maskinporten,
            ("altinn", False): self._world.stop_altinn,
            ("altinn", True): self._world.start_altinn,
        }
        if (service, ended) not in actions:
            raise ValueError("service is skatteetaten, maskinporten or altinn")
        actions[service, ended]()

    def counts(self) -> Fields:
        return {**self._state.summary(), "tokens": dict(self._world.maskinporten.counts)}

    def forget_calls(self) -> None:
        self._state.forget_calls()


class _Employers:
    """Employers, examples, generated orders, and how the API behaves."""

    def __init__(self, world: World) -> None:
        self._world = world

    def register(self, trekkpliktig: str, external_ref: str | None = None) -> None:
        self._world.register(trekkpliktig, external_ref)

    def environment(self, trekkpliktige: list[str], authentication: str = "systembruker") -> dict[str, str]:
        return self._world.environment(trekkpliktige, authentication)

    def examples(self) -> str:
        return self._world.load_examples()

    def generate(
        self, trekkpliktige: int, orders: int, seed: int = 0, versions_max: int = 4, *, every_shape: bool = False
    ) -> list[str]:
        shape = EVERY_SHAPE if every_shape else PLAIN
        return self._world.generate(trekkpliktige, orders, seed=seed, versions_max=versions_max, shape=shape)

    def behaviour(self, settings: Fields) -> Any:  # noqa: ANN401  # JSON
        state = self._world.skatteetaten
        with state.lock:
            merged = {**msgspec.to_builtins(state.behaviour), **settings}
            state.behaviour = msgspec.convert(merged, Behaviour)
            return msgspec.to_builtins(state.behaviour)
