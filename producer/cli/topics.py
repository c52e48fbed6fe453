"""`topics apply`: create missing topics, record the number of lanes, and report differences."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from producer import bootstrap
from producer.cli import KAFKA, example, output, settings_of
from producer.publish.topics import (
    DAY_MS,
    FOR_EVER,
    PARTITIONS_DEFAULT,
    REPLICATION_OF_THE_BROKER,
    Topics,
    differences,
    durability_warnings,
    lanes_fault,
    wanted_topics,
)
from trekkpaalegg.cli import AsJson, EnvFile
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError

if TYPE_CHECKING:
    from producer.admin.kafka import KafkaAdmin
    from producer.publish.topics import Topic, TopicDifference
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output

VISIBLE_SECONDS_MAX = 20.0
_PAUSE_SECONDS = 0.2
_RETENTION = re.compile(r"([1-9][0-9]{0,4})d")
_PERSONAL_DATA = (
    "Events hold personal data (skyldner is a national id), and {topic} keeps every one {kept}. "
    "Give --history-retention to choose; {current} keeps the newest version of each order in any case."
)


def parse_retention(text: str) -> int:
    """Milliseconds of `forever` (-1) or of a number of days such as `400d`. Raises `SettingsError`."""
    if text == "forever":
        return FOR_EVER
    days = _RETENTION.fullmatch(text)
    if days is None:
        raise SettingsError([f"--history-retention: {text!r} is neither forever nor a number of days such as 400d"])
    return int(days[1]) * DAY_MS


def apply_topics(
    settings: Settings, output: Output, *, dry_run: bool, partitions: int, replication: int, history_retention: str
) -> None:
    """Create the topics that are missing and record the number of lanes; change nothing that exists.

    Steps: 1. compare; 2. refuse to change the number of lanes; 3. create; 4. record the number of lanes;
    5. report. Raises `FatalError` if an existing topic differs from what is wanted.
    """
    wanted = wanted_topics(
        settings.topic_prefix,
        partitions=partitions,
        replication=replication,
        history_retention_ms=parse_retention(history_retention),
    )
    names = Topics.of(settings.topic_prefix)
    admin = bootstrap.build_admin(settings, role="admin")
    found = admin.describe(names, {names.positions: ["READ"] if dry_run else ["READ", "WRITE"]})
    recorded = admin.lane_count(names.positions) if names.positions in found else None
    fault = lanes_fault(settings.topic_prefix, partitions, found, recorded)
    if fault:
        raise FatalError(fault)
    missing = [topic for topic in wanted if topic.name not in found]
    if not dry_run:
        admin.create(missing)
        found = _await_topics(admin, names)
        if recorded is None:
            recorded = found[names.positions].partitions
            admin.record_lane_count(names.positions, recorded)
    left = [each for each in differences(wanted, found) if each.found is not None]
    _print(output, wanted, {topic.name for topic in missing}, left, lanes=recorded, dry_run=dry_run)
    for warning in durability_warnings(found, len(admin.broker_addresses())):
        output.note(f"warning: {warning}")
    output.note(
        _PERSONAL_DATA.format(
            topic=names.versjoner,
            kept="forever" if history_retention == "forever" else f"for {history_retention.removesuffix('d')} days",
            current=names.gjeldende,
        )
    )
    if left:
        raise FatalError(
            "topics differ from what is wanted and were not changed: "
            + "; ".join(f"{each.topic} has {each.what} {each.found}, wanted {each.wanted}" for each in left)
            + "; change them with Kafka's own tools, or give options that match"
        )


def _await_topics(admin: KafkaAdmin, names: Topics) -> dict[str, Topic]:
    """The topics, once the cluster shows all of them: that may be a moment after they were created."""
    deadline = time.monotonic() + VISIBLE_SECONDS_MAX
    while True:
        found = admin.describe(names)
        missing = [name for name in names if name not in found]
        if not missing:
            return found
        if time.monotonic() > deadline:
            raise RetryableError(f"{', '.join(missing)}: created, but the cluster does not show them yet; run it again")
        time.sleep(_PAUSE_SECONDS)


def _print(
    output: Output,
    wanted: tuple[Topic, ...],
    missing: set[str],
    left: list[TopicDifference],
    *,
    lanes: int | None,
    dry_run: bool,
) -> None:
    states = {topic.name: _state(topic.name, missing, left, dry_run=dry_run) for topic in wanted}
    if output.as_json:
        topics: list[dict[str, Any]] = [
            {
                "name": topic.name,
                "state": "missing" if dry_run and topic.name in missing else states[topic.name].partition(":")[0],
                "differences": [
                    {"what": each.what, "wanted": each.wanted, "found": each.found}
                    for each in left
                    if each.topic == topic.name
                ],
            }
            for topic in wanted
        ]
        output.json({"topics": topics, "lanes": lanes, "dry_run": dry_run})
        return
    table = Table("topic", "partitions", "cleanup.policy", "kept", "state")
    for topic in wanted:
        retention = topic.config.get("retention.ms")
        kept = "newest per key" if retention is None else _days(int(retention))
        table.add_row(topic.name, str(topic.partitions), topic.config["cleanup.policy"], kept, states[topic.name])
    output.table(table)
    output.line(f"lanes: {lanes if lanes is not None else 'not recorded yet'}")


def _state(name: str, missing: set[str], left: list[TopicDifference], *, dry_run: bool) -> str:
    if name in missing:
        return "would be created" if dry_run else "created"
    found = [f"{each.what} is {each.found}" for each in left if each.topic == name]
    return f"differs: {', '.join(found)}" if found else "as wanted"


def _days(retention_ms: int) -> str:
    days = retention_ms // DAY_MS
    return "forever" if retention_ms == FOR_EVER else f"{days} day" + "s" * (days > 1)


app = typer.Typer(help="The five topics on Kafka.", epilog=example("topics apply --dry-run"), no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(app, name="topics")


@app.command("apply", epilog=example("topics apply --partitions 12 --history-retention 400d"))
def _apply(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")] = False,
    partitions: Annotated[
        int, typer.Option(min=1, help="Of each topic. This is the number of lanes, and cannot be changed later.")
    ] = PARTITIONS_DEFAULT,
    replication: Annotated[
        int, typer.Option(min=-1, help="Copies of each partition; -1 is the broker's default.")
    ] = REPLICATION_OF_THE_BROKER,
    history_retention: Annotated[
        str, typer.Option(help="How long every version is kept: forever, or days such as 400d.")
    ] = "forever",
    as_json: AsJson = False,
    env_file: EnvFile = None,
) -> None:
    """Create missing topics, record the number of lanes, and report what differs from what is wanted."""
    apply_topics(
        settings_of(env_file, KAFKA),
        output(as_json=as_json),
        dry_run=dry_run,
        partitions=partitions,
        replication=replication,
        history_retention=history_retention,
    )
