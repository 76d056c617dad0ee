"""Analyses of lesion distances: MIRV, Henry indices, what explains them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from mirv.analysis.choices import CohortScaling, Fitted, Population, ReductionMode, Scaling
from mirv.analysis.cohort import figures
from mirv.analysis.errors import Unsuitable
from mirv.analysis.heterogeneity import METRICS, IndexSet, distances
from mirv.analysis.model import FloatArray, LesionResult
from mirv.analysis.patient.explain import cosine_terms, furthest_pair, leave_one_out
from mirv.analysis.patient.study import counts_and_volumes, heterogeneity
from mirv.analysis.spaces.files import space_to_json
from mirv.analysis.spaces.fitting import WantedSpace, fit_space
from mirv.analysis.spaces.space import PATIENT_MINMAX, FeatureSpace, vectors
from mirv.analysis.tables import require_columns
from mirv.service.research.cohort.sink import Sink, left_out, wide
from mirv.service.research.cohort.source import Cohort, check_profile

MOST_MAPS = 200
PAIR_COLUMNS = ("space", "lesion_a", "lesion_b", "cosine", "euclidean", "reason")
SHARE_COLUMNS = (
    *("distance", "lesion_a", "lesion_b", "value"),
    *("feature", "share", "term", "scaled_a", "scaled_b"),
)
_LEFT_ONE_OUT = tuple(metric for metric in METRICS if metric.index_set is IndexSet.HENRY)
CHANGE_COLUMNS = tuple(f"{metric.name}_change" for metric in _LEFT_ONE_OUT)


def fitted_space(
    cohort: Cohort,
    name: str,
    features: ReductionMode | Sequence[str],
    *,
    kind: Fitted = Scaling.ZSCORE,
    population: Population = Population.ALL,
) -> FeatureSpace:
    """A space fitted on the cohort itself.

    Parameters
    ----------
    cohort : Cohort
    name : str
        Of the space.
    features : ReductionMode or sequence of str
        How features are chosen, or which they are.
    kind : Scaling
    population : Population
        Which lesions centre and scale are of.

    Returns
    -------
    FeatureSpace

    Raises
    ------
    Unsuitable
        ``missing_column``, or as `fit_space`.
    """
    wanted = list(cohort.features if isinstance(features, ReductionMode) else features)
    require_columns(cohort.table, wanted)
    source = {"inputs": [asdict(one) for one in cohort.inputs]}
    space = WantedSpace(name, cohort.profile, kind, population, source)
    return fit_space(cohort.table[wanted], cohort.units, space, features)


def scaled_space(cohort: Cohort, scaling: CohortScaling, names: Sequence[str]) -> FeatureSpace:
    """A space of a given list of features under one of the scalings of R-HET-2.

    Parameters
    ----------
    cohort : Cohort
    scaling : CohortScaling
    names : sequence of str
        Features.

    Returns
    -------
    FeatureSpace

    Raises
    ------
    Unsuitable
        ``missing_column``, or as `fit_space`.
    """
    require_columns(cohort.table, names)
    fitted: dict[CohortScaling, Fitted] = {
        CohortScaling.REFERENCE_MINMAX: Scaling.MINMAX,
        CohortScaling.REFERENCE_ZSCORE: Scaling.ZSCORE,
    }
    if kind := fitted.get(scaling):
        return fitted_space(cohort, f"cohort-{scaling}", names, kind=kind)
    if scaling == CohortScaling.PATIENT_MINMAX:
        empty = np.zeros(0)
        return FeatureSpace(
            PATIENT_MINMAX, cohort.profile, Scaling.PATIENT_MINMAX, tuple(names), empty, empty
        )
    centre, scale = np.zeros(len(names)), np.ones(len(names))
    return FeatureSpace("unscaled", cohort.profile, Scaling.NONE, tuple(names), centre, scale)


def write_indices(
    cohort: Cohort, sink: Sink, space: FeatureSpace, *, explain: bool, maps: bool
) -> None:
    """Every index of every patient in one space, the pairs, and what explains them."""
    check_profile(cohort, space)
    require_columns(cohort.table, space.names)
    lesions = cohort.lesions(space.names)
    patients, pairs = [], []
    shares: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    for rows in sink.watch(list(cohort.rows().values()), "indices"):
        key = cohort.key(rows)
        own = [lesions[row] for row in rows]
        measures, between = heterogeneity(space, own)
        volumes = counts_and_volumes(own) if cohort.volumes_ml() is not None else ()
        patients.append(
            ({**key, "profile": space.profile, "space": space.name}, [*volumes, *measures])
        )
        pairs += [
            {
                **key,
                "space": space.name,
                "lesion_a": pair.tracking_uid_a,
                "lesion_b": pair.tracking_uid_b,
                "cosine": pair.cosine,
                "euclidean": pair.euclidean,
                "reason": str(pair.reason) if pair.reason else None,
            }
            for pair in between
        ]
        if explain:
            shares += _shares(space, own, key)
            changes += _changes(space, own, key)
        if maps and len(drawn) < MOST_MAPS:
            drawn += _map(space, own, key, sink, len(drawn))
    sink.table("patients", wide(patients))
    keys = [str(name) for name in cohort.keys.columns]
    sink.table("pairs", pd.DataFrame(pairs, columns=[*keys, *PAIR_COLUMNS]))
    if explain:
        sink.table("explanation", pd.DataFrame(shares, columns=[*keys, *SHARE_COLUMNS]))
        sink.table(
            "leave_one_out", pd.DataFrame(changes, columns=[*keys, "lesion", *CHANGE_COLUMNS])
        )
    if drawn:
        sink.table("maps", pd.DataFrame(drawn))
    sink.table("features", _feature_table(space))
    sink.text("space.json", space_to_json(space))
    sink.fact("space", {"name": space.name, "digest": space.digest, "n": len(space.names)})
    _, _, gone = vectors(space, lesions)
    left_out(cohort, sink, [(row + 1, cohort.labels[row], str(why)) for row, why in gone.items()])


def _feature_table(space: FeatureSpace) -> pd.DataFrame:
    """The features of a space, in order, with centre and scale where they are frozen."""
    table = pd.DataFrame({"feature": space.names})
    if space.kind != Scaling.PATIENT_MINMAX:
        table = table.assign(centre=space.centre, scale=space.scale)
    return table


def scaled_vectors(
    space: FeatureSpace, own: Sequence[LesionResult]
) -> tuple[list[int], FloatArray]:
    """Positions and scaled features of the lesions that have every feature of the space.

    Parameters
    ----------
    space : FeatureSpace
    own : sequence of LesionResult

    Returns
    -------
    used : list of int
        Positions in `own`.
    scaled : array (lesion, feature)
    """
    used, values, _ = vectors(space, own)
    return used, space.scaled(values) if used else values


def _shares(
    space: FeatureSpace, own: Sequence[LesionResult], key: Mapping[str, str]
) -> list[dict[str, Any]]:
    used, scaled = scaled_vectors(space, own)
    rows: list[dict[str, Any]] = []
    for distance in ("cosine", "euclidean"):
        try:
            found = furthest_pair(scaled, distance)
        except Unsuitable:
            continue  # the patient's own row in `patients` says why there is no pair
        a, b = scaled[found.first], scaled[found.second]
        terms = cosine_terms(a, b) if distance == "cosine" else (a - b) ** 2
        rows += [
            {
                **key,
                "distance": distance,
                "lesion_a": own[used[found.first]].tracking_uid,
                "lesion_b": own[used[found.second]].tracking_uid,
                "value": found.value,
                "feature": name,
                "share": float(found.shares[i]),
                "term": float(terms[i]),
                "scaled_a": float(a[i]),
                "scaled_b": float(b[i]),
            }
            for i, name in enumerate(space.names)
        ]
    return rows


def _changes(
    space: FeatureSpace, own: Sequence[LesionResult], key: Mapping[str, str]
) -> list[dict[str, Any]]:
    used, scaled = scaled_vectors(space, own)
    if len(used) < 2:
        return []
    changes = {
        name: leave_one_out(scaled, metric.summarise, metric.distance)
        for name, metric in zip(CHANGE_COLUMNS, _LEFT_ONE_OUT, strict=True)
    }
    return [
        {
            **key,
            "lesion": own[position].tracking_uid,
            **{name: float(values[row]) for name, values in changes.items()},
        }
        for row, position in enumerate(used)
    ]


def _map(
    space: FeatureSpace, own: Sequence[LesionResult], key: Mapping[str, str], sink: Sink, n: int
) -> list[dict[str, Any]]:
    """Draw a patient's map under a number: file names never carry an outside string."""
    used, scaled = scaled_vectors(space, own)
    between = distances(scaled)
    if len(used) < 3 or not between.directed.all():
        return []
    labels = [own[position].label for position in used]
    title = f"Dissimilarity between {len(used)} lesions, space {space.name}"
    sink.figure(f"maps/{n:04d}", figures.dissimilarity_map(between.cosine, labels, title=title))
    return [{**key, "file": f"maps/{n:04d}.png"}]
