"""When an event was taken, so that the age of what waits can be told."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. Of what waits already it is not known."""
    comment = "when it was read and kept, seconds since 1970; null: by a version that did not note it"
    op.add_column("webhook_event", sa.Column("taken_seconds", sa.Double(), comment=comment))
