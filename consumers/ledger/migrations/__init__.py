"""The ledger's tables as they came to be, step by step, for alembic."""
