"""What the consumers' cases need: topics full of events, a ledger that has applied them, and gross pay.

Nothing of this counts in any case. Most orders have one period, every fourth several; every person has one order.
"""

from __future__ import annotations

import uuid
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import psycopg
from ledger_runs import consume

from sandbox.skatteetaten.generate import synthetic_skyldner
from tests.kit.event_stream import EventTopics, make_stream
from trekkpaalegg.identifiers import Foedselsnummer

if TYPE_CHECKING:
    from pathlib import Path

    from producer.domain.trekkpaalegg import Publication

PARTITIONS = 6
_SEED = 4


class Stage(msgspec.Struct, frozen=True):
    """What the cases work on. `settings` is the environment of a consumer of the topics, which hold `events` each."""

    settings: dict[str, str]
    events: int
    postgresql_url: str
    filled_ledger: str
    gross: str
    """A CSV file with the gross pay of every person that has an order."""

    folder: str
    """For files."""

    def fresh_ledger(self) -> str:
        """URL of a ledger in a new, empty schema of the database."""
        return _fresh_ledger(self.postgresql_url)

    def topic(self, name: str) -> str:
        """The prefix's topic of that name."""
        return f"{self.settings['TREKKPAALEGG_TOPIC_PREFIX']}-{name}"


def set_stage(kafka_brokers: str, postgresql_url: str, folder: Path, events: int) -> Stage:
    """Write the topics, fill a ledger from them by the consumer itself, and write the file of gross pay."""
    stream = _stream(events)
    prefix = f"bench-{uuid.uuid4().hex[:12]}"
    with EventTopics(kafka_brokers, prefix, partitions=PARTITIONS) as topics:
        topics.write(stream)
        settings = topics.settings
    gross = folder / "gross.csv"
    persons = [publication.trekkpaalegg.skyldner.reveal() for publication in stream]
    gross.write_text("\n".join(["skyldner,brutto", *[f"{person},38500.00" for person in persons]]) + "\n", "utf-8")
    filled = _fresh_ledger(postgresql_url)
    consume(settings, filled)
    return Stage(settings, len(stream), postgresql_url, filled, str(gross), str(folder))


def _stream(events: int) -> list[Publication]:
    random = Random(f"persons {_SEED}")
    persons: dict[str, None] = {}
    while len(persons) < events:
        persons[synthetic_skyldner(random)] = None
    return [
        msgspec.structs.replace(
            publication,
            trekkpaalegg=msgspec.structs.replace(publication.trekkpaalegg, skyldner=Foedselsnummer(person)),
        )
        for publication, person in zip(make_stream(_SEED, events, employers=1, versions_max=1), persons, strict=True)
    ]


def _fresh_ledger(postgresql_url: str) -> str:
    schema = f"bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgresql_url) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return f"{postgresql_url}?options={quote(f'-csearch_path={schema}')}"
