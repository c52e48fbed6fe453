"""Much to read in, read by several processes that share the partitions: Python uses one core for each.

All messages of an order stand in one partition, so what each process finds can simply be put together.
"""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

import msgspec

from consumers.settings.model import Settings, kafka_properties
from consumers.verify.event_topics import Ends, EventTopics, Part
from consumers.verify.events import PlainValues
from trekkpaalegg.errors import FatalError, TrekkpaaleggError
from trekkpaalegg.registry import RegistrySchemaSource

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

PARTS_MESSAGES_MIN = 200_000
"""Below it starting processes costs more than it saves."""


class _Job(msgspec.Struct):
    """What one process reads."""

    settings: Settings
    ends: Ends
    ends_of_current: Ends
    with_headers: bool


class _Telling:
    """Progress that goes to the first process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def expect(self, messages: int) -> None:
        """Nothing: the first process knows."""

    def advance(self, messages: int) -> None:
        """See `Progress`."""
        self._connection.send(messages)


def read_in_parts(
    topics: EventTopics,
    settings: Settings,
    ends: Ends,
    ends_of_current: Ends,
    *,
    with_headers: bool,
    processes: int,
    messages_min: int = PARTS_MESSAGES_MIN,
) -> None:
    """Read `topics` to these ends with several processes if that is worth while; else do nothing.

    Both topics must have equally many partitions, so that an order has the same one in both. Raises as `EventTopics`,
    and `FatalError` when a process dies.
    """
    messages = topics.versjoner.ahead(ends) + topics.gjeldende.ahead(ends_of_current)
    if processes < 2 or messages < messages_min or ends.keys() != ends_of_current.keys() or len(ends) < 2:  # noqa: PLR2004 - one is no sharing
        return
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, tuple[SpawnProcess, _Job]] = {}
    try:
        for number in range(min(processes, len(ends))):
            job = _Job(
                settings,
                {partition: end for partition, end in ends.items() if partition % processes == number},
                {partition: end for partition, end in ends_of_current.items() if partition % processes == number},
                with_headers,
            )
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_read_part, args=(job, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = process, job
        while running:
            for connection in wait(list(running)):
                _take(connection, running, topics)  # type: ignore[arg-type] # nothing else was given
    finally:
        for connection, (process, _) in running.items():
            process.terminate()
            process.join()
            connection.close()


def registry_of(settings: Settings) -> RegistrySchemaSource | None:
    """The registry of the settings, if any; the caller closes it."""
    if settings.kafka_schema_registry is None:
        return None
    password = settings.kafka_schema_registry_password
    return RegistrySchemaSource(
        settings.kafka_schema_registry,
        settings.kafka_schema_registry_user,
        password.get_secret_value() if password else None,
        settings.kafka_schema_registry_ca_path,
    )


def _take(connection: Connection, running: dict[Connection, tuple[SpawnProcess, _Job]], topics: EventTopics) -> None:
    process, job = running[connection]
    try:
        told = connection.recv()
    except EOFError:
        process.join()
        raise FatalError(f"a process that read a part of the topics has died (code {process.exitcode})") from None
    match told:
        case int():
            topics.progress.advance(told)
        case Part():
            topics.add(told, job.ends, job.ends_of_current)
            del running[connection]
            process.join()
            connection.close()
        case _:
            raise told


def _read_part(job: _Job, connection: Connection) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process gets it too, and ends this one
    registry = registry_of(job.settings)
    try:
        values, prefix = PlainValues(registry), job.settings.topic_prefix
        with EventTopics(
            kafka_properties(job.settings), prefix, values, _Telling(connection), with_headers=job.with_headers
        ) as topics:
            topics.read_to(job.ends, job.ends_of_current)
            connection.send(topics.part())
    except TrekkpaaleggError as error:
        connection.send(error)
    finally:
        connection.close()
        if registry is not None:
            registry.close()
