"""A lost connection, which librdkafka reports only in its log."""

from __future__ import annotations

import logging

import pytest

from producer.publish.kafka import ConnectionLog

NAME = "rdkafka#producer-3"
LINE = "%s [%s] %s"


@pytest.mark.parametrize(
    ("kind", "text", "is_lost", "is_any"),
    [
        (
            "FAIL",
            "[thrd:TxnCoordinator]: TxnCoordinator: 127.0.0.1:9092: Disconnected: connection closed",
            True,
            True,
        ),
        ("REQTMOUT", "[thrd:TxnCoordinator]: TxnCoordinator/1: Timed out 1 in-flight, 0 retry-queued", True, True),
        ("FAIL", "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Disconnected: connection closed", False, True),
        ("GETPID", "[thrd:TxnCoordinator]: coordinator load in progress", False, False),
    ],
)
def test_a_lost_connection_to_coordinator_or_any_is_seen_and_every_line_goes_on(caplog, kind, text, is_lost, is_any):
    log = ConnectionLog(logging.getLogger("librdkafka"))
    with caplog.at_level(logging.INFO, logger="librdkafka"):
        log.log(logging.INFO, LINE, kind, NAME, text)
    assert (log.has_lost_coordinator, log.has_lost_broker) == (is_lost, is_any)
    assert caplog.messages == [f"{kind} [{NAME}] {text}"]
    log.forget()
    assert (log.has_lost_coordinator, log.has_lost_broker) == (False, False)


def test_a_line_of_another_shape_goes_on_too(caplog):
    log = ConnectionLog(logging.getLogger("librdkafka"))
    with caplog.at_level(logging.INFO, logger="librdkafka"):
        log.log(logging.INFO, "no arguments")
    assert not log.has_lost_coordinator
    assert caplog.messages == ["no arguments"]
