"""Signal offsets: a signal is processed when a reading that began after it has ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer.lane.intake import SignalOffsets

ONE, TWO = "311111111", "322222222"


def test_first_open_is_where_reading_signals_began_until_one_comes():
    assert SignalOffsets(7).first_open == 7


def test_signal_is_open_until_its_reading_has_ended():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    begun_at = signals.next_offset
    assert (begun_at, signals.first_open) == (1, 0)
    signals.ended(ONE, begun_at)
    assert signals.first_open == 1


def test_signal_that_came_during_a_reading_is_not_processed_by_its_end():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    begun_at = signals.next_offset
    signals.register(ONE, 1, is_served=True)
    signals.ended(ONE, begun_at)
    assert signals.first_open == 1
    signals.ended(ONE, signals.next_offset)
    assert signals.first_open == 2


def test_signal_is_open_again_if_the_end_of_its_reading_is_not_committed():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    signals.register(TWO, 1, is_served=True)
    signals.register(ONE, 2, is_served=True)
    done_with = signals.ended(ONE, 2)
    assert (done_with, signals.first_open) == ([0], 1)
    signals.reopen(ONE, done_with)
    assert (signals.first_open, signals.is_waiting(ONE)) == (0, True)
    assert signals.ended(ONE, 3) == [0, 2]
    assert signals.first_open == 1


def test_first_open_waits_for_the_slowest():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    signals.register(TWO, 1, is_served=True)
    signals.ended(TWO, 2)
    assert signals.first_open == 0
    signals.ended(ONE, 2)
    assert signals.first_open == 2


def test_signal_for_nobody_is_processed_at_once():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=False)
    assert signals.first_open == 1


def test_offsets_that_are_left_out_are_passed_by():
    signals = SignalOffsets(3)
    signals.register(ONE, 9, is_served=True)
    assert signals.first_open == 9
    signals.ended(ONE, signals.next_offset)
    assert signals.first_open == 10


def test_signal_of_before_that_comes_again_moves_nothing_back():
    signals = SignalOffsets(0)
    signals.register(ONE, 5, is_served=True)
    signals.register(TWO, 3, is_served=False)
    assert signals.next_offset == 6


def test_signals_for_those_no_longer_served_are_let_go():
    signals = SignalOffsets(0)
    signals.register(ONE, 0, is_served=True)
    signals.register(TWO, 1, is_served=True)
    signals.keep({TWO})
    assert signals.first_open == 1


def test_signal_delivered_again_is_harmless():
    signals = SignalOffsets(0)
    for _ in range(2):
        signals.register(ONE, 0, is_served=True)
    signals.ended(ONE, signals.next_offset)
    assert signals.first_open == 1


@given(st.lists(st.tuples(st.sampled_from(["signal", "foreign", "begin", "end"]), st.sampled_from([ONE, TWO]))))
def test_every_signal_below_first_open_was_followed_by_a_whole_reading(steps):
    signals, begun, open_signals, offset = SignalOffsets(0), {}, [], 0
    for step, trekkpliktig in steps:
        if step in {"signal", "foreign"}:
            signals.register(trekkpliktig, offset, is_served=step == "signal")
            if step == "signal":
                open_signals.append((trekkpliktig, offset))
            offset += 1
        elif step == "begin" and trekkpliktig not in begun:
            begun[trekkpliktig] = signals.next_offset
        elif step == "end" and trekkpliktig in begun:
            begun_at = begun.pop(trekkpliktig)
            signals.ended(trekkpliktig, begun_at)
            open_signals = [each for each in open_signals if each[0] != trekkpliktig or each[1] >= begun_at]
        assert signals.first_open == min((at for _, at in open_signals), default=offset)
