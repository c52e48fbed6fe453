"""The ledger on PostgreSQL in trouble: connections cut, server restarted, rights missing, two owners at once."""

from __future__ import annotations

import threading
import traceback
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from consumers.ledger.opening import open_engine, open_ledger
from consumers.ledger.port import Changes
from sandbox.servers.postgresql import EmbeddedPostgresql
from tests.kit.waiting import until
from trekkpaalegg.errors import FatalError, OvertakenError, RetryableError
from trekkpaalegg.event import Betalingsinformasjon, TrekkpaaleggVersjon
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import Advance, Coordinates, IncomingEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.ledger.port import Ledger

TOPIC = "orders-versjoner"
SECONDS_MAX = 30.0


@pytest.fixture
def schema() -> str:
    return f"ledger_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def url(postgresql: EmbeddedPostgresql, schema: str) -> str:
    return url_of(postgresql, schema)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = open_ledger(url)
    yield opened
    opened.close()


def url_of(postgresql: EmbeddedPostgresql, schema: str, user: str = "postgres") -> str:
    """The ledger's connections are told from all others' by their application name, the schema."""
    address = postgresql.url.replace("postgres@", f"{user}@")
    return f"{address}?options=-csearch_path%3D{schema}&application_name={schema}"


def changes(*versions: int, trekkid: str = "order-1") -> Changes:
    incomings = [
        IncomingEvent(
            Coordinates(TOPIC, 0, trekkversjon),
            TrekkpaaleggVersjon(
                trekkid=trekkid,
                trekkversjon=trekkversjon,
                sekvensnummer=trekkversjon,
                opprettet=datetime(2026, 1, 1, tzinfo=UTC),
                saksnummer=None,
                trekkpliktig="312345678",
                skyldner=Foedselsnummer("01810112345"),
                trekkstatus="aktiv",
                trekkstoerrelse_for_periode=(),
                betalingsinformasjon=Betalingsinformasjon("314159265", "1234567897", "99990512345", {}),
                ukjente_felter={},
            ),
        )
        for trekkversjon in versions
    ]
    return Changes(inserted=incomings, newest={trekkid: incomings[-1]})


def write(ledger: Ledger, before: int, after: int) -> None:
    with ledger.transaction({(TOPIC, 0): Advance(before, after)}) as transaction:
        transaction.write(changes(*range(before + 1, after + 1)))


def written(ledger: Ledger) -> int:
    with ledger.transaction({}) as transaction:
        return len(transaction.versions([("order-1", number) for number in range(1, 20)]))


def cut(url: str, schema: str) -> None:
    with psycopg.connect(url, application_name="cutter") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = %s", [schema]
        )


def test_a_connection_cut_in_mid_transaction_leaves_nothing_and_the_next_one_works(
    ledger: Ledger, url: str, schema: str
) -> None:
    write(ledger, 0, 2)
    for step in ("read", "write", "commit"):
        with (  # noqa: PT012 - it is cut at each step
            pytest.raises(RetryableError, match="retrying may help"),
            ledger.transaction({(TOPIC, 0): Advance(2, 5)}) as transaction,
        ):
            if step == "read":
                cut(url, schema)
            assert transaction.newest(["order-1"]) == {"order-1": (2, 0)}
            if step == "write":
                cut(url, schema)
            transaction.write(changes(3, 4, 5))
            cut(url, schema)
        assert ledger.next_offsets(TOPIC, [0]) == {0: 2}
        assert written(ledger) == 2
    write(ledger, 2, 5)
    assert written(ledger) == 5


def test_a_connection_cut_at_rest_is_made_again(ledger: Ledger, url: str, schema: str) -> None:
    write(ledger, 0, 1)
    cut(url, schema)
    with pytest.raises(RetryableError):
        ledger.next_offsets(TOPIC, [0])
    assert ledger.next_offsets(TOPIC, [0]) == {0: 1}


def test_a_server_that_is_stopped_and_started_is_found_again() -> None:
    with EmbeddedPostgresql() as server:
        ledger = open_ledger(server.url)
        write(ledger, 0, 3)
        server.stop()
        for _ in range(2):
            with pytest.raises(RetryableError):
                ledger.next_offsets(TOPIC, [0])
        server.start()
        write(ledger, 3, 4)
        assert written(ledger) == 4
        ledger.close()


def test_a_stop_in_the_middle_of_a_copy_leaves_a_ledger_that_works(ledger: Ledger) -> None:
    """A signal may raise anywhere, also while rows stream to the server."""

    class Stopping(list[IncomingEvent]):
        def __iter__(self) -> Iterator[IncomingEvent]:
            yield self[0]
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        ledger.transaction({(TOPIC, 0): Advance(0, 2)}) as transaction,
    ):
        transaction.write(Changes(inserted=Stopping(changes(1, 2).inserted)))
    write(ledger, 0, 2)
    assert written(ledger) == 2


def test_a_former_owner_waits_for_the_open_transaction_of_the_new_one_and_gets_an_error(
    ledger: Ledger, url: str
) -> None:
    """The offset's row is locked by whoever moves it; what it then says decides."""
    former = open_ledger(url)
    for outcome in ("committed", "rolled back"):
        before = ledger.next_offsets(TOPIC, [0])[0]
        told: list[BaseException | None] = []

        def write_as_former(told: list[BaseException | None] = told, before: int = before) -> None:
            try:
                write(former, before, before + 1)
                told.append(None)
            except BaseException as caught:  # noqa: BLE001 - looked at below
                told.append(caught)

        thread = threading.Thread(target=write_as_former)
        try:
            with ledger.transaction({(TOPIC, 0): Advance(before, before + 2)}) as transaction:
                thread.start()
                until(lambda: is_anybody_waiting(url), SECONDS_MAX)
                assert told == []
                if outcome == "rolled back":
                    raise ZeroDivisionError  # noqa: TRY301 - rolled back by any error
                transaction.write(changes(*range(before + 1, before + 3)))
        except ZeroDivisionError:
            pass
        thread.join(SECONDS_MAX)
        if outcome == "committed":
            assert [type(error) for error in told] == [OvertakenError]
            assert ledger.next_offsets(TOPIC, [0]) == {0: before + 2}
        else:
            assert told == [None]
            assert ledger.next_offsets(TOPIC, [0]) == {0: before + 1}
    former.close()


def is_anybody_waiting(url: str) -> bool:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name ="
            " current_setting('application_name')"
        ).fetchone()
    return found != (0,)


def test_a_version_that_two_write_at_once_is_tried_again(ledger: Ledger, url: str) -> None:
    """Only a topic that was partitioned again could cause it; the unique key then decides."""
    write(ledger, 0, 1)
    other = open_ledger(url)
    for again in (Changes(inserted=changes(1).inserted), Changes(newest=changes(1, trekkid="order-2").newest)):
        with (  # noqa: PT012 - the reading is a part of it
            pytest.raises(RetryableError, match="another consumer wrote the same row") as told,
            ledger.transaction({(TOPIC, 1): Advance(0, 1)}) as transaction,
        ):
            transaction.newest(["order-2"])
            if again.newest:
                with other.transaction({}) as quicker:
                    quicker.write(again)
            transaction.write(again)
        assert "order" not in "".join(traceback.format_exception(told.value))
    other.close()


def test_a_value_that_does_not_fit_is_told_without_the_value(ledger: Ledger) -> None:
    for wrong in (changes(2**63), changes(1, trekkid="a\x00b")):
        with pytest.raises(FatalError, match="report it") as told, ledger.transaction({}) as transaction:
            transaction.write(wrong)
        text = "".join(traceback.format_exception(told.value))
        assert Foedselsnummer("01810112345").reveal() not in text
        assert str(2**63) not in text
    assert written(ledger) == 0


def test_another_ledger_in_the_same_place_is_refused(ledger: Ledger, url: str, schema: str) -> None:
    """A backup put back, or a name that leads to another server: its offsets are not what this consumer reads by."""
    assert ledger.count_undecodable() == 0
    with psycopg.connect(url, application_name="other") as connection:
        connection.execute("UPDATE ledger SET id = 'another'")
    cut(url, schema)
    with pytest.raises(RetryableError):
        ledger.count_undecodable()
    with pytest.raises(FatalError, match="this is another ledger now"):
        ledger.count_undecodable()


@pytest.fixture
def stranger(postgresql: EmbeddedPostgresql, schema: str) -> Iterator[str]:
    """A user without any right."""
    name = f"stranger_{schema}"
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_schema_of_somebody_else_is_refused_with_what_to_do(
    postgresql: EmbeddedPostgresql, schema: str, stranger: str
) -> None:
    url = url_of(postgresql, schema, stranger)
    with pytest.raises(FatalError, match=f"the schema {schema} is missing, and so is the right to create it"):
        open_ledger(url)
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for opening in (open_ledger, open_engine):
            with pytest.raises(FatalError, match="a right is missing"):
                opening(url)  # may not use it
        open_ledger(url_of(postgresql, schema)).close()
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {stranger}")
        with pytest.raises(FatalError, match="a right is missing"):
            open_ledger(url)  # may not read its tables
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {stranger}")
        with open_engine(url).connect():
            pass  # to look takes no more
        looking = open_ledger(url)
        with pytest.raises(FatalError, match="a right is missing"):
            write(looking, 0, 1)
        looking.close()


def test_wrong_addresses_are_told_with_what_to_do(postgresql: EmbeddedPostgresql) -> None:
    with pytest.raises(FatalError, match="no such database or user"):
        open_ledger(postgresql.url.removesuffix("/postgres") + "/nowhere")
    with pytest.raises(FatalError, match="no such database or user"):
        open_ledger(postgresql.url.replace("postgres@", "nobody:secret@"))
    with pytest.raises(RetryableError, match="out of reach") as told:
        open_ledger("postgresql://ledger:s%33cret@127.0.0.1:1/payroll")
    assert "s3cret" not in "".join(traceback.format_exception(told.value))
    assert "127.0.0.1:1/payroll" in str(told.value)


def test_a_standby_is_distinguished_from_the_primary(ledger: Ledger, url: str) -> None:
    """The nearest to one that a single server has: a session in which nothing may be written."""
    write(ledger, 0, 1)
    standby = open_ledger(url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20"))
    with pytest.raises(FatalError, match="give the address of the primary"):
        write(standby, 1, 2)
    standby.close()
    assert ledger.next_offsets(TOPIC, [0]) == {0: 1}
