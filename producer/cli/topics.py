"""`topics apply|adopt|copy`: create topics and record whose they are; record that again; copy them to new ones."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003 - typer reads it from the signature
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from producer import bootstrap
from producer.admin.acls import operations_needed
from producer.admin.copy import NewTopics
from producer.cli import KAFKA, example, output, settings_of
from producer.cli.position import run_rebuild
from producer.publish.topics import (
    DAY_MS,
    FOR_EVER,
    PARTITIONS_DEFAULT,
    REPLICATION_OF_THE_BROKER,
    FoundTopics,
    Topics,
    differences,
    durability_warnings,
    lane_fault,
    lanes_fault,
    start_faults,
    topic_faults,
    wanted_topics,
)
from producer.service import now_microseconds
from trekkpaalegg.cli import AsJson, EnvFile, Yes, confirm, progress_bar, rare_garbage_collection
from trekkpaalegg.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from producer.admin.kafka import KafkaAdmin
    from producer.domain.identity import Identity
    from producer.publish.topics import Topic, TopicDifference
    from producer.settings.model import Settings
    from trekkpaalegg.cli import Output

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
    """Create the topics that are missing, and record whose they are where they are new; change nothing that exists.

    Steps: 1. compare; 2. refuse to change the number of lanes; 3. create; 4. record whose they are; 5. report. Raises
    `FatalError` if an existing topic differs from what is wanted, or the service must not start with the topics.
    """
    prefix = settings.topic_prefix
    wanted = wanted_topics(
        prefix,
        partitions=partitions,
        replication=replication,
        history_retention_ms=parse_retention(history_retention),
    )
    names = Topics.of(prefix)
    admin = bootstrap.build_admin(settings, role="admin")
    topics = admin.describe(names, {names.positions: ["READ"] if dry_run else ["READ", "WRITE"]})
    fault = lanes_fault(prefix, partitions, topics)
    if fault:
        raise FatalError(fault)
    missing = [topic for topic in wanted if topic.name not in topics]
    if not dry_run:
        admin.create(missing)
    found = admin.inspect(prefix, settings.application_id)
    recorded = FoundTopics(found.topics, found.present, found.recorded or found.present)
    if found.is_new and not start_faults(prefix, recorded):
        if not dry_run:
            admin.record_identity(names.positions, found.present)
        found = recorded
    left = [each for each in differences(wanted, found.topics) if each.found is not None]
    lanes = None if found.recorded is None else found.recorded.lanes
    _print(output, wanted, {topic.name for topic in missing}, left, lanes=lanes, dry_run=dry_run)
    for warning in durability_warnings(found.topics, len(admin.broker_addresses())):
        output.note(f"warning: {warning}")
    output.note(
        _PERSONAL_DATA.format(
            topic=names.versjoner,
            kept="forever" if history_retention == "forever" else f"for {history_retention.removesuffix('d')} days",
            current=names.gjeldende,
        )
    )
    faults = [] if dry_run and missing else start_faults(prefix, found)
    if left:
        faults.append(
            "topics differ from what is wanted and were not changed: "
            + "; ".join(f"{each.topic} has {each.what} {each.found}, wanted {each.wanted}" for each in left)
            + "; change them with Kafka's own tools, or give options that match"
        )
    if faults:
        raise FatalError("; ".join(faults))


def adopt_topics(settings: Settings, output: Output, *, yes: bool) -> None:
    """Record that the topics as they are now are this application's. Nothing else ever changes what is recorded.

    Where the history or the state itself was moved or made again, one may be older than the other. The state is then
    made again from the history: a state that is older would publish events a second time.

    Raises `FatalError` if a topic has a fault that this does not settle, or workers run of this application or of one
    that is recorded.
    """
    prefix = settings.topic_prefix
    names = Topics.of(prefix)
    admin = bootstrap.build_admin(settings)
    found = admin.inspect(prefix, settings.application_id, operations_needed(names))
    faults = topic_faults(prefix, found)
    if faults:
        raise FatalError("; ".join(faults))
    former: dict[int, Identity] = {}
    told: dict[str, None] = {}
    for lane in range(found.present.lanes):
        recorded = admin.recorded(names.positions, lane)
        fault = lane_fault(prefix, lane, recorded, found.present)
        if recorded is None:
            raise FatalError(fault)
        if fault is not None:
            former[lane] = recorded
            told |= dict.fromkeys(recorded.differences(found.present))
    if not former:
        output.line(f"{names.positions}: recorded as it is now; there is nothing to adopt")
        return
    for difference in told:
        output.line(difference)
    application_ids = {settings.application_id, *(each.application_id for each in former.values())}
    _refuse_workers(admin, application_ids)
    confirm(f"Record that these topics, as they are now, are those of {settings.application_id}?", yes=yes)
    _refuse_workers(admin, application_ids)
    sources = (names.versjoner, names.positions)
    if any(each.has_moved(found.present, sources) for each in former.values()) and admin.has_records(names.versjoner):
        run_rebuild(settings, output, found, application_ids)
    else:
        admin.adopt(prefix, found.present, former, now_microseconds())
    output.line(f"adopted by {settings.application_id}")
    output.note("if events were lost with a topic, `reconcile --history` publishes again what is not in it")


def copy_topics(
    settings: Settings, former: Settings, output: Output, prefix: str, wanted: NewTopics, *, yes: bool
) -> None:
    """Copy the topics of `prefix`, on the Kafka of `former`, to new ones of ours, and make the state from the history.

    Raises `FatalError` while workers run on the former topics, and as `TopicsCopy` and `StateRebuild`.
    """
    copy = bootstrap.build_copy(settings, former, prefix)
    found = copy.find()

    def refuse_workers() -> None:
        workers = copy.workers(found)
        if workers:
            raise FatalError(f"{workers} workers are running on the topics of {prefix}; stop them first")

    refuse_workers()
    confirm(f"Copy the topics of {prefix} to new ones of {settings.topic_prefix}?", yes=yes)
    refuse_workers()
    with progress_bar() as progress, rare_garbage_collection():
        task = progress.add_task("records", total=None)

        def watch(read: int, total: int) -> None:
            progress.update(task, completed=read, total=total)

        records = copy.run(found, wanted, watch)
    output.line(f"{records} records copied")
    run_rebuild(settings, output, bootstrap.find_history(settings), {settings.application_id})


def _refuse_workers(admin: KafkaAdmin, application_ids: set[str]) -> None:
    for application_id in sorted(application_ids):
        workers = admin.group_members(application_id)
        if workers:
            raise FatalError(f"{workers} workers of {application_id} are running; stop them first")


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


app = typer.Typer(
    help="The topics on Kafka, and whose they are.", epilog=example("topics apply --dry-run"), no_args_is_help=True
)


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
    """Create missing topics, record whose the new ones are, and report what differs from what is wanted."""
    apply_topics(
        settings_of(env_file, KAFKA),
        output(as_json=as_json),
        dry_run=dry_run,
        partitions=partitions,
        replication=replication,
        history_retention=history_retention,
    )


@app.command("adopt", epilog=example("topics adopt"))
def _adopt(*, yes: Yes = False, env_file: EnvFile = None) -> None:
    """Record that the topics are this application's: after it was renamed, or topics were moved, restored or lost."""
    adopt_topics(settings_of(env_file, KAFKA), output(), yes=yes)


@app.command("copy", epilog=example("topics copy trekkpaalegg --partitions 12"))
def _copy(
    prefix: Annotated[str, typer.Argument(help="What the names of the former topics begin with.")],
    *,
    from_env_file: Annotated[
        Path | None,
        typer.Option(help="Read the settings of the former topics' Kafka from this file alone.", show_default=False),
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of each new topic; by default as many as before.", show_default=False)
    ] = None,
    replication: Annotated[
        int, typer.Option(min=-1, help="Copies of each partition; -1 is the broker's default.")
    ] = REPLICATION_OF_THE_BROKER,
    history_retention: Annotated[
        str | None, typer.Option(help="As of `topics apply`; by default as before.", show_default=False)
    ] = None,
    yes: Yes = False,
    env_file: EnvFile = None,
) -> None:
    """Copy all topics to new ones: of another prefix or cluster, or with more partitions. No worker may run."""
    settings = settings_of(env_file, KAFKA)
    former = settings if from_env_file is None else settings_of(from_env_file, KAFKA, {})
    retention = None if history_retention is None else parse_retention(history_retention)
    copy_topics(settings, former, output(), prefix, NewTopics(partitions, replication, retention), yes=yes)
