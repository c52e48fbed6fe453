"""The promises of `SqlStore`, on each database that it is tried on: SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.kit.waiting import until
from trekkpaalegg.errors import FatalError, OvertakenError, RetryableError
from trekkpaalegg.exactly_once.store import SqlStore, SqlTransaction, define_tables, retrying_transient_errors
from trekkpaalegg.incoming import Advance, Coordinates, UndecodableMessage

if TYPE_CHECKING:
    from collections.abc import Callable

TOPIC = "orders-versjoner"
WAIT_SECONDS_MAX = 60.0
TABLES = define_tables(sa.MetaData())
OWN = sa.Table(
    "own",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("times", sa.Integer, default=0),
    mysql_engine="InnoDB",
)


@pytest.fixture
def make_store(engine: sa.Engine) -> Callable[..., SqlStore]:
    TABLES.offsets.metadata.create_all(engine)
    OWN.create(engine)
    return lambda **options: SqlStore(engine, TABLES, **options)


@pytest.fixture
def store(make_store: Callable[..., SqlStore]) -> SqlStore:
    return make_store()


def move(before: int, after: int, partition: int = 0, topic: str = TOPIC) -> dict[tuple[str, int], Advance]:
    return {(topic, partition): Advance(before, after)}


def own(engine: sa.Engine) -> list[int]:
    with engine.connect() as connection:
        return sorted(connection.scalars(sa.select(OWN.c.number)))


def message(offset: int, reason: str = "cut off") -> UndecodableMessage:
    headers = {"ce_id": "a/1", "ødelagt": "ja ☃"}
    return UndecodableMessage(Coordinates(TOPIC, 1, offset), None, b"\x00\xff\x01" * 40_000, headers, reason)


def test_offsets_and_rows_of_ones_own_are_committed_together(store: SqlStore, engine: sa.Engine) -> None:
    store.check()
    assert store.next_offsets(TOPIC, [0, 1]) == {0: 0, 1: 0}
    with store.transaction(move(0, 3) | move(0, 2**40, partition=1)) as transaction:
        transaction.connection.execute(OWN.insert(), [{"number": 1}])
    with pytest.raises(KeyError), store.transaction(move(3, 5)) as transaction:  # noqa: PT012 - it fails after a write
        transaction.connection.execute(OWN.insert(), [{"number": 2}])
        raise KeyError
    assert (store.next_offsets(TOPIC, [0, 1, 2]), own(engine)) == ({0: 3, 1: 2**40, 2: 0}, [1])


@pytest.mark.parametrize("advance", [move(0, 9), move(3, 9), move(8, 9)])
def test_offsets_that_are_elsewhere_are_not_moved(store: SqlStore, advance: Any) -> None:
    with store.transaction(move(0, 5)):
        pass
    with pytest.raises(OvertakenError, match="orders-versjoner/0"), store.transaction(advance | move(0, 1, 1)):
        pytest.fail("it had been overtaken")
    assert store.next_offsets(TOPIC, [0, 1]) == {0: 5, 1: 0}


def test_topics_that_differ_by_case_are_different(store: SqlStore) -> None:
    with store.transaction(move(0, 5)), store.transaction({}):
        pass
    with store.transaction(move(0, 7, topic=TOPIC.upper())):
        pass
    assert (store.next_offsets(TOPIC, [0]), store.next_offsets(TOPIC.upper(), [0])) == ({0: 5}, {0: 7})


@pytest.mark.parametrize("isolation", [None, "SERIALIZABLE", "REPEATABLE READ"])
@pytest.mark.parametrize("before", [0, 4])
def test_of_two_owners_one_writes(
    make_store: Callable[..., SqlStore], engine: sa.Engine, isolation: str | None, before: int
) -> None:
    """The former owner comes while the new one is writing, waits for it, and then writes nothing."""
    if isolation is not None:
        if isolation not in engine.dialect.get_isolation_level_values(None):
            pytest.skip(f"{engine.dialect.name} has no {isolation}")
        engine = engine.execution_options(isolation_level=isolation)
    stores = [SqlStore(engine, TABLES) for _ in range(2)]
    make_store()
    if before:
        with stores[0].transaction(move(0, before)):
            pass
    written = threading.Event()
    outcomes: list[BaseException] = []

    def write_late() -> None:
        while True:
            try:
                with stores[1].transaction(move(before, before + 9)) as late:
                    late.connection.execute(OWN.insert(), [{"number": 2}])
            except RetryableError:
                continue
            except BaseException as error:  # noqa: BLE001 - the outcome
                outcomes.append(error)
            return

    thread = threading.Thread(target=write_late)
    with stores[0].transaction(move(before, before + 3)) as transaction:
        transaction.connection.execute(OWN.insert(), [{"number": 1}])
        thread.start()
        written.wait(0.3)
    thread.join(WAIT_SECONDS_MAX)
    assert [type(each) for each in outcomes] == [OvertakenError]
    assert (stores[0].next_offsets(TOPIC, [0]), own(engine)) == ({0: before + 3}, [1])


def test_undecodable_messages_are_kept_with_their_bytes_until_forgotten(store: SqlStore) -> None:
    with store.transaction({}) as transaction:
        transaction.keep_undecodable([message(2), message(1)])
    with store.transaction({}) as transaction:
        transaction.keep_undecodable([message(1, "another reason")])
    assert store.undecodable() == [message(1, "another reason"), message(2)]
    assert store.count_undecodable() == 2
    with store.transaction({}) as transaction:
        transaction.forget_undecodable(message(1))
    assert store.undecodable() == [message(2)]


def test_tables_that_are_missing_and_autocommit_are_refused(engine: sa.Engine) -> None:
    store = SqlStore(engine, TABLES)
    with pytest.raises(FatalError, match="no table trekkpaalegg_offset"):
        store.check()
    TABLES.offsets.metadata.create_all(engine)
    store.check()
    with pytest.raises(FatalError, match="not rolled back"):
        SqlStore(engine.execution_options(isolation_level="AUTOCOMMIT"), TABLES).check()
    store.check()


def test_a_handler_that_ends_the_transaction_is_found(store: SqlStore, engine: sa.Engine) -> None:
    with (  # noqa: PT012 - it is found at the end
        pytest.raises(FatalError, match="neither commit nor rollback"),
        store.transaction(move(0, 1)) as transaction,
    ):
        transaction.connection.rollback()
        transaction.connection.execute(OWN.insert(), [{"number": 1}])
    assert (store.next_offsets(TOPIC, [0]), own(engine)) == ({0: 0}, [])


@pytest.mark.parametrize("engine", ["mariadb"], indirect=True)
@pytest.mark.parametrize("swallows", [False, True])
def test_a_deadlock_passes_unless_the_handler_swallows_it(store: SqlStore, engine: sa.Engine, swallows: bool) -> None:
    """MariaDB rolls the whole transaction back: what is written after that would be committed without the offsets."""
    with engine.begin() as connection:
        connection.execute(OWN.insert(), [{"number": number} for number in range(200)])
    update = sa.text("UPDATE own SET times = times + 1 WHERE number = :at")
    is_locked = threading.Event()

    def deadlock() -> None:
        """The heavier transaction, which MariaDB lets live."""
        with engine.begin() as other:
            other.execute(sa.text("UPDATE own SET times = times + 1 WHERE number BETWEEN 2 AND 190"))
            is_locked.set()
            other.execute(update, {"at": 1})

    def write(transaction: SqlTransaction) -> None:
        transaction.connection.execute(update, {"at": 1})
        thread.start()
        is_locked.wait(WAIT_SECONDS_MAX)
        try:
            with retrying_transient_errors():
                transaction.connection.execute(update, {"at": 2})
        except RetryableError:
            if not swallows:
                raise
        transaction.connection.execute(OWN.insert(), [{"number": -1}])

    thread = threading.Thread(target=deadlock)
    with pytest.raises(FatalError if swallows else RetryableError), store.transaction(move(0, 1)) as transaction:
        write(transaction)
    thread.join(WAIT_SECONDS_MAX)
    assert store.next_offsets(TOPIC, [0]) == {0: 0}
    assert -1 not in own(engine)


@pytest.mark.parametrize("engine", ["mariadb", "postgresql"], indirect=True)
def test_a_lost_connection_passes_and_the_next_transaction_has_a_new_one(store: SqlStore, engine: sa.Engine) -> None:
    def cut(connection: sa.Connection) -> None:
        own_id = "connection_id()" if engine.dialect.name == "mariadb" else "pg_backend_pid()"
        number = connection.scalar(sa.text(f"SELECT {own_id}"))
        with engine.connect() as other:
            ending = "KILL CONNECTION {}" if engine.dialect.name == "mariadb" else "SELECT pg_terminate_backend({})"
            other.execute(sa.text(ending.format(number)))
            other.commit()

    with pytest.raises(RetryableError), store.transaction(move(0, 1)) as transaction:
        cut(transaction.connection)
    until(lambda: _moves(store), WAIT_SECONDS_MAX)
    assert store.next_offsets(TOPIC, [0]) == {0: 1}


def _moves(store: SqlStore) -> bool:
    try:
        with store.transaction(move(0, 1)):
            return True
    except RetryableError:
        return False
