"""What librdkafka says twenty times a second is written once in a while."""

from __future__ import annotations

import logging

from producer.observe.repeats import KINDS_MAX, REPEATED_SECONDS, Repeats

LINE = "%s [%s] %s"


class Desk:
    def __init__(self):
        self.seconds = 5.0
        self.repeats = Repeats(lambda: self.seconds)

    def told(self, text, logger="librdkafka"):
        record = logging.LogRecord(logger, logging.ERROR, "", 0, LINE, ("FAIL", "client-1", text), None)
        return record.getMessage() if self.repeats.filter(record) else None


def test_a_line_passes_once_and_is_told_again_later_with_how_many_were_like_it():
    desk = Desk()
    assert desk.told("refused (after 0ms in state CONNECT)") == "FAIL [client-1] refused (after 0ms in state CONNECT)"
    for _ in range(3):
        assert desk.told("refused (after 7ms in state CONNECT, 1 identical error(s) suppressed)") is None
    desk.seconds += REPEATED_SECONDS
    told = desk.told("refused (after 1ms in state CONNECT)")
    assert told == "FAIL [client-1] refused (after 1ms in state CONNECT) (3 more like it since the last)"
    assert desk.told("refused (after 1ms in state CONNECT)") is None


def test_another_line_and_another_logger_pass():
    desk = Desk()
    for logger in ("librdkafka", "producer.service", "producer.service"):
        assert desk.told("refused", logger)
    assert desk.told("timed out")


def test_what_is_remembered_is_bounded():
    desk = Desk()
    for number in range(KINDS_MAX + 1):
        assert desk.told(f"kind {number}")
    assert desk.told("kind 0")
