"""The states of runs, deliveries and searches, as the catalogue, page and commands write them."""

from enum import StrEnum


class RunState(StrEnum):
    """How far a run is."""

    QUEUED = "queued"  # waits for its turn
    RUNNING = "running"  # at work; after a crash it stays so until it is taken up again
    FINISHED = "finished"  # its result and outputs are stored
    REFUSED = "refused"  # its input cannot be analysed
    FAILED = "failed"  # met a fault of the node
    CANCELLED = "cancelled"  # ended by the operator, or superseded before it began


UNDER_WAY = (RunState.QUEUED, RunState.RUNNING)
REPEATABLE = (RunState.REFUSED, RunState.FAILED, RunState.CANCELLED)
ENDED = (RunState.FINISHED, *REPEATABLE)


class DeliveryState(StrEnum):
    """How far an artifact is on its way to a destination."""

    WAITING = "waiting"  # for its next try, or for an answer about its commitment
    DELIVERED = "delivered"  # the destination has it
    PARKED = "parked"  # given up until told otherwise
    CANCELLED = "cancelled"  # stopped by the operator


class Commitment(StrEnum):
    """What a destination says of keeping an artifact."""

    NONE = ""  # not asked
    ASKED = "asked"  # no answer yet
    COMMITTED = "committed"  # it keeps it
    REFUSED = "refused"  # it does not: sent again, or parked
    UNAVAILABLE = "unavailable"  # it would not take the question


class CorrectionState(StrEnum):
    """What became of other content under a known SOP Instance UID; "" for what is none."""

    PENDING = "pending"  # waits for someone to decide
    OUTDONE = "outdone"  # a later one of the same object came
    ACCEPTED = "accepted"  # took the place of what was stored
    REFUSED = "refused"  # by the operator
    REPLACED = "replaced"  # was stored until a correction was accepted


CORRECTED = "correction"
"""What a run says it is superseded by when its input was corrected, until its revision is there."""


class PriorSearch(StrEnum):
    """How the last search for an earlier study went."""

    FOUND = "found"  # a source has one, which is fetched
    MISSING = "missing"  # a source has none
    UNANSWERED = "unanswered"  # a source was away: looked for again
