"""Alembic migrations of the forwarder's tables."""
