"""How far the duty of reading all bytes again has come."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the duty, and where a duty has come to."""
    op.add_column("duties", sa.Column("place", sa.Text))
    duties = sa.table("duties", sa.column("name"), sa.column("holder"), sa.column("lease_until"))
    op.bulk_insert(duties, [{"name": "scrub", "holder": "", "lease_until": 0}])
