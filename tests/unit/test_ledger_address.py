"""A ledger's URL is understood, or refused without showing what may be a password."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from consumers.ledger.address import PostgresqlAddress, SqliteAddress, address_of
from consumers.ledger.opening import open_engine, open_ledger
from trekkpaalegg.errors import SettingsError

SECRET = "hush-hush"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://payroll:hush-hush@db.example:5433/ledger", "PostgreSQL db.example:5433/ledger"),
        ("postgres://payroll@db.example/ledger?sslmode=require", "PostgreSQL db.example:5432/ledger"),
        ("postgresql://payroll@one.example:1,two.example:2/ledger", "PostgreSQL one.example,two.example:1,2/ledger"),
        ("postgresql://[::1]:5432/ledger?options=-csearch_path%3Dpay", "PostgreSQL ::1:5432/ledger"),
        ("sqlite:///ledger.db", "SQLite file ledger.db"),
        ("sqlite:////var/lib/ledger.db", "SQLite file /var/lib/ledger.db"),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, place: str) -> None:
    address = address_of(url)
    assert address.place == place
    assert SECRET not in repr(address)


def test_paths_are_used_as_they_are() -> None:
    relative, absolute = address_of("sqlite:///a/b%20c.db"), address_of("sqlite:////a b/c.db")
    assert isinstance(relative, SqliteAddress)
    assert isinstance(absolute, SqliteAddress)
    assert (relative.path, absolute.path) == (Path("a/b%20c.db"), Path("/a b/c.db"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.db",
        "hush-hush",
        "mysql://payroll:hush-hush@db.example/ledger",
        "postgresql+psycopg://payroll:hush-hush@db.example/ledger",
        "hush-hush@db.example://",
        "postgresql://payroll:hush-hush@db.example:port/ledger",
        "postgresql://payroll:hush-hush@[::1/ledger",
        "postgresql://payroll:hush-hush now@db.example/ledger",
        "postgresql://payroll:hush-hush%zz@db.example/ledger",
        "postgresql://db.example/ledger?hush-hush=1",
        "sqlite://",
        "sqlite:///",
        "sqlite://ledger.db",
        "sqlite:///:memory:",
        "sqlite:///ledger.db?password=hush-hush",
    ],
)
def test_an_invalid_ledger_url_is_refused_without_being_shown(url: str) -> None:
    for opening in (open_ledger, open_engine):
        with pytest.raises(SettingsError) as told:
            opening(url)
        text = "".join(traceback.format_exception(told.value, chain=True))
        assert "must be" in str(told.value)
        assert SECRET not in text


def test_other_schemes_are_named() -> None:
    with pytest.raises(SettingsError, match=r"there is no ledger on mysql$"):
        address_of("mysql://payroll:hush-hush@db.example/ledger")


def test_the_same_database_in_another_schema_keeps_its_parameters() -> None:
    address = address_of("postgresql://payroll:hush-hush@db.example/ledger")
    assert isinstance(address, PostgresqlAddress)
    beside = address.in_schema("pay_replay")
    assert (beside.schema(), beside.place) == ("pay_replay", address.place)
