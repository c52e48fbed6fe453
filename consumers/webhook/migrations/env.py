"""Alembic's entry: the connection and version table that `consumers.ledger.migrating` gives in, all steps run on it."""

from alembic import context

context.configure(**context.config.attributes["migration"])
with context.begin_transaction():
    context.run_migrations()
