"""A schema on PostgreSQL in, the same made where it was missing and locked for its migration out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.schema import CreateSchema

from consumers.errors import FatalError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from consumers.ledger.address import PostgresqlAddress


def lock_schema(connection: Connection, address: PostgresqlAddress, lock_class: str) -> None:
    """Keep others out until the transaction ends, and make the schema where it is missing.

    `lock_class`, of four letters, is the first half of the advisory lock's key; the second is a hash of the schema's
    name. Raises `FatalError` when there is no right to make it.
    """
    schema = address.schema()
    key = int.from_bytes(lock_class.encode(), "big")
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key, sa.func.hashtext(schema))))
    if sa.inspect(connection).has_schema(schema):
        return
    if not connection.scalar(sa.select(sa.func.has_database_privilege(sa.func.current_database(), "CREATE"))):
        raise FatalError(
            f"{address.place}: the schema {schema} is missing and a right to make it too: have it made for this user,"
            " or for replays have CREATE on the database granted"
        )
    connection.execute(CreateSchema(schema))
