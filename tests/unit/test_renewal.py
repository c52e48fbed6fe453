"""What a Kafka client was made from is compared with what it would be made from now: properties and files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from trekkpaalegg.errors import KafkaSettingsError, RetryableError, SettingsError
from trekkpaalegg.kafka.clients import create_producer
from trekkpaalegg.kafka.renewal import Renewal, client_made_later

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")


@pytest.fixture
def properties(tmp_path: Path) -> dict[str, str]:
    paths = {name: tmp_path / name for name in NAMES}
    for path in paths.values():
        path.write_text("old")
    return {name: str(path) for name, path in paths.items()} | {"sasl.password": "old"}


def test_nothing_is_due_while_nothing_changes(properties: dict[str, str]) -> None:
    renewal = Renewal(lambda: dict(properties))
    assert not renewal.is_due()
    assert renewal.take() == properties
    assert not renewal.is_due()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_was_written_again_makes_it_due_until_it_is_taken(
    properties: dict[str, str], tmp_path: Path, name: str
) -> None:
    renewal = Renewal(lambda: dict(properties))
    path = tmp_path / name
    written_ns = path.stat().st_mtime_ns
    path.write_text("new")
    os.utime(path, ns=(written_ns + 1, written_ns + 1))
    assert renewal.is_due()
    renewal.take()
    assert not renewal.is_due()
    path.unlink()
    assert renewal.is_due()


def test_another_password_makes_it_due(properties: dict[str, str]) -> None:
    renewal = Renewal(lambda: dict(properties))
    properties["sasl.password"] = "new"
    assert renewal.is_due()
    assert renewal.properties["sasl.password"] == "old"
    assert renewal.take()["sasl.password"] == "new"


def test_a_later_client_that_cannot_be_made_is_made_later_still(properties: dict[str, str]) -> None:
    nonsense = {name: properties[name] for name in NAMES} | {"security.protocol": "ssl"}
    with pytest.raises(KafkaSettingsError, match="cannot be used"):
        create_producer(nonsense)
    with pytest.raises(RetryableError, match="cannot be used"), client_made_later():
        create_producer(nonsense)
    with pytest.raises(RetryableError, match="line 3"), client_made_later():
        raise SettingsError(["line 3"])
