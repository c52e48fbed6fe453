"""The user's own file of librdkafka properties in, its properties or every fault of it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trekkpaalegg.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REFUSED_PROPERTIES = frozenset(
    {
        "transactional.id",
        "isolation.level",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "partitioner",
        "group.id",
        "enable.auto.commit",
    }
)
"""What the exactly-once guarantee rests on: set by the code alone. `request.required.acks` is librdkafka's other name
for `acks`."""

BROKER_PROPERTIES = ("bootstrap.servers", "metadata.broker.list")


def parse_properties(text: str, source: str) -> dict[str, str]:
    """The properties in `key=value` lines; blank lines and lines that begin with `#` or `!` are skipped.

    Raises `SettingsError` with every line that cannot be read and every refused property. Values are in no message.
    """
    properties: dict[str, str] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", "!")):
            continue
        key, equals, value = (part.strip() for part in stripped.partition("="))
        if not key or not equals:
            faults.append(f"{source}: line {number} is not of the form key=value")
        elif key in REFUSED_PROPERTIES:
            faults.append(f"{source}: line {number}: {key} is set by the program, for exactly-once; remove it")
        elif key in properties:
            faults.append(f"{source}: line {number}: {key} is given twice")
        else:
            properties[key] = value
    if faults:
        raise SettingsError(faults)
    return properties


def read_properties(path: Path) -> dict[str, str]:
    """As `parse_properties`, of a file. Raises `SettingsError` also when it cannot be read."""
    source = f"KAFKA_PROPERTIES_FILE {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{source}: cannot be read ({type(error).__name__})"]) from error
    return parse_properties(text, source)


def has_brokers(properties: Mapping[str, str]) -> bool:
    """Whether the user's own properties name the brokers."""
    return any(properties.get(name) for name in BROKER_PROPERTIES)
