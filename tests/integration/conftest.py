"""What several integration tests share: a ledger that is not there yet, on each database."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest

from sandbox.servers.kafka import EmbeddedKafka
from tests.kit.servers.proxy import KafkaProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def proxied_kafka() -> Iterator[KafkaProxy]:
    """One real broker with all of its traffic through a proxy. A test that makes it go down lets it come up again."""
    with KafkaProxy() as proxy, EmbeddedKafka(properties=proxy.broker_properties) as server:
        proxy.target_port = server.port
        yield proxy


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a ledger that nobody has made; no setting of the machine's is heard, the current folder is empty."""
    for name in os.environ:
        if name.startswith(("TREKKPAALEGG_", "KAFKA_", "MASKINPORTEN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    server = request.getfixturevalue("postgresql")
    schema = f"ledger_{uuid.uuid4().hex[:12]}"
    yield f"{server.url}?options=-csearch_path%3D{schema}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
