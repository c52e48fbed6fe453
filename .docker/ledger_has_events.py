"""Exits with 0 if the PostgreSQL ledger whose URL is in a file has an event, otherwise with 1 and the reason.

For the health check of the consumer in `docker-compose.yml`: `up --wait` succeeds once events have reached the ledger.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psycopg

if __name__ == "__main__":
    url = Path(os.environ["TREKKPAALEGG_LEDGER_FILE"]).read_text(encoding="utf-8").strip()
    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            row = connection.execute("SELECT EXISTS (SELECT FROM trekkpaalegg)").fetchone()
    except psycopg.Error as error:
        sys.exit(f"the ledger does not answer: {type(error).__name__}")
    if row is None or not row[0]:
        sys.exit("no event is in the ledger yet")
