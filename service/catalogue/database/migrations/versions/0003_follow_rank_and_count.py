"""Remember how far an Orthanc was followed, who goes first, and how many lesions are done."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "positions",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_positions")),
    )
    op.add_column("runs", sa.Column("priority", sa.Integer(), nullable=False, server_default="100"))
    op.add_column("runs", sa.Column("lesions_done", sa.Integer()))
    op.add_column("runs", sa.Column("lesions_total", sa.Integer()))


def downgrade() -> None:
    for name in ("lesions_total", "lesions_done", "priority"):
        op.drop_column("runs", name)
    op.drop_table("positions")
