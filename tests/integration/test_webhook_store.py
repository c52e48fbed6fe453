"""The forwarder's state on SQLite and PostgreSQL: what it keeps, who may write it, and what it says in trouble."""

from __future__ import annotations

import copy
import stat
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumers.webhook.cloudevent import EventMessage
from consumers.webhook.opening import ForwarderLock, open_store, state_address
from consumers.webhook.schedule import PendingEvent
from consumers.webhook.store import StateCounts, StateUpdate
from trekkpaalegg.errors import FatalError, RetryableError, SettingsError
from trekkpaalegg.incoming import Coordinates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumers.webhook.store import ForwarderStore

TOPIC = "test-versjoner"


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a state that is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/webhook.db"
    server = request.getfixturevalue("postgresql")
    return f"{server.url}?options=-csearch_path%3Dwebhook_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(state: str) -> Iterator[ForwarderStore]:
    opened = open_store(state_address(state), make=True)
    opened.claim_ownership()
    yield opened
    opened.close()


def message(offset: int, order: str = "10001", partition: int = 0) -> EventMessage:
    headers = {"ce_id": f"{order}/{offset}", "ce_odd": "\x00 æ"}
    return EventMessage(Coordinates(TOPIC, partition, offset), order, b"\x00value", headers)


def test_stored_events_wait_in_order_and_move_the_offset(store: ForwarderStore) -> None:
    taken = store.add([message(3), message(5, "10002"), message(0, partition=1), message(7)])
    assert [(each.sequence, each.order) for each in taken] == [(1, "10001"), (2, "10002"), (3, "10001"), (4, "10001")]
    assert store.next_offsets(TOPIC) == {0: 8, 1: 1}
    assert store.pending() == taken
    assert store.messages([2, 4]) == {2: message(5, "10002"), 4: message(7)}
    assert store.next_offsets("other") == {}


def test_an_event_stored_before_is_skipped(store: ForwarderStore) -> None:
    store.add([message(3), message(4)])
    assert store.add([message(3), message(4)]) == []
    assert [each.sequence for each in store.add([message(4), message(5)])] == [3]
    assert store.next_offsets(TOPIC) == {0: 6}


def test_what_a_lost_answer_to_a_commit_left_behind_is_given_out_by_the_next_call(store: ForwarderStore) -> None:
    """It stands in the database, and whoever took it was told of a failure: nothing may wait there unseen."""
    unanswered = copy.copy(store)  # the same forwarder, as it was before the call
    stands = store.add([message(3), message(4)])
    assert unanswered.add([message(3), message(4), message(5)]) == [*stands, PendingEvent(3, "10001")]
    assert [each.sequence for each in unanswered.add([message(6)])] == [4]
    assert len(unanswered.pending()) == 4


def test_outcomes_of_events_survive_a_restart(store: ForwarderStore, state: str) -> None:
    first, second, third = store.add([message(1, "a"), message(2, "b"), message(3, "c")])
    later = msgspec.structs.replace(second, tries=2, failures=1, due_seconds=1_700_000_000.25)
    update = StateUpdate([first.sequence], [(later, "500")], [(third.sequence, "422")])
    store.update(update, 1_700_000_001.5)
    store.update(update, 1_700_000_001.5)
    reopened = open_store(state_address(state), make=True)
    reopened.claim_ownership()
    assert reopened.pending() == [later]
    assert reopened.blocked() == {"c"}
    (parked,) = reopened.parked()
    assert (parked.coordinates, parked.reason, parked.queued) == (Coordinates(TOPIC, 0, 3), "422", 0)
    assert parked.parked_seconds == 1_700_000_001.5
    assert [each.sequence for each in reopened.add([message(4, "c")])] == [4]
    reopened.close()


def test_events_behind_a_parked_one_wait_until_it_is_released_or_dropped(store: ForwarderStore) -> None:
    first, second = store.add([message(1), message(2)])
    tried = PendingEvent(first.sequence, first.order, 5, 5, 1e9)
    store.update(StateUpdate(retried=[(tried, "500")]), 0.0)
    store.update(StateUpdate(parked=[(first.sequence, "no")]), 0.0)
    store.add([message(3), message(4, "10002")])
    assert [each.sequence for each in store.pending()] == [4]
    assert store.pending("10001") == []
    assert store.parked()[0].queued == 2

    assert store.release([Coordinates(TOPIC, 0, 2)]) == 0, "it is not parked"
    assert store.release([Coordinates(TOPIC, 0, 1)]) == 1
    assert store.pending("10001") == [first, second, PendingEvent(3, "10001")]

    store.update(StateUpdate(parked=[(first.sequence, "no")]), 0.0)
    assert store.drop([Coordinates(TOPIC, 0, 1)]) == 1
    assert [each.sequence for each in store.pending("10001")] == [2, 3]


def test_waiting_and_parked_events_are_counted_with_their_age(store: ForwarderStore) -> None:
    assert store.counts() == StateCounts()
    begun = time.time()
    first, *_ = store.add([message(1), message(2), message(3, "10002"), message(4, "10003")])
    store.update(StateUpdate(parked=[(first.sequence, "no")]), 1_700_000_001.5)
    kept = store.counts()
    assert (kept.waiting, kept.parked, kept.behind, kept.parked_since) == (2, 1, 1, 1_700_000_001.5)
    assert kept.waiting_since is not None
    assert begun <= kept.waiting_since <= time.time()


def test_a_forwarder_that_was_replaced_writes_no_more(store: ForwarderStore, state: str) -> None:
    other = open_store(state_address(state), make=True)
    other.claim_ownership()
    for write in (lambda: store.add([message(1)]), lambda: store.update(StateUpdate([1]), 0.0)):
        with pytest.raises(FatalError, match="another forwarder now uses this state"):
            write()
    assert other.next_offsets(TOPIC) == {}
    other.close()


def test_one_forwarder_at_a_time_and_the_next_when_it_is_gone(store: ForwarderStore, state: str) -> None:
    address = state_address(state)
    with ForwarderLock(address):
        with pytest.raises(FatalError, match="another forwarder uses this state"):
            ForwarderLock(address, seconds_max=0.3)
        assert store.parked() == [], "looking goes on meanwhile"
    ForwarderLock(address).close()


def test_a_state_that_is_not_there_is_made_for_the_forwarder_alone(state: str) -> None:
    with pytest.raises(FatalError, match=r"give the --state of the forwarder"):
        open_store(state_address(state), make=False)
    open_store(state_address(state), make=True).close()
    open_store(state_address(state), make=False).close()


def test_the_file_is_its_owners_alone_since_events_hold_national_ids(tmp_path: Path) -> None:
    store = open_store(state_address(f"sqlite:///{tmp_path}/webhook.db"), make=True)
    store.claim_ownership()
    store.add([message(1)])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    assert set(modes.values()) == {0o600}, modes


def test_nothing_of_a_delivered_event_stays_in_the_file(tmp_path: Path) -> None:
    store = open_store(state_address(f"sqlite:///{tmp_path}/webhook.db"), make=True)
    store.claim_ownership()
    secret = msgspec.structs.replace(message(1), value=b"what nobody else may read")
    (taken,) = store.add([secret])
    store.update(StateUpdate([taken.sequence]), 0.0)
    store.close()
    assert not [path for path in tmp_path.iterdir() if b"nobody else" in path.read_bytes()]


@pytest.mark.parametrize(
    "url", [None, "", "webhook.db", "mysql://host/db", "sqlite://", "postgresql://u:hemmelig@h:x/d"]
)
def test_another_form_of_url_is_refused_without_showing_it(url: str | None) -> None:
    with pytest.raises(SettingsError, match="--state: ") as raised:
        state_address(url)
    assert "hemmelig" not in str(raised.value)
    assert "ledger" not in str(raised.value)


def test_a_database_out_of_reach_is_a_temporary_failure() -> None:
    with pytest.raises(RetryableError, match="out of reach"):
        open_store(state_address("postgresql://nobody@127.0.0.1:1/none"), make=True)
