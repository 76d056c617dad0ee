"""Let corrections be decided: what waits in quarantine, and which runs a correction withdrew."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COLUMNS = ("header", "differs", "against")
_INDEXES = (("quarantine", "state"), ("quarantine", "sop_instance_uid"), ("runs", "prior"))

# The table of before, as far as it is read here.
_quarantine = sa.table(
    "quarantine",
    sa.column("id", sa.Integer),
    sa.column("sop_instance_uid", sa.Text),
    sa.column("code", sa.Text),
    sa.column("state", sa.Text),
)


def upgrade() -> None:
    op.add_column("quarantine", sa.Column("state", sa.Text(), nullable=False, server_default=""))
    for name in _COLUMNS:
        op.add_column("quarantine", sa.Column(name, sa.Text(), nullable=True))
    op.create_table(
        "withdrawals",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_withdrawals_run_id")),
        sa.PrimaryKeyConstraint("run_id", "study_uid", "series_uid", name=op.f("pk_withdrawals")),
    )
    op.create_index(
        op.f("ix_withdrawals_study_uid_series_uid"), "withdrawals", ["study_uid", "series_uid"]
    )
    for table, column in _INDEXES:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column])
    _await_decisions()


def downgrade() -> None:
    for table, column in _INDEXES:
        op.drop_index(op.f(f"ix_{table}_{column}"), table)
    op.drop_table("withdrawals")
    for name in ("state", *_COLUMNS):
        op.drop_column("quarantine", name)


def _await_decisions() -> None:
    """What was put aside as other content of a known object waits now, the latest of each."""
    told = _quarantine.c.code == "other_content"
    latest = (
        sa.select(sa.func.max(_quarantine.c.id))
        .where(told)
        .group_by(_quarantine.c.sop_instance_uid)
    )
    connection = op.get_bind()
    connection.execute(_quarantine.update().where(told).values(state="outdone"))
    connection.execute(
        _quarantine.update().where(_quarantine.c.id.in_(latest)).values(state="pending")
    )
