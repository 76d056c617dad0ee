"""Keep what is read back in tables of its own: the audit trail is for people."""

import json
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The tables of before, as far as they are read here.
_events = sa.table(
    "events",
    sa.column("id", sa.Integer),
    sa.column("at", sa.Float),
    sa.column("kind", sa.Text),
    sa.column("study_uid", sa.Text),
    sa.column("run_id", sa.Text),
    sa.column("object_uid", sa.Text),
    sa.column("detail", sa.Text),
)
_instances = sa.table(
    "instances", sa.column("seq", sa.Integer), sa.column("sop_instance_uid", sa.Text)
)
_positions = sa.table(
    "positions",
    sa.column("source", sa.Text),
    sa.column("number", sa.BigInteger),
    sa.column("mark", sa.Text),
)
_runs = sa.table("runs", sa.column("run_id", sa.Text))

_CLOCK = "clock looked at"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    facts = op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    clock_jumps = op.create_table(
        "clock_jumps",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("after_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clock_jumps")),
    )
    finishes = op.create_table(
        "finishes",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_finishes_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finishes")),
    )
    run_priors = op.create_table(
        "run_priors",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_priors")),
    )
    prior_studies = op.create_table(
        "prior_studies",
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("found_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "run_id", name=op.f("pk_prior_studies")),
    )
    postponed = op.create_table(
        "postponed",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("change_type", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "change_type", "resource", name=op.f("pk_postponed")),
    )
    _name_the_spool(facts)
    _keep_the_clock(facts, clock_jumps)
    _number_finishes(finishes)
    _know_the_priors(run_priors, prior_studies)
    _know_what_is_put_off(postponed)


def downgrade() -> None:
    for name in ("postponed", "prior_studies", "run_priors", "finishes", "clock_jumps", "facts"):
        op.drop_table(name)


def _told(*kinds: str) -> list[sa.RowMapping]:
    query = sa.select(_events).where(_events.c.kind.in_(kinds)).order_by(_events.c.id)
    return list(op.get_bind().execute(query).mappings())


def _name_the_spool(facts: sa.Table) -> None:
    for event in _told("spool_named")[-1:]:
        name = json.loads(event["detail"])["name"]
        op.get_bind().execute(facts.insert().values(name="spool name", value=name))


def _arrivals() -> Iterator[tuple[int, int]]:
    """(event, number) of each object that is there, in the order in which they came."""
    event = sa.func.max(_events.c.id)
    query = (
        sa.select(event, _instances.c.seq)
        .join(_instances, _instances.c.sop_instance_uid == _events.c.object_uid)
        .where(_events.c.kind == "received")
        .group_by(_instances.c.seq)
        .order_by(event)
    )
    return ((row[0], row[1]) for row in op.get_bind().execute(query))


def _keep_the_clock(facts: sa.Table, clock_jumps: sa.Table) -> None:
    connection, jumps = op.get_bind(), _told("clock_jumped")
    arrivals = _arrivals() if jumps else iter(())
    last, next_one = 0, next(arrivals, None)
    for jump in jumps:
        while next_one is not None and next_one[0] < jump["id"]:
            last, next_one = max(last, next_one[1]), next(arrivals, None)
        connection.execute(
            clock_jumps.insert().values(
                at=jump["at"], seconds=json.loads(jump["detail"])["seconds"], after_seq=last
            )
        )
    kept = connection.execute(sa.select(_positions).where(_positions.c.source == _CLOCK)).first()
    if kept is None:
        return
    # A jump that was noted after the time was kept counts instead of it.
    later = jumps and jumps[-1]["id"] > kept.number
    value = repr(jumps[-1]["at"]) if later else kept.mark
    connection.execute(facts.insert().values(name=_CLOCK, value=value))
    connection.execute(_positions.delete().where(_positions.c.source == _CLOCK))


def _number_finishes(finishes: sa.Table) -> None:
    query = (
        sa.select(_events.c.run_id)
        .join(_runs, _runs.c.run_id == _events.c.run_id)
        .where(_events.c.kind == "finished")
        .order_by(_events.c.id)
    )
    op.get_bind().execute(finishes.insert().from_select(["run_id"], query))


def _know_the_priors(run_priors: sa.Table, prior_studies: sa.Table) -> None:
    connection = op.get_bind()
    searches: dict[str, str] = {}
    found: dict[tuple[str, str], float] = {}
    for event in _told("prior_found", "prior_missing", "prior_unanswered"):
        search = event["kind"].removeprefix("prior_")
        searches[event["run_id"]] = search
        if search == "found":
            found[event["study_uid"], event["run_id"]] = event["at"]
    for run_id, search in searches.items():
        connection.execute(run_priors.insert().values(run_id=run_id, search=search))
    for (study_uid, run_id), at in found.items():
        connection.execute(
            prior_studies.insert().values(study_uid=study_uid, run_id=run_id, found_at=at)
        )


def _know_what_is_put_off(postponed: sa.Table) -> None:
    put_off: dict[str, dict[str, object]] = {}
    for event in _told("follow_postponed", "follow_caught_up"):
        if event["kind"] == "follow_caught_up":
            put_off.pop(event["object_uid"], None)
        else:
            detail = json.loads(event["detail"])
            values = {name: detail[name] for name in ("source", "change_type", "resource")}
            put_off[event["object_uid"]] = {**values, "number": detail["change"]}
    for values in put_off.values():
        op.get_bind().execute(postponed.insert().values(values))
