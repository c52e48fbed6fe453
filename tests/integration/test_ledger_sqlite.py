"""The ledger on SQLite in trouble: disk full, file locked, read-only, damaged, or of somebody else."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from consumers.ledger import tables
from consumers.ledger.address import SqliteAddress, make_engine
from consumers.ledger.migrating import inspect_schema, prepare
from consumers.ledger.opening import open_ledger
from consumers.ledger.port import Changes
from consumers.ledger.sqlite import SqliteLedger
from consumers.ledger.translation import translating
from trekkpaalegg.errors import FatalError, RetryableError
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import Advance, Coordinates, IncomingEvent

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from consumers.ledger.port import Ledger

TOPIC = "orders-versjoner"
NOBODY = 65534
EVENT = TrekkpaaleggVersjon(
    trekkid="order",
    trekkversjon=1,
    sekvensnummer=1,
    opprettet=datetime(2026, 1, 1, tzinfo=UTC),
    saksnummer="case" * 500,
    trekkpliktig="312345678",
    skyldner=Foedselsnummer("01810112345"),
    trekkstatus="aktiv",
    trekkstoerrelse_for_periode=(),
    betalingsinformasjon=Betalingsinformasjon("314159265", "1234567897", "99990512345", {}),
    ukjente_felter={},
)


class SmallAddress(SqliteAddress):
    """On a disk with room for 400 pages."""

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        connection = super().connect(read_only=read_only)
        connection.execute("PRAGMA max_page_count = 400")
        return connection


def write(ledger: Ledger, before: int, after: int) -> None:
    incomings = [
        IncomingEvent(Coordinates(TOPIC, 0, offset), msgspec.structs.replace(EVENT, trekkid=f"order-{offset}"))
        for offset in range(before, after)
    ]
    with ledger.transaction({(TOPIC, 0): Advance(before, after)}) as transaction:
        transaction.write(Changes(inserted=incomings, newest={each.event.trekkid: each for each in incomings}))


def count(ledger: Ledger) -> int:
    with ledger.transaction({}) as transaction:
        return len(transaction.newest([f"order-{number}" for number in range(10_000)]))


@pytest.fixture
def address(tmp_path: Path) -> SqliteAddress:
    return SqliteAddress(tmp_path / "ledger.db", busy_seconds_max=0.1)


@pytest.fixture
def ledger(address: SqliteAddress) -> Iterator[SqliteLedger]:
    opened = SqliteLedger(address, prepare(address))
    yield opened
    opened.close()


def test_a_full_disk_stops_the_consumer_and_loses_nothing(tmp_path: Path) -> None:
    """Once there is room it goes on where it was."""
    small = SmallAddress(tmp_path / "ledger.db")
    ledger = SqliteLedger(small, prepare(small))
    write(ledger, 0, 50)
    for _ in range(2):
        with pytest.raises(FatalError, match="the disk is full: make room, then start again"):
            write(ledger, 50, 5_000)
        assert ledger.next_offsets(TOPIC, [0]) == {0: 50}
        assert count(ledger) == 50
    ledger.close()
    roomy = open_ledger(f"sqlite:///{small.path}")
    write(roomy, 50, 500)
    assert count(roomy) == 500
    roomy.close()


def test_a_file_that_another_program_writes_is_tried_again(ledger: Ledger, address: SqliteAddress) -> None:
    write(ledger, 0, 1)
    with closing(address.connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryableError, match="another program is writing it"):
            write(ledger, 1, 2)
        assert ledger.next_offsets(TOPIC, [0]) == {0: 1}  # to read waits for nobody
        other.execute("ROLLBACK")
    write(ledger, 1, 2)
    assert count(ledger) == 2


def test_what_a_transaction_has_read_stays_true_until_it_ends(ledger: Ledger, address: SqliteAddress) -> None:
    """Others wait from its very beginning: one that began with reading could not go on to write."""
    other = SqliteLedger(address, ledger.id)
    with ledger.transaction({}) as transaction:
        assert transaction.newest(["order-0"]) == {}
        with pytest.raises(RetryableError, match="another program is writing it"):
            write(other, 0, 1)
    write(other, 0, 1)
    other.close()


def test_a_reader_neither_waits_nor_keeps_the_consumer_waiting(ledger: Ledger, address: SqliteAddress) -> None:
    """And sees one moment."""
    write(ledger, 0, 1)
    with make_engine(address, read_only=True).connect() as reader:
        number = sa.select(sa.func.count()).select_from(tables.trekkpaalegg)
        assert reader.scalar(number) == 1
        write(ledger, 1, 3)
        assert reader.scalar(number) == 1
        reader.rollback()
        assert reader.scalar(number) == 3


def test_a_reader_cannot_write(ledger: Ledger, address: SqliteAddress) -> None:
    write(ledger, 0, 1)
    with (
        make_engine(address, read_only=True).connect() as reader,
        pytest.raises(FatalError, match="it may not be written"),
        translating(address.place),
    ):
        reader.execute(sa.delete(tables.trekkpaalegg))


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write everywhere; nobody may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, which pytest's is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_file_is_told_with_what_to_do(open_folder: Path) -> None:
    path = open_folder / "ledger.db"
    ledger = open_ledger(f"sqlite:///{path}")
    write(ledger, 0, 1)
    path.chmod(0o444)
    with as_nobody():
        reading = SqliteLedger(SqliteAddress(path), ledger.id)
        with pytest.raises(FatalError, match="give this user the right to write the file and its folder"):
            write(reading, 1, 2)
        reading.close()
    assert count(ledger) == 1
    ledger.close()


def test_a_folder_that_may_not_be_written_is_told_with_what_to_do(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with as_nobody(), pytest.raises(FatalError, match="it cannot be opened: check that it is a file"):
        open_ledger(f"sqlite:///{open_folder / 'ledger.db'}")


def test_a_missing_folder_and_a_folder_in_place_of_a_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"there is no folder .*/nowhere: make it, or give another file"):
        open_ledger(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.db'}")
    with pytest.raises(FatalError, match="that is a folder: give a file in it"):
        open_ledger(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    "content", [b"these are accounts, no database\n" * 100, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_told_and_left_alone(address: SqliteAddress, content: bytes) -> None:
    address.path.write_bytes(content)
    for opening in (prepare, inspect_schema):
        with pytest.raises(FatalError, match=r"it is no SQLite database|it is damaged"):
            opening(address)
    assert address.path.read_bytes() == content


def test_another_ledger_put_in_the_same_place_is_refused(ledger: SqliteLedger, address: SqliteAddress) -> None:
    """A backup put back while the consumer sleeps: its offsets are not what this consumer reads by."""
    write(ledger, 0, 1)
    ledger.close()
    with closing(address.connect()) as connection:
        connection.execute("UPDATE ledger SET id = 'another'")
    with pytest.raises(FatalError, match="this is another ledger now"):
        ledger.count_undecodable()


def test_a_stop_in_the_middle_of_a_write_leaves_nothing(ledger: Ledger) -> None:
    """A signal may raise anywhere."""

    class Stopping(list[IncomingEvent]):
        def __iter__(self) -> Iterator[IncomingEvent]:
            yield self[0]
            raise KeyboardInterrupt

    incoming = IncomingEvent(Coordinates(TOPIC, 0, 0), EVENT)
    with pytest.raises(KeyboardInterrupt), ledger.transaction({(TOPIC, 0): Advance(0, 1)}) as transaction:
        transaction.write(Changes(inserted=Stopping([incoming])))
    write(ledger, 0, 2)
    assert count(ledger) == 2
