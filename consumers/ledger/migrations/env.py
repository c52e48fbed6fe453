"""Alembic's entry point: runs all steps on the connection that `consumers.ledger.migrating` passes."""

from alembic import context

context.configure(**context.config.attributes["migration"])
with context.begin_transaction():
    context.run_migrations()
