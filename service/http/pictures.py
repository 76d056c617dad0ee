"""Pictures of the run page: the same figures as ``mirv cohort`` draws, for one patient."""

import numpy as np
import pandas as pd

from mirv.analysis.cohort import figures
from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import FloatArray
from mirv.analysis.patient import sampling
from mirv.service.study.result_record import ResultRecord

KINDS = ("dissimilarity", "recovery", "variation")
_SEED = 0  # of the draws of the recovery curve: the same picture at every look
_FEWEST_TO_SAMPLE = 3


def draw(record: ResultRecord, kind: str, profile: str, space: str) -> bytes | None:
    """One picture as PNG; None when it cannot be drawn from this result.

    Parameters
    ----------
    kind : str
        One of `KINDS`: cosine distances between lesions with their dendrogram; how much of the
        heterogeneity fewer lesions recover; coefficients of variation by feature class.
    profile, space : str
        `space` is not used for ``variation``.
    """
    if kind == "variation":
        return _variation(record, profile)
    found = _distances(record, profile, space)
    if found is None:
        return None
    D, labels = found
    if kind == "dissimilarity":
        return figures.as_png(figures.dissimilarity_map(D, labels, title=f"{profile} / {space}"))
    if len(D) < _FEWEST_TO_SAMPLE:
        return None
    try:
        curve = sampling.recovery_curve(D, random=np.random.default_rng(_SEED))
    except Unsuitable:
        return None
    return figures.as_png(figures.recovery_curves({"patient": curve}))


def _distances(
    record: ResultRecord, profile: str, space: str
) -> tuple[FloatArray, list[str]] | None:
    """Cosine distances between the lesions of a space and their names; None when one is missing."""
    pairs = [one for one in record.result.pairs if (one.profile, one.space) == (profile, space)]
    names = {row.tracking_uid: row.tracking_id for row in record.result.lesions}
    uids = dict.fromkeys(uid for one in pairs for uid in (one.tracking_uid_a, one.tracking_uid_b))
    place = {uid: n for n, uid in enumerate(uids)}
    D = np.zeros((len(uids), len(uids)))
    for one in pairs:
        if one.cosine is None:
            return None
        a, b = place[one.tracking_uid_a], place[one.tracking_uid_b]
        D[a, b] = D[b, a] = one.cosine
    # A dollar sign would start a formula.
    labels = [names.get(uid, uid).replace("$", r"\$") for uid in uids]
    return (D, labels) if len(uids) > 1 else None


def _variation(record: ResultRecord, profile: str) -> bytes | None:
    rows = [row for row in record.result.variation if row.profile == profile and not row.site]
    table = pd.DataFrame(
        {"feature": [r.feature for r in rows], "cv_percent": [r.cv_percent for r in rows]},
    ).astype({"cv_percent": float})
    if table["cv_percent"].notna().sum() == 0:
        return None
    return figures.as_png(figures.variation_by_class(table))
