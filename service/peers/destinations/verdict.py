"""What a destination's answer means for a delivery."""

from enum import StrEnum


class DeliveryVerdict(StrEnum):
    """What is done about an artifact that was sent."""

    DELIVERED = "delivered"  # it is there
    RETRY = "retry"  # for now it was not taken: sent again later
    PARK = "park"  # refused for good: given up until told otherwise
