"""Command lines whose commands are imported when they are called.

Importing SQLAlchemy, Kafka's client and HTTP libraries takes Python a second or more. So a command imports only what
it uses, and one whose packages are not installed says which extra brings them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Mapping

DISTRIBUTION = "trekkpaalegg-stream"
"""The name that pip knows this project by."""


class CommandModule(NamedTuple):
    """Where a command is defined: a module whose function `register` adds it to a `typer.Typer`."""

    name: str
    extra: str | None = None
    """The optional dependencies that it needs."""


def lazy_group(modules: Mapping[str, CommandModule]) -> type[TyperGroup]:
    """A class for `typer.Typer(cls=…)` that imports the module of a command, by the command's name, when it is used."""

    class LazyGroup(TyperGroup):
        def __init__(self, **given: Any) -> None:  # noqa: ANN401 - typer's own
            super().__init__(**given)
            # The names alone, for the list of commands and for suggestions.
            self.commands.update({name: TyperCommand(name) for name in modules})

        def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | TyperGroup | None:  # type: ignore[override] # noqa: ARG002 - typer keeps its class of contexts to itself
            return _load(cmd_name, modules[cmd_name]) if cmd_name in modules else None

    return LazyGroup


def extra_hint(command: str, missing: str, extra: str) -> str:
    """What to say when the package `missing` is not installed."""
    return f"`{command}` needs {missing}, which is not installed: run pip install '{DISTRIBUTION}[{extra}]'"


def _load(name: str, module: CommandModule) -> TyperCommand | TyperGroup:
    program = typer.Typer()
    # With a callback typer makes a group, even of one command.
    program.callback()(lambda: None)
    try:
        import_module(module.name).register(program)
    except ModuleNotFoundError as error:
        if module.extra is None:
            raise
        _register_hint(program, name, extra_hint(name, error.name or "a package", module.extra))
    group = get_command(program)
    assert isinstance(group, TyperGroup)  # noqa: S101 - see the callback
    return group.commands[name]  # type: ignore[return-value] # typer makes no others


def _register_hint(program: typer.Typer, name: str, hint: str) -> None:
    """In place of a command that cannot be imported, one that says why, in the program's help too."""

    def explain() -> NoReturn:
        raise FatalError(hint)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    program.command(name=name, help=f"Not installed: {hint}.", context_settings=anything)(explain)
