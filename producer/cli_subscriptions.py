"""`subscriptions` and its options in, what the commands did out: see `commands/subscriptions.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from producer.commands.output import Output
from producer.commands.subscriptions import (
    VALIDATION_SECONDS,
    apply_subscriptions,
    delete_subscriptions,
    list_subscriptions,
)
from producer.options import AsJson, EnvFile, Yes, ask, example, settings_of

if TYPE_CHECKING:
    from producer.settings import Need

_ALTINN: frozenset[Need] = frozenset({"maskinporten", "trekkpliktige", "webhook"})
_KAFKA: frozenset[Need] = frozenset({"kafka"})

subscriptions_app = typer.Typer(
    help="Altinn's notifications: one subscription for each trekkpliktig.",
    epilog=example("subscriptions apply"),
    no_args_is_help=True,
)


@subscriptions_app.command("apply", epilog=example("subscriptions apply --prune"))
def subscriptions_apply(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Also remove those of trekkpliktige that Kafka knows and the list no longer."),
    ] = False,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for Altinn to validate what was made.")
    ] = VALIDATION_SECONDS,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Subscribe for every trekkpliktig that has no valid subscription yet; run the receiver first. Safe to repeat."""
    settings = settings_of(env_file, _ALTINN | _KAFKA if prune else _ALTINN)
    apply_subscriptions(settings, Output(as_json=as_json), trekkpliktig or [], prune=prune, wait_seconds=wait_seconds)


@subscriptions_app.command("list", epilog=example("subscriptions list --json"))
def subscriptions_list(
    *,
    trekkpliktig: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Show each trekkpliktig's subscription and whether Altinn has validated it. The secret is never shown."""
    list_subscriptions(settings_of(env_file, _ALTINN), Output(as_json=as_json), trekkpliktig or [])


@subscriptions_app.command("delete", epilog=example("subscriptions delete --trekkpliktig 314159265"))
def subscriptions_delete(
    *,
    trekkpliktig: Annotated[
        list[str] | None, typer.Option(help="Only this one, in the list or not; may be given again.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Remove the subscriptions that lead to our receiver; polling goes on."""
    settings = settings_of(env_file, _ALTINN)
    whose = ", ".join(trekkpliktig) if trekkpliktig else "every trekkpliktig of the list"
    ask(f"Remove the subscriptions of {whose}? Nothing will be notified any more.", yes=yes)
    delete_subscriptions(settings, Output(as_json=as_json), trekkpliktig or [])
