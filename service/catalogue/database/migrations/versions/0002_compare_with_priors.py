"""Let a run name the earlier study it is compared with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("prior", sa.Text()))
    op.create_index(op.f("ix_runs_patient_id"), "runs", ["patient_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_runs_patient_id"), "runs")
    op.drop_column("runs", "prior")
