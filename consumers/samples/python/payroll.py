"""Keep the history and the newest version of every trekkpålegg in tables of your own, each event exactly once."""

import logging
import os
import signal
import threading
from collections.abc import Sequence

import sqlalchemy as sa

from trekkpaalegg.exactly_once import ExactlyOnce
from trekkpaalegg.incoming import IncomingEvent

metadata = sa.MetaData()
history, orders = (
    sa.Table(
        name,
        metadata,
        sa.Column("trekkid", sa.String(200), primary_key=is_key),
        sa.Column("trekkversjon", sa.BigInteger),
        sa.Column("correction", sa.Integer),
        sa.Column("trekkstatus", sa.String(20)),
    )
    for name, is_key in (("my_history", False), ("my_orders", True))
)


def handle(connection: sa.Connection, events: Sequence[IncomingEvent]) -> None:
    """Called with a batch of events, in the transaction that moves the offsets."""
    for incoming in events:
        event = incoming.event
        place = (event.trekkversjon, incoming.correction)
        row = dict(zip(orders.c.keys(), (event.trekkid, *place, event.trekkstatus), strict=True))
        connection.execute(history.insert().values(row))
        same = orders.c.trekkid == event.trekkid
        known = connection.execute(sa.select(orders.c.trekkversjon, orders.c.correction).where(same)).first()
        if known is None:
            connection.execute(orders.insert().values(row))
        elif tuple(known) < place:
            connection.execute(orders.update().where(same).values(row))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    engine = sa.create_engine(os.environ["DATABASE_URL"])
    metadata.create_all(engine)
    kafka = {"bootstrap.servers": os.environ["KAFKA_BROKERS"]}
    consumer = ExactlyOnce(engine, kafka, os.environ["GROUP"], topic=os.environ["TOPIC"])
    consumer.create_tables()
    consumer.run(handle, stop=stop)
