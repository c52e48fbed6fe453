"""A raw loop that writes the rows of a ledger and does nothing else: what ledgers are measured against.

Messages are consumed read_committed, decoded by fastavro and copied, one transaction for each batch. No offsets, no
version guard, no headers, no types of our own, no second attempt.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec
import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

import schemas

if TYPE_CHECKING:
    from collections.abc import Iterable

_BATCH_RECORDS_MAX = 5_000
_SINGLE_OBJECT_PREFIX_BYTES = 10
_json = msgspec.json.Encoder().encode


def ledger_raw_loop(kafka_brokers: str, topic: str, ledger: str, events: int, *, newest_only: bool) -> int:
    """Copy the rows of so many events, each of an order of its own, into the empty ledger at this URL."""
    schema = schemas.load("trekkpaalegg_versjon").parsed
    consumer = Consumer(
        {
            "bootstrap.servers": kafka_brokers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    count = 0
    with psycopg.connect(ledger) as connection, connection.cursor() as cursor:
        while count < events:
            messages = consumer.consume(_BATCH_RECORDS_MAX, timeout=0.1)
            data = [
                fastavro.schemaless_reader(io.BytesIO(message.value()[_SINGLE_OBJECT_PREFIX_BYTES:]), schema)
                for message in messages
            ]
            if not newest_only:
                _copy(cursor, "trekkpaalegg_versjon", map(_history_row, data))
            _copy(cursor, "trekkpaalegg", map(_order_row, data))
            _copy(cursor, "trekkstoerrelse_for_periode", (row for datum in data for row in _period_rows(datum)))
            connection.commit()
            count += len(data)
    consumer.close()
    return count


def _copy(cursor: psycopg.Cursor, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    with cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _order_row(datum: dict[str, Any]) -> tuple[Any, ...]:
    payment = datum["betalingsinformasjon"]
    return (
        datum["trekkid"],
        datum["trekkversjon"],
        datum["sekvensnummer"],
        datum["opprettet"],
        datum["saksnummer"],
        datum["trekkpliktig"],
        datum["skyldner"],
        datum["trekkstatus"],
        payment["betalingsmottaker"],
        payment["kidnummer"],
        payment["kontonummer"],
        _json(payment["ukjente_felter"]).decode(),
        _json(datum["ukjente_felter"]).decode(),
        0,
    )


def _history_row(datum: dict[str, Any]) -> tuple[Any, ...]:
    return (*_order_row(datum), False, _json(datum["trekkstoerrelse_for_periode"]).decode())


def _period_rows(datum: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
    for number, period in enumerate(datum["trekkstoerrelse_for_periode"], start=1):
        yield (
            datum["trekkid"],
            number,
            period["startdato"],
            period["sluttdato"],
            period["trekkbeloep"],
            period["trekkprosent"],
            _json(period["ukjente_felter"]).decode(),
        )
