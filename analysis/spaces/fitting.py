"""Fitting a frozen feature space on a reference cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from mirv.analysis.choices import Fitted, Population, ReductionMode, Scaling
from mirv.analysis.errors import Unsuitable
from mirv.analysis.heterogeneity import METRICS, distances
from mirv.analysis.model import FloatArray
from mirv.analysis.spaces.reduction import VOLUME, reduce_features
from mirv.analysis.spaces.space import FeatureSpace
from mirv.analysis.tables import numeric

QUANTILES = 101


@dataclass(frozen=True, slots=True)
class WantedSpace:
    """What a space is called and how a cohort gives its centre and scale.

    Attributes
    ----------
    name, profile, description : str
    kind : Scaling
        ``zscore`` or ``minmax``.
    population : Population
        All lesions as published, or only those of patients with two or more (F8).
    source : mapping
        Where the table comes from, for the provenance.
    """

    name: str
    profile: str
    kind: Fitted = Scaling.ZSCORE
    population: Population = Population.ALL
    source: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


def fit_space(
    table: pd.DataFrame,
    patients: Sequence[str],
    wanted: WantedSpace,
    features: ReductionMode | Sequence[str] = ReductionMode.PAPER,
    *,
    volume: str = VOLUME,
) -> FeatureSpace:
    """Fit a space on a cohort's lesions.

    Parameters
    ----------
    table : DataFrame (n_lesions, n_features)
        Features only, one row a lesion.
    patients : sequence of str
        Patient of each row.
    wanted : WantedSpace
    features : ReductionMode or sequence of str
        How the features are chosen, or those that were chosen before.
    volume : str
        Column of the volume, for the reduction.

    Raises
    ------
    Unsuitable
        Faulty table (column and row named), too few lesions, nothing left, constant feature.
    """
    columns = [str(column) for column in table.columns]
    values = numeric(table, columns).to_numpy()
    owner = np.asarray(patients, dtype=object)
    _, index, counts = np.unique(owner.astype(str), return_inverse=True, return_counts=True)
    multiple = wanted.population == Population.MULTIPLE
    if multiple:
        enough = counts[index] >= 2
        values, owner = values[enough], owner[enough]
    if len(values) < 3:
        raise Unsuitable("too_few_lesions", f"found {len(values)} lesion(s), wanted at least 3")
    provenance: dict[str, Any] = {
        **wanted.source,
        "population": wanted.population,
        "n_lesions": len(values),
        "n_patients": len(set(owner.tolist())),
    }
    if isinstance(features, ReductionMode):
        reduction = reduce_features(values, columns, features, volume=volume)
        chosen = reduction.names
        provenance["reduction"] = {
            "mode": features,
            "n_features": reduction.n_features,
            "n_filtered": reduction.n_filtered,
            "n_kept": reduction.n_kept,
            "median_variance": reduction.median_variance,
            "volume_feature": volume,
            "volume_limit": reduction.volume_limit,
            "pair_limit": reduction.pair_limit,
        }
    else:
        chosen = tuple(features)
        provenance["reduction"] = {"mode": "given", "n_kept": len(chosen)}
    kept = numeric(table, chosen).to_numpy()
    if multiple:
        kept = kept[enough]
    centre, scale = _parameters(kept, wanted.kind, chosen)
    space = FeatureSpace(
        name=wanted.name,
        profile=wanted.profile,
        kind=wanted.kind,
        names=chosen,
        centre=centre,
        scale=scale,
        low=kept.min(axis=0),
        high=kept.max(axis=0),
        fitted_on=provenance,
        description=wanted.description,
    )
    return replace(space, reference=reference_quantiles(space, kept, owner.tolist()))


def _parameters(
    values: FloatArray, kind: Fitted, names: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    span = np.ptp(values, axis=0)
    if not np.all(span > 0):
        first = names[int(np.flatnonzero(span == 0)[0])]
        raise Unsuitable("constant_feature", f"column {first!r} is the same for every lesion")
    if kind == Scaling.MINMAX:
        return values.min(axis=0), span
    return values.mean(axis=0), values.std(axis=0)


def groups(patients: Sequence[str]) -> dict[str, list[int]]:
    """Row numbers of each patient, patients in order of appearance."""
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows.setdefault(patient, []).append(row)
    return rows


def reference_quantiles(
    space: FeatureSpace, values: FloatArray, patients: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """Quantiles (0 to 100 %) of each index over the patients with two or more lesions.

    Parameters
    ----------
    space : FeatureSpace
    values : float64 (n_lesions, len(space.names))
        Not scaled, all finite.
    patients : sequence of str
        Patient of each row.

    Returns
    -------
    mapping of index to 101 floats
        Without the indices that the space does not define, or that fewer than two patients have.
    """
    found: dict[str, list[float]] = {metric.name: [] for metric in METRICS}
    scaled = space.scaled(values)
    for rows in groups(patients).values():
        if len(rows) < 2:
            continue
        between = distances(scaled[rows])
        for metric in METRICS:
            pairs = metric.pairs(between)
            if space.kind in metric.scalings and pairs.size:
                found[metric.name].append(metric.summarise(pairs))
    levels = np.linspace(0.0, 1.0, QUANTILES)
    return {
        name: tuple(float(value) for value in np.quantile(numbers, levels))
        for name, numbers in found.items()
        if len(numbers) >= 2
    }
