"""Keep the history and the newest version of every trekkpålegg in tables of your own, each event exactly once."""

import logging
import os
from collections.abc import Sequence

import sqlalchemy as sa

from trekkpaalegg.exactly_once import ExactlyOnce, IncomingEvent

NUMBERS = (sa.Column("trekkversjon", sa.BigInteger), sa.Column("correction", sa.Integer))
history = sa.Table(
    "my_history", sa.MetaData(), sa.Column("trekkid", sa.String(200)), *NUMBERS, sa.Column("trekkstatus", sa.String(20))
)
orders = history.to_metadata(history.metadata, name="my_orders")
orders.append_constraint(sa.PrimaryKeyConstraint("trekkid"))


def handle(connection: sa.Connection, events: Sequence[IncomingEvent]) -> None:
    """Write a batch of events, in the transaction that moves the offsets."""
    for incoming in events:
        version = (incoming.event.trekkversjon, incoming.correction)
        row = (incoming.event.trekkid, *version, incoming.event.trekkstatus)
        connection.execute(history.insert().values(row))
        same = orders.c.trekkid == incoming.event.trekkid
        known = connection.execute(sa.select(orders.c.trekkversjon, orders.c.correction).where(same)).first()
        if known is None:
            connection.execute(orders.insert().values(row))
        elif tuple(known) < version:
            connection.execute(orders.update().where(same).values(row))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    engine = sa.create_engine(os.environ["DATABASE_URL"])
    history.metadata.create_all(engine)
    kafka = {"bootstrap.servers": os.environ["KAFKA_BROKERS"]}
    consumer = ExactlyOnce(engine, kafka, os.environ["GROUP"], topic=os.environ["TOPIC"])
    consumer.create_tables()
    consumer.run(handle)
