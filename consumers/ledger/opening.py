"""A ledger's URL in, the ledger out, on whichever database the URL names; for payout and proof, an engine on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.ledger.address import PostgresqlAddress, address_of
from consumers.ledger.engine import make_engine
from consumers.ledger.migrating import look, prepare
from consumers.ledger.postgresql import PostgresqlLedger
from consumers.ledger.sqlite import SqliteLedger

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from consumers.ledger.port import Ledger


def open_ledger(url: str) -> Ledger:
    """The ledger at `postgresql://…` or `sqlite:///…`, its tables made or migrated first; the caller closes it.

    Raises `SettingsError` for an URL that is none of these, which never shows its password; `FatalError` when the
    database refuses, and says what to do; `RetryableError` when it is out of reach.
    """
    address = address_of(url)
    identity = prepare(address)
    if isinstance(address, PostgresqlAddress):
        return PostgresqlLedger(address, identity)
    return SqliteLedger(address, identity)


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """An engine on a ledger that is there, for the tables of `consumers.ledger.tables`; nothing is made or migrated.

    It keeps no connection open. `read_only` needs no right to write, and on SQLite takes no lock. Hold `translating()`
    around what is run on it. Raises as `open_ledger`, and `FatalError` where there is no ledger of this version.
    """
    address = address_of(url)
    look(address)
    return make_engine(address, read_only=read_only)


def ledger_id(url: str) -> str:
    """Identity of the ledger that is there. Raises as `open_engine`."""
    return look(address_of(url))
