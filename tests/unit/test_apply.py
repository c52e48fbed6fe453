"""What a batch changes in a ledger, and that no order of arrival, repetition or cutting changes the outcome."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.apply.decide import decide, decide_newest, versions_to_look_up
from consumers.apply.worker import apply
from consumers.ledger.port import Changes, StoredVersion
from tests.kit.event_stream import Roughness, incoming_of, make_stream
from tests.kit.fakes.ledger import FakeLedger, FakeTables
from trekkpaalegg.incoming import Coordinates, IncomingEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

VERY_ROUGH = Roughness(late=0.3, corrected=0.4, missing=0.1)
(BASE,) = incoming_of(make_stream(1, 1, versions_max=1))


def incoming(
    trekkversjon: int, correction: int = 0, *, saksnummer: str | None = None, offset: int = 0
) -> IncomingEvent:
    """One version of one order; `saksnummer` tells contents apart."""
    content = saksnummer or f"{trekkversjon}/{correction}"
    event = msgspec.structs.replace(BASE.event, trekkid="A", trekkversjon=trekkversjon, saksnummer=content)
    return IncomingEvent(Coordinates("test-versjoner", 0, offset), event, correction=correction)


def stored(each: IncomingEvent) -> StoredVersion:
    return StoredVersion(each.event, each.late, each.correction)


@cache
def rough_stream(seed: int) -> list[IncomingEvent]:
    return incoming_of(make_stream(seed, 4, roughness=VERY_ROUGH))


def applied(*batches: Sequence[IncomingEvent], newest_only: bool = False) -> FakeTables:
    """The ledger after these batches."""
    ledger = FakeLedger()
    for batch in batches:
        with ledger.transaction({}) as transaction:
            apply(transaction, batch, newest_only=newest_only)
    return ledger.database.tables


def contents(tables: FakeTables) -> tuple[object, ...]:
    return tables.newest, tables.history, tables.replaced, tables.conflicts


def test_a_version_that_is_not_there_is_inserted_and_becomes_the_newest() -> None:
    changes = decide([incoming(1)], {}, {})
    assert changes == Changes(inserted=[incoming(1)], newest={"A": incoming(1)})


def test_of_several_versions_in_a_batch_all_enter_the_history_and_one_is_the_newest() -> None:
    changes = decide([incoming(1), incoming(3), incoming(2)], {}, {})
    assert changes.inserted == [incoming(1), incoming(3), incoming(2)]
    assert changes.newest == {"A": incoming(3)}


def test_a_version_that_is_there_changes_nothing() -> None:
    assert decide([incoming(1)], {"A": (1, 0)}, {("A", 1): stored(incoming(1))}) == Changes()


def test_a_version_below_the_newest_enters_the_history_alone() -> None:
    changes = decide([incoming(2)], {"A": (3, 0)}, {})
    assert (changes.inserted, changes.newest) == ([incoming(2)], {})


def test_a_correction_replaces_its_version_and_the_former_content_is_kept() -> None:
    changes = decide([incoming(2, 1)], {"A": (2, 0)}, {("A", 2): stored(incoming(2))})
    assert (changes.inserted, changes.corrected) == ([], [incoming(2, 1)])
    assert changes.replaced == [(("A", 2), stored(incoming(2)))]
    assert changes.newest == {"A": incoming(2, 1)}


def test_a_correction_of_an_older_version_leaves_the_newest() -> None:
    changes = decide([incoming(1, 1)], {"A": (2, 0)}, {("A", 1): stored(incoming(1))})
    assert (changes.corrected, changes.newest) == ([incoming(1, 1)], {})


def test_a_correction_whose_version_is_not_there_is_inserted() -> None:
    changes = decide([incoming(2, 1)], {"A": (1, 0)}, {})
    assert (changes.inserted, changes.newest) == ([incoming(2, 1)], {"A": incoming(2, 1)})


@pytest.mark.parametrize("correction", [0, 1])
def test_content_that_a_correction_has_already_replaced_is_kept_aside(correction: int) -> None:
    changes = decide([incoming(2, correction)], {"A": (2, 2)}, {("A", 2): stored(incoming(2, 2))})
    assert changes == Changes(replaced=[(("A", 2), stored(incoming(2, correction)))])


def test_other_content_without_a_mark_is_a_conflict_and_changes_nothing_else() -> None:
    other = incoming(1, saksnummer="other")
    known = decide([other], {"A": (1, 0)}, {("A", 1): stored(incoming(1))})
    for changes in (known, decide([incoming(1), other], {}, {})):
        assert changes.conflicts == [other]
        assert other not in [*changes.inserted, *changes.newest.values()]
    assert decide([incoming(2, 2), incoming(2), incoming(2, saksnummer="other")], {}, {}).conflicts == [
        incoming(2, saksnummer="other")
    ]


def test_an_amount_written_with_other_zeros_is_no_conflict() -> None:
    (periode, *_) = BASE.event.trekkstoerrelse_for_periode
    events = [
        msgspec.structs.replace(
            BASE.event,
            trekkstoerrelse_for_periode=(
                msgspec.structs.replace(periode, trekkbeloep=Decimal(text), trekkprosent=None),
            ),
        )
        for text in ("100", "100.00")
    ]
    assert not decide([IncomingEvent(BASE.coordinates, event) for event in events], {}, {}).conflicts


def test_only_versions_that_the_history_may_have_are_read() -> None:
    batch = [incoming(1), incoming(2), incoming(3), incoming(2, 1)]
    assert versions_to_look_up(batch, {"A": (2, 0)}) == {("A", 1), ("A", 2)}
    assert versions_to_look_up(batch, {}) == set()


def test_without_history_the_newest_version_alone_counts() -> None:
    changes = decide_newest([incoming(4), incoming(4, 1), incoming(3)], {"A": (3, 2)})
    assert changes == Changes(newest={"A": incoming(4, 1)})
    assert not decide_newest([incoming(3, 2), incoming(2)], {"A": (3, 2)}).newest


@given(st.data())
def test_no_shuffling_doubling_cutting_or_replay_of_a_stream_changes_the_ledger(data: st.DataObject) -> None:
    stream = rough_stream(data.draw(st.integers(0, 20), "seed"))
    arrived = data.draw(st.permutations(stream + data.draw(st.lists(st.sampled_from(stream), max_size=8), "again")))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrived)), max_size=5), "cuts"))
    batches = [arrived[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(arrived)], strict=True)]
    assert contents(applied(*batches)) == contents(applied(stream))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), st.integers(0, 40), st.integers(0, 40), st.integers(1, 7))
def test_a_stream_with_conflicts_may_be_cut_off_and_begun_again_anywhere(
    seed: int, cut: int, begin: int, size: int
) -> None:
    stream = incoming_of(make_stream(seed, 4, roughness=Roughness(late=0.3, missing=0.1)))
    doubled = [msgspec.structs.replace(each.event, saksnummer="other") for each in stream[::3]]
    stream += [
        IncomingEvent(Coordinates("test-versjoner", 0, 1000 + number), event) for number, event in enumerate(doubled)
    ]
    batches = [stream[:cut], *[stream[at : at + size] for at in range(min(begin, cut), len(stream), size)]]
    tables = applied(*batches)
    assert contents(tables) == contents(applied(stream))
    assert len(tables.conflicts) == len(doubled)


@pytest.mark.parametrize("seed", range(5))
def test_the_current_topic_alone_gives_the_same_newest_versions_as_the_whole_history(seed: int) -> None:
    publications = make_stream(seed, 30, roughness=VERY_ROUGH)
    current = incoming_of([each for each in publications if each.current])
    assert applied(current, newest_only=True).newest == applied(incoming_of(publications)).newest


def test_the_newest_row_holds_the_content_of_the_history() -> None:
    tables = applied(incoming_of(make_stream(3, 40, roughness=VERY_ROUGH)))
    assert len(tables.newest) == 40
    assert tables.replaced
    for trekkid, row in tables.newest.items():
        assert row == tables.history[trekkid, row.event.trekkversjon]
        assert row.event.trekkversjon == max(number for order, number in tables.history if order == trekkid)
