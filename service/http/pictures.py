"""Pictures of the run page."""

import io

import numpy as np

from analysis.plots import dissimilarity_map
from service.records import ResultRecord


def dissimilarity_png(record: ResultRecord, profile: str, space: str) -> bytes | None:
    """The cosine distances between a patient's lesions as a PNG; None when any is missing."""
    pairs = [one for one in record.result.pairs if (one.profile, one.space) == (profile, space)]
    names = {row.tracking_uid: row.tracking_id for row in record.result.lesions}
    uids = list(
        dict.fromkeys(uid for one in pairs for uid in (one.tracking_uid_a, one.tracking_uid_b))
    )
    place = {uid: n for n, uid in enumerate(uids)}
    D = np.zeros((len(uids), len(uids)))
    for one in pairs:
        if one.cosine is None:
            return None
        a, b = place[one.tracking_uid_a], place[one.tracking_uid_b]
        D[a, b] = D[b, a] = one.cosine
    if len(uids) < 2:
        return None
    # A dollar sign would start a formula.
    labels = [names.get(uid, uid).replace("$", r"\$") for uid in uids]
    out = io.BytesIO()
    made = dissimilarity_map(D, labels, title=f"{profile} / {space}")
    made.savefig(out, format="png", dpi=110, bbox_inches="tight")
    return out.getvalue()
