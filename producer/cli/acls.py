"""`acls list|apply`: the least rights that each principal needs on Kafka, printed or granted."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.table import Table

from producer import bootstrap
from producer.admin.acls import CONSUMER_COMMANDS, admin_acls, compare, consumer_acls, producer_acls
from producer.cli import example, output
from producer.settings.model import load_settings
from trekkpaalegg.cli import AsJson, EnvFile, Output
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from producer.admin.acls import Acl
    from producer.settings.model import Settings

_PRINCIPAL = re.compile(r"[A-Za-z]+:\S.*")


class Principals(msgspec.Struct, frozen=True):
    """The principals of each role, as Kafka names them: `User:name`."""

    producer: tuple[str, ...] = ()
    consumer: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()
    consumer_commands: tuple[str, ...] = CONSUMER_COMMANDS

    @property
    def all(self) -> list[str]:
        """All principals, each once."""
        return list(dict.fromkeys((*self.producer, *self.consumer, *self.admin)))


EXAMPLE = Principals(("User:producer",), ("User:consumer",), ("User:admin",))
"""The principals that `acls list` shows if none is named."""


_Producer = Annotated[list[str] | None, typer.Option(help="Who runs the producer, as User:name; may be given again.")]
_Consumer = Annotated[list[str] | None, typer.Option(help="Who runs consumers; may be given again.")]
_Admin = Annotated[list[str] | None, typer.Option(help="Who runs `topics apply`; may be given again.")]
_Commands = Annotated[
    list[str] | None, typer.Option(help="Only what this consumer command needs; may be given again.", metavar="NAME")
]
app = typer.Typer(help="The least rights on Kafka.", epilog=example("acls list"), no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(app, name="acls")


@app.command("list", epilog=example("acls list --consumer-principal User:payroll"))
def _list(
    *,
    producer_principal: _Producer = None,
    consumer_principal: _Consumer = None,
    admin_principal: _Admin = None,
    consumer_command: _Commands = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Print the least rights that each principal needs, and what fails without them. Does not connect to Kafka."""
    principals = _principals(producer_principal, consumer_principal, admin_principal, consumer_command)
    list_acls(load_settings(env_file, os.environ, needs=frozenset()), output(as_json=as_json), principals)


@app.command("apply", epilog=example("acls apply --producer-principal User:trekk --dry-run"))
def _apply(
    *,
    producer_principal: _Producer = None,
    consumer_principal: _Consumer = None,
    admin_principal: _Admin = None,
    consumer_command: _Commands = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be granted; change nothing.")] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Grant missing rights, and report those beyond what is needed. Needs ALTER on the cluster."""
    principals = _principals(producer_principal, consumer_principal, admin_principal, consumer_command)
    settings = load_settings(env_file, os.environ, needs=frozenset({"kafka"}))
    apply_acls(settings, output(as_json=as_json), principals, dry_run=dry_run)


def _principals(
    producer: list[str] | None, consumer: list[str] | None, admin: list[str] | None, commands: list[str] | None
) -> Principals:
    return Principals(
        tuple(producer or ()), tuple(consumer or ()), tuple(admin or ()), tuple(commands or CONSUMER_COMMANDS)
    )


def list_acls(settings: Settings, output: Output, principals: Principals) -> None:
    """Print the rights that these principals need. Raises `SettingsError` for a name of the wrong form."""
    _check(principals)
    if not principals.all:
        principals = msgspec.structs.replace(EXAMPLE, consumer_commands=principals.consumer_commands)
    _print(output, [(each, "needed") for each in wanted_acls(settings, principals)])


def apply_acls(settings: Settings, output: Output, principals: Principals, *, dry_run: bool) -> None:
    """Grant missing rights, and revoke none. Running it again changes nothing.

    Raises `SettingsError` for a name of the wrong form or none at all, and `FatalError` if a principal is denied a
    right by name, because a denial overrules what is granted.
    """
    _check(principals)
    if not principals.all:
        raise SettingsError(["--producer-principal, --consumer-principal, --admin-principal: give at least one"])
    wanted = wanted_acls(settings, principals)
    admin = bootstrap.build_acl_admin(settings)
    comparison = compare(wanted, admin.of(principals.all))
    if not dry_run:
        admin.grant(comparison.missing)
    missing = {each.identity for each in comparison.missing}
    done = "would be granted" if dry_run else "granted"
    _print(
        output,
        [
            *((each, done if each.identity in missing else "was granted") for each in wanted),
            *((each, "more than is needed; left") for each in comparison.beyond),
            *((each, "denied") for each in comparison.denied),
        ],
    )
    if comparison.denied:
        raise FatalError(
            f"{len(comparison.denied)} rights are denied by name, which overrules what is granted; "
            "take those denials away with Kafka's own tools where they are in the way"
        )


def wanted_acls(settings: Settings, principals: Principals) -> list[Acl]:
    """The least rights of them all, each once."""
    prefix, group = settings.topic_prefix, settings.consumer_group
    acls = [
        *(each for name in principals.producer for each in producer_acls(name, prefix, settings.application_id)),
        *(
            each
            for name in principals.consumer
            for each in consumer_acls(name, prefix, group, principals.consumer_commands)
        ),
        *(each for name in principals.admin for each in admin_acls(name, prefix)),
    ]
    return list({each.identity: each for each in reversed(acls)}.values())[::-1]


def acl_table(settings: Settings, principals: Principals) -> str:
    """The same as a table of Markdown, for the documents."""
    lines = ["| Who | May | On | Needed by |", "|---|---|---|---|"]
    lines += [
        f"| `{each.principal}` | {each.right.operation} | {each.right.kind} "
        f"`{each.right.name}{'*' if each.is_prefix else ''}` | {each.needed_by} |"
        for each in wanted_acls(settings, principals)
    ]
    return "\n".join(lines) + "\n"


def _check(principals: Principals) -> None:
    faults = [
        f"{name}: not the name of a principal; give it as Kafka does, such as User:payroll"
        for name in principals.all
        if not _PRINCIPAL.fullmatch(name)
    ]
    faults += [
        f"--consumer-command {name}: there is none that asks Kafka; give {', '.join(CONSUMER_COMMANDS)}"
        for name in principals.consumer_commands
        if name not in CONSUMER_COMMANDS
    ]
    if faults:
        raise SettingsError(faults)


def _print(output: Output, acls: list[tuple[Acl, str]]) -> None:
    if output.as_json:
        output.json([_document(acl, state) for acl, state in acls])
        return
    table = Table("principal", "operation", "resource", "needed by", "state")
    for acl, state in acls:
        table.add_row(acl.principal, acl.right.operation, acl.resource, acl.needed_by, state)
    output.table(table)


def _document(acl: Acl, state: str) -> dict[str, Any]:
    return {
        "principal": acl.principal,
        "operation": acl.right.operation,
        "resource": acl.right.kind,
        "name": acl.right.name,
        "pattern": "prefixed" if acl.is_prefix else "literal",
        "needed_by": acl.needed_by,
        "state": state,
    }
