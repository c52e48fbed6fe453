"""Add the time at which an event was read, from which the age of waiting events follows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. It is null for events that were already waiting."""
    comment = "when it was read and stored, seconds since 1970; null: by a version that did not record it"
    op.add_column("webhook_event", sa.Column("taken_seconds", sa.Double(), comment=comment))
