"""Tell whose each object is, and of which series what waits needs the rest."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_AT_ONCE = 2000

# The table of before, as far as it is read here.
_instances = sa.table(
    "instances",
    sa.column("seq", sa.BigInteger),
    sa.column("header", sa.Text),
    sa.column("patient_id", sa.Text),
)


def upgrade() -> None:
    for table, name in (("instances", "patient_id"), ("waiting", "rest_of")):
        op.add_column(table, sa.Column(name, sa.Text(), nullable=False, server_default=""))
    _fill_patients()


def downgrade() -> None:
    op.drop_column("waiting", "rest_of")
    op.drop_column("instances", "patient_id")


def _fill_patients() -> None:
    connection = op.get_bind()
    seq = _instances.c.seq
    query = sa.select(seq, _instances.c.header).order_by(seq).limit(_AT_ONCE)
    change = (
        _instances.update()
        .where(seq == sa.bindparam("of"))
        .values(patient_id=sa.bindparam("patient"))
    )
    last = -1
    while rows := connection.execute(query.where(seq > last)).all():
        last = rows[-1].seq
        known = [
            {"of": row.seq, "patient": patient}
            for row in rows
            if (patient := _patient_of(row.header))
        ]
        if known:
            connection.execute(change, known)


def _patient_of(header: str) -> str:
    """What a stored header says; "" for one that no version wrote."""
    try:
        return str(json.loads(header)["patient_id"])
    except (ValueError, KeyError, TypeError):
        return ""
