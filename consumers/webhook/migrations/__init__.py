"""The tables of a forwarder's state as they came to be, step by step, for alembic."""
