"""The promises of `Ledger`, kept by the fake, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumers.ledger.port import Changes, StoredVersion
from tests.contract.ledger_versions import AWKWARD, EVENT, PERIODS, event
from tests.contract.ledger_worlds import FakeWorld, SqlWorld, World
from trekkpaalegg.errors import OvertakenError
from trekkpaalegg.identifiers import Foedselsnummer
from trekkpaalegg.incoming import Advance, Coordinates, IncomingEvent, UndecodableMessage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumers.ledger.port import Ledger
    from sandbox.servers.postgresql import EmbeddedPostgresql
    from trekkpaalegg.event import TrekkpaaleggVersjon

TOPIC = "orders-versjoner"
WAIT_SECONDS_MAX = 60.0


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
        url = f"{server.url}?options=-csearch_path%3Dcontract_{uuid.uuid4().hex[:12]}"
    sql_world = SqlWorld(url)
    yield sql_world
    sql_world.close()


def incoming(what: TrekkpaaleggVersjon, offset: int = 0, *, late: bool = False, correction: int = 0) -> IncomingEvent:
    return IncomingEvent(Coordinates(TOPIC, 0, offset), what, late, correction)


def first(*incomings: IncomingEvent) -> Changes:
    """All of them new, the last one of each order the newest."""
    return Changes(inserted=list(incomings), newest={each.event.trekkid: each for each in incomings})


def message(offset: int, value: bytes | None = b"\x00\xff\x01", reason: str = "cut off") -> UndecodableMessage:
    return UndecodableMessage(Coordinates(TOPIC, 1, offset), None, value, {"ce_id": "a/1", "ødelagt": "ja"}, reason)


def write(ledger: Ledger, changes: Changes, *undecodable: UndecodableMessage) -> None:
    with ledger.transaction({}) as transaction:
        transaction.write(changes)
        transaction.keep_undecodable(undecodable)


def history(ledger: Ledger, *versions: tuple[str, int]) -> dict[tuple[str, int], StoredVersion]:
    with ledger.transaction({}) as transaction:
        return transaction.versions(versions)


def move(before: int, after: int, partition: int = 0) -> dict[tuple[str, int], Advance]:
    return {(TOPIC, partition): Advance(before, after)}


@pytest.mark.parametrize("name", AWKWARD)
def test_what_is_written_is_read_back_equal(world: World, name: str) -> None:
    written = AWKWARD[name]
    ledger = world.open()
    write(ledger, first(incoming(written, late=True, correction=3)))
    version = (written.trekkid, written.trekkversjon)
    assert history(ledger, version) == {version: StoredVersion(written, late=True, correction=3)}
    assert world.newest() == {written.trekkid: StoredVersion(written, late=False, correction=3)}
    read = history(ledger, version)[version].event
    assert (type(read.skyldner), read.skyldner.reveal()) == (Foedselsnummer, EVENT.skyldner.reveal())
    assert isinstance(world, FakeWorld) or read.opprettet.utcoffset() == timedelta(0)


def test_only_requested_and_existing_rows_are_returned(world: World) -> None:
    ledger = world.open()
    write(ledger, first(incoming(event("a", 1)), incoming(event("a", 2)), incoming(event("b", 1), correction=2)))
    with ledger.transaction({}) as transaction:
        assert transaction.newest(["a", "b", "c"]) == {"a": (2, 0), "b": (1, 2)}
        assert transaction.newest([]) == {}
        assert set(transaction.versions([("a", 1), ("b", 2), ("c", 1)])) == {("a", 1)}
        assert transaction.versions([]) == {}


def test_reads_see_what_the_transaction_wrote(world: World) -> None:
    ledger = world.open()
    with ledger.transaction({}) as transaction:
        assert transaction.newest(["a"]) == {}
        transaction.write(first(incoming(event("a", 1))))
        assert transaction.newest(["a"]) == {"a": (1, 0)}
        assert set(transaction.versions([("a", 1)])) == {("a", 1)}
        transaction.write(first(incoming(event("a", 2, trekkstoerrelse_for_periode=()))))
        assert transaction.newest(["a"]) == {"a": (2, 0)}
    assert world.newest()["a"].event == event("a", 2, trekkstoerrelse_for_periode=())


@pytest.mark.parametrize("asked_first", [True, False])
def test_the_newest_version_moves_forward_with_its_periods_and_never_back(world: World, *, asked_first: bool) -> None:
    """Whatever the changes say: by version, then by correction; also in one write with others that do move.

    The same place may be written again, as a replay does that sets right what was changed by hand.
    """
    ledger = world.open()
    stands = event("a", 5, trekkstoerrelse_for_periode=PERIODS[:1])
    write(ledger, first(incoming(stands, correction=1), incoming(event("b", 1))))
    for trekkversjon, correction in ((4, 9), (5, 0)):
        with ledger.transaction({}) as transaction:
            if asked_first:
                transaction.newest(["a", "b", "c"])
            back = incoming(event("a", trekkversjon, sekvensnummer=99), correction=correction)
            forward = incoming(event("b", trekkversjon + correction, trekkstoerrelse_for_periode=PERIODS[1:]))
            fresh = incoming(event(f"c{trekkversjon}{correction}"))
            transaction.write(Changes(newest={each.event.trekkid: each for each in (back, forward, fresh)}))
        newest = world.newest()
        assert newest["a"] == StoredVersion(stands, late=False, correction=1)
        assert newest[fresh.event.trekkid].event == fresh.event
    assert newest["b"].event == event("b", 13, trekkstoerrelse_for_periode=PERIODS[1:])
    again = event("a", 5, sekvensnummer=7, trekkstoerrelse_for_periode=PERIODS)
    write(ledger, Changes(newest={"a": incoming(again, correction=1)}))
    assert world.newest()["a"].event == again, "the same offset may be written again, as a replay does"
    write(ledger, Changes(newest={"a": incoming(event("a", 5, trekkstoerrelse_for_periode=()), correction=2)}))
    assert world.newest()["a"] == StoredVersion(event("a", 5, trekkstoerrelse_for_periode=()), late=False, correction=2)


def test_a_correction_replaces_its_version_and_the_former_one_is_kept_once(world: World) -> None:
    ledger = world.open()
    former, corrected = event(sekvensnummer=1), event(sekvensnummer=2)
    write(ledger, first(incoming(former, late=True)))
    changes = Changes(
        corrected=[incoming(corrected, 1, correction=1)],
        replaced=[(("order-1", 1), StoredVersion(former, late=True, correction=0))],
        newest={"order-1": incoming(corrected, 1, correction=1)},
    )
    write(ledger, changes)
    write(ledger, msgspec.structs.replace(changes, newest={}))
    stands = StoredVersion(corrected, late=False, correction=1)
    assert history(ledger, ("order-1", 1)) == {("order-1", 1): stands}
    assert world.newest() == {"order-1": stands}
    other = StoredVersion(event(sekvensnummer=3), late=True, correction=0)
    write(ledger, Changes(replaced=[(("order-1", 1), other)]))
    assert world.replaced() == [StoredVersion(former, late=True, correction=0)]


def test_conflicts_are_stored_once_per_position(world: World) -> None:
    ledger = world.open()
    conflicts = [incoming(event(sekvensnummer=8), 4), incoming(event(sekvensnummer=9), 5, late=True, correction=1)]
    write(ledger, Changes(conflicts=conflicts))
    write(ledger, Changes(conflicts=conflicts))
    assert sorted(world.conflicts(), key=lambda pair: pair[0]) == [
        (each.coordinates, StoredVersion(each.event, each.late, each.correction)) for each in conflicts
    ]


def test_offsets_begin_at_nothing_and_move_with_the_rows(world: World) -> None:
    ledger = world.open()
    assert ledger.next_offsets(TOPIC, [0, 1]) == {0: 0, 1: 0}
    with ledger.transaction(move(0, 10) | move(0, 7, partition=1)) as transaction:
        transaction.write(first(incoming(event())))
    with ledger.transaction(move(10, 12)):
        pass
    assert ledger.next_offsets(TOPIC, [0, 1, 2]) == {0: 12, 1: 7, 2: 0}
    assert ledger.next_offsets("another", [0]) == {0: 0}


def test_an_error_rolls_everything_back(world: World) -> None:
    ledger = world.open()
    with pytest.raises(ZeroDivisionError), ledger.transaction(move(0, 10)) as transaction:  # noqa: PT012 - inside it
        transaction.write(first(incoming(event())))
        transaction.keep_undecodable([message(1)])
        raise ZeroDivisionError
    assert ledger.next_offsets(TOPIC, [0]) == {0: 0}
    assert (history(ledger, ("order-1", 1)), world.newest(), ledger.undecodable()) == ({}, {}, [])
    with ledger.transaction(move(0, 10)) as transaction:
        transaction.write(first(incoming(event())))
    assert ledger.next_offsets(TOPIC, [0]) == {0: 10}


def test_a_former_owner_gets_an_error_and_writes_nothing(world: World) -> None:
    former, owner = world.open(), world.open()
    with former.transaction(move(0, 5) | move(0, 5, partition=1)):
        pass
    with owner.transaction(move(5, 6)):
        pass
    for advances in (move(5, 9), move(0, 9), move(5, 9) | move(5, 9, partition=1)):
        with pytest.raises(OvertakenError), former.transaction(advances) as transaction:
            transaction.write(first(incoming(event())))
    assert former.next_offsets(TOPIC, [0, 1]) == {0: 6, 1: 5}
    assert world.newest() == {}
    with former.transaction(move(6, 7)):
        pass


def test_two_partitions_are_written_side_by_side(world: World) -> None:
    """By two connections at once: each waits for the other where the database asks for it, and nothing is lost."""
    ledgers = [world.open(), world.open()]
    errors: list[BaseException] = []

    def consume(partition: int) -> None:
        try:
            for offset in range(20):
                with ledgers[partition].transaction(move(offset, offset + 1, partition)) as transaction:
                    transaction.newest([f"{partition}-{offset}"])
                    transaction.write(first(incoming(event(f"{partition}-{offset}"), offset)))
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=consume, args=(partition,)) for partition in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS_MAX)
    assert errors == []
    assert ledgers[0].next_offsets(TOPIC, [0, 1]) == {0: 20, 1: 20}
    assert len(world.newest()) == 40


def test_undecodable_messages_are_stored_once_and_deleted_on_request(world: World) -> None:
    ledger = world.open()
    write(ledger, Changes(), message(5), message(3, value=None))
    write(ledger, Changes(), message(5, reason="still cut off"))
    assert ledger.undecodable() == [message(3, value=None), message(5, reason="still cut off")]
    assert ledger.count_undecodable() == 2
    with ledger.transaction({}) as transaction:
        transaction.forget_undecodable(message(3))
        transaction.forget_undecodable(message(99))
    assert ledger.undecodable() == [message(5, reason="still cut off")]


def test_the_id_is_the_ledgers_own_and_stays(world: World) -> None:
    first_opened = world.open()
    first_opened.close()
    assert world.open().id == first_opened.id
    assert FakeWorld().open().id != first_opened.id
