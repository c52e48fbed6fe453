"""`schemas check` and `schemas register`: compatibility of this release's schemas, and their registration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table

import schemas
from producer import bootstrap
from producer.cli import example, output, settings_of
from producer.publish.topics import Topics
from schemas.compatibility import differences_between_all
from trekkpaalegg.cli import AsJson, EnvFile
from trekkpaalegg.errors import FatalError

if TYPE_CHECKING:
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output


def check_schemas(settings: Settings, output: Output) -> None:
    """Compare every schema with every released version, and with every registered one if a registry is given.

    Raises `FatalError` if any is incompatible.
    """
    faults = {name: differences_between_all(schemas.versions(name)) for name in schemas.NAMES}
    if settings.kafka_schema_registry is not None:
        with bootstrap.build_registry(settings) as registry:
            for subject, name in Topics.of(settings.topic_prefix).subjects.items():
                faults[subject] = registry.check(subject, schemas.load(name))
    if output.as_json:
        output.json([{"checked": checked, "faults": sentences} for checked, sentences in faults.items()])
    else:
        table = Table("schema or subject", "compatible with every version")
        for checked, sentences in faults.items():
            table.add_row(checked, "\n".join(sentences) or "yes")
        output.table(table)
        if settings.kafka_schema_registry is None:
            output.note("KAFKA_SCHEMA_REGISTRY is not given: compared with the released versions only")
    faulty = [checked for checked, sentences in faults.items() if sentences]
    if faulty:
        raise FatalError(f"not compatible: {', '.join(faulty)}; change the schema, or begin a new topic")


def register_schemas(settings: Settings, output: Output) -> None:
    """Register the schema of every subject. Raises `FatalError` if one is refused; those before it stay registered."""
    with bootstrap.build_registry(settings) as registry:
        ids = {
            subject: registry.register(subject, schemas.load(name))
            for subject, name in Topics.of(settings.topic_prefix).subjects.items()
        }
    if output.as_json:
        output.json([{"subject": subject, "id": number} for subject, number in ids.items()])
        return
    table = Table("subject", "id")
    for subject, number in ids.items():
        table.add_row(subject, str(number))
    output.table(table)


app = typer.Typer(help="The Avro schemas and the registry.", epilog=example("schemas check"), no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(app, name="schemas")


@app.command("check", epilog=example("schemas check --json"))
def _check(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Check the schemas against every released version, and every registered one if a registry is given."""
    check_schemas(settings_of(env_file, frozenset()), output(as_json=as_json))


@app.command("register", epilog=example("schemas register"))
def _register(*, as_json: AsJson = False, env_file: EnvFile = None) -> None:
    """Register the schemas, and set FULL_TRANSITIVE compatibility for each."""
    register_schemas(settings_of(env_file, frozenset()), output(as_json=as_json))
