"""`schemas check` and `schemas register`: the schemas of this release in, what forbids them or their ids out."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from rich.table import Table

import schemas
from producer.encode.registry import SchemaRegistry
from producer.publish.topics import Topics
from schemas.compatibility import differences_between_all
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from producer.cli.output import Output
    from producer.settings.model import Settings


def subjects(prefix: str) -> dict[str, str]:
    """The registry's subjects, and the name of the schema of each."""
    topics = Topics.of(prefix)
    return {
        f"{topics.versjoner}-value": "trekkpaalegg_versjon",
        f"{topics.gjeldende}-value": "trekkpaalegg_versjon",
        f"{topics.quarantine}-value": "trekkpaalegg_rejected",
    }


def open_registry(settings: Settings) -> SchemaRegistry:
    """The registry that the settings name. Raises `SettingsError` when they name none."""
    if settings.kafka_schema_registry is None:
        raise SettingsError(["KAFKA_SCHEMA_REGISTRY: missing; give the registry's address"])
    password = settings.kafka_schema_registry_password
    return SchemaRegistry(
        settings.kafka_schema_registry,
        settings.kafka_schema_registry_user,
        password.get_secret_value() if password else None,
        settings.kafka_schema_registry_ca_path,
    )


def check_schemas(settings: Settings, output: Output) -> None:
    """Compare every schema with every released version, and with every registered one where a registry is given.

    Raises `FatalError` when one must not live beside another.
    """
    faults = {name: differences_between_all(schemas.versions(name)) for name in schemas.NAMES}
    if settings.kafka_schema_registry is not None:
        with closing(open_registry(settings)) as registry:
            for subject, name in subjects(settings.topic_prefix).items():
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
    """Register the schema of every subject. Raises `FatalError` when one is refused; those before it stay."""
    with closing(open_registry(settings)) as registry:
        ids = {
            subject: registry.register(subject, schemas.load(name))
            for subject, name in subjects(settings.topic_prefix).items()
        }
    if output.as_json:
        output.json([{"subject": subject, "id": number} for subject, number in ids.items()])
        return
    table = Table("subject", "id")
    for subject, number in ids.items():
        table.add_row(subject, str(number))
    output.table(table)
