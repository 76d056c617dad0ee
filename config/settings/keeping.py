"""Settings of how much is kept and tried, and for how long."""

from pydantic import Field

from mirv.config.settings.fields import Section


class Backlog(Section):
    """Above these the node fetches nothing more until it has caught up."""

    backlog: int = Field(200, ge=1, description="Runs queued or at work, and studies not settled")
    fetches: int = Field(2, ge=1, le=32, description="Fetches at a time, each process")
    deliveries: int = Field(
        8, ge=1, le=64, description="Deliveries at a time, each process and destination"
    )


class Delivery(Section):
    """How results are sent."""

    max_attempts: int = Field(12, ge=1, description="After these a delivery is parked")
    first_retry_s: float = Field(5, gt=0, description="Pause after the first failure; it doubles")
    longest_retry_s: float = Field(900, gt=0, description="Longest pause between two tries")
    commitment_timeout_s: float = Field(
        300, gt=0, description="Where commitment is required: sent again without an answer by then"
    )


class Retention(Section):
    """How long received objects are kept; results, artifacts and the audit trail stay."""

    keep_days: float | None = Field(
        None, ge=0, description="After the last object, once all is delivered; none: for ever"
    )
    keep_unused_days: float | None = Field(
        None, ge=0, description="Studies that never gave a run; none: for ever"
    )
    keep_workflow_days: float = Field(
        30, ge=1, description="Records of ended work in the workflow database"
    )
