"""Tables of the catalogue. Times are seconds since 1970 (UTC); UIDs are outside strings."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for INTEGER keys.
_Number = BigInteger().with_variant(Integer(), "sqlite")

instances = Table(
    "instances",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", Text, nullable=False, unique=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("source", Text, nullable=False),
    Column("own_output", Boolean, nullable=False),
    Column("header", Text, nullable=False),
    Column("removed_at", Float),
    # In no index: PostgreSQL indexes no text of any length, and a sender may give any.
    Column("patient_id", Text, nullable=False, server_default=""),
    Index(None, "study_uid", "seq"),
    Index(None, "series_uid"),
    Index(None, "sha256"),
)

series_references = Table(
    "series_references",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("series_uid", Text, primary_key=True, index=True),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", Text, nullable=False, index=True),
    Column("sha256", Text, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("source", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="", index=True),
    Column("header", Text),
    Column("differs", Text),
    Column("against", Text),
)

matchings = Table(
    "matchings",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("n_instances", BigInteger, nullable=False),
    Column("matched_at", Float, nullable=False),
)

waiting = Table(
    "waiting",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("object_uid", Text, primary_key=True),
    Column("waits_for", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("rest_of", Text, nullable=False, server_default=""),
)

quality = Table(
    "quality",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("row", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("series_uid", Text, nullable=False, index=True),
    Column("patient_id", Text, nullable=False, index=True),
    Column("study_date", Text, nullable=False),
    Column("input_digest", Text, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("selection", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("round", Integer, nullable=False, default=0),
    Column("reason_code", Text, nullable=False, default=""),
    Column("reason_detail", Text, nullable=False, default=""),
    Column("predecessor", Text),
    Column("prior", Text, index=True),
    Column("superseded_by", Text),
    Column("result_sha256", Text),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("priority", Integer, nullable=False, server_default="100"),
    Column("lesions_done", Integer),
    Column("lesions_total", Integer),
)

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True),
    Column("study_uid", Text, primary_key=True),
    Column("series_uid", Text, primary_key=True),
    Index(None, "study_uid", "series_uid"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False, unique=True),
    Column("series_uid", Text, nullable=False),
    Column("sha256", Text, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("run_id", Text, ForeignKey("runs.run_id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("attempts_left", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("last_status", Integer),
    Column("detail", Text, nullable=False),
    Column("delivered_at", Float),
    Column("commitment", Text, nullable=False),
    Column("transaction_uid", Text, index=True),
    UniqueConstraint("run_id", "role", "destination"),
    Index(None, "state", "next_attempt_at"),
)

events = Table(
    "events",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False, index=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("run_id", Text, nullable=False, index=True),
    Column("object_uid", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("executor_id", Text, primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
)

facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

clock_jumps = Table(
    "clock_jumps",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("after_seq", BigInteger, nullable=False),
)

finishes = Table(
    "finishes",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("run_id", Text, ForeignKey("runs.run_id"), nullable=False),
)

run_priors = Table(
    "run_priors",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("search", Text, nullable=False),
)

prior_studies = Table(
    "prior_studies",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("found_at", Float, nullable=False),
)

postponed = Table(
    "postponed",
    metadata,
    Column("source", Text, primary_key=True),
    Column("change_type", Text, primary_key=True),
    Column("resource", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

positions = Table(
    "positions",
    metadata,
    Column("source", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("mark", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
)
