"""Analysis of ``mirv cohort sampling``: what a sample of lesions recovers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mirv.analysis.cohort import figures
from mirv.analysis.errors import Unsuitable
from mirv.analysis.heterogeneity import distances
from mirv.analysis.model import FloatArray, LesionResult
from mirv.analysis.patient import sampling
from mirv.analysis.patient.target_lesions import Measured, dominant, recist_targets
from mirv.analysis.spaces.files import space_to_json
from mirv.analysis.spaces.space import FeatureSpace
from mirv.analysis.tables import require_columns
from mirv.service.research.cohort.indices import scaled_vectors
from mirv.service.research.cohort.sink import Sink, left_out
from mirv.service.research.cohort.source import Cohort, check_profile

DIAMETER = "original_shape_Maximum2DDiameterSlice"


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """How lesions are sampled.

    Attributes
    ----------
    n_draws : int
        Samples of each strategy.
    seed : int
    largest : int
        Lesions in the largest sample of the recovery curve.
    min_lesions : int
        Patients with fewer are not sampled; at least 2.
    """

    n_draws: int
    seed: int
    largest: int
    min_lesions: int


def write_sampling(cohort: Cohort, sink: Sink, space: FeatureSpace, rule: SamplingRule) -> None:
    """What each sampling strategy recovers, by patient and pooled, and the curve (R-SAMP)."""
    check_profile(cohort, space)
    require_columns(cohort.table, space.names)
    lesions = cohort.lesions(space.names)
    rows: list[dict[str, Any]] = []
    pooled: dict[tuple[str, str], list[sampling.Recovery]] = {}
    curves: dict[str, sampling.Curve] = {}
    refused: list[dict[str, Any]] = []
    for unit, positions in sink.watch(list(cohort.rows().items()), "sampling"):
        key = cohort.key(positions)
        own = [lesions[row] for row in positions]
        used, scaled = scaled_vectors(space, own)
        fewest = max(2, rule.min_lesions)
        if len(used) < fewest:
            detail = f"found {len(used)} lesion(s), wanted at least {fewest}"
            refused.append({**key, "reason": f"too_few_lesions: {detail}"})
            continue
        D = distances(scaled).cosine
        try:
            found, curve = _sampled(D, [own[i] for i in used], unit, rule)
        except Unsuitable as error:
            refused.append({**key, "reason": str(error.reason)})
            continue
        curves[unit] = curve
        for recovery in found:
            rows.append({**key, **_recovery_row(recovery)})
            pooled.setdefault((recovery.strategy, recovery.index), []).append(recovery)
    if not curves:
        raise Unsuitable("too_few_lesions", "no patient can be sampled: see --min-lesions")
    sink.table("recovery", pd.DataFrame(rows))
    sink.table("pooled", pd.DataFrame([_pooled_row(k, v) for k, v in pooled.items()]))
    sink.table("curve", _curve_table(curves))
    sink.table("needed", _needed_table(curves))
    sink.table(
        "not_sampled", pd.DataFrame(refused, columns=[*map(str, cohort.keys.columns), "reason"])
    )
    sink.figure("recovery", figures.recovery_curves(curves))
    sink.text("space.json", space_to_json(space))
    unknown = sum(site == "unknown" for site in cohort.sites)
    if unknown:
        sink.note(f"{unknown} lesion(s) of unknown site stay out of the per-site strategies")
    if refused:
        sink.note(f"{len(refused)} patient(s) not sampled: see not_sampled")
    left_out(cohort, sink)


def _sampled(
    D: FloatArray, own: Sequence[LesionResult], unit: str, rule: SamplingRule
) -> tuple[list[sampling.Recovery], sampling.Curve]:
    sites = [lesion.site for lesion in own]
    strategies = [*sampling.STRATEGIES, *sampling.WITHIN_SITE]
    random = sampling.generator(rule.seed, unit)
    found = sampling.recover(D, sites, strategies, n_draws=rule.n_draws, random=random)
    measured = [_measured(lesion) for lesion in own]
    if all(lesion.volume_ml > 0 for lesion in own):
        found += sampling.recover_fixed(D, "dominant", dominant(measured))
    if set(sites) != {"unknown"} and all(one.long_axis_mm is not None for one in measured):
        found += sampling.recover_fixed(D, "recist_targets", recist_targets(measured))
    return found, sampling.recovery_curve(
        D, largest=rule.largest, n_draws=rule.n_draws, random=random
    )


def _measured(lesion: LesionResult) -> Measured:
    """Size of a lesion for the fixed rules; lymph nodes have no short axis in a feature table."""
    diameter = None
    if DIAMETER in lesion.names:
        diameter = float(lesion.values[lesion.names.index(DIAMETER)])
    return Measured(lesion.site, lesion.volume_ml, diameter)


def _recovery_row(recovery: sampling.Recovery) -> dict[str, Any]:
    found = sampling.summary(recovery.draws)
    return {
        "strategy": recovery.strategy,
        "index": recovery.index,
        "n_lesions": recovery.n_lesions,
        "n_sampled": recovery.n_sampled,
        "n_draws": found.n_draws if found else 0,
        "mean_percent": found.mean if found else None,
        "low_percent": found.low if found else None,
        "high_percent": found.high if found else None,
        "expected_percent": recovery.expected,
        "not_computable": recovery.not_computable,
        "reason": str(recovery.reason) if recovery.reason else None,
    }


def _pooled_row(key: tuple[str, str], found: Sequence[sampling.Recovery]) -> dict[str, Any]:
    draws = np.concatenate([recovery.draws for recovery in found])
    whole = sampling.summary(draws)
    exact = [recovery.expected for recovery in found if recovery.expected is not None]
    return {
        "strategy": key[0],
        "index": key[1],
        "n_patients": len(found),
        "n_not_computable": sum(recovery.not_computable for recovery in found),
        "mean_percent": whole.mean if whole else None,
        "low_percent": whole.low if whole else None,
        "high_percent": whole.high if whole else None,
        "expected_percent": float(np.mean(exact)) if exact else None,
    }


def _curve_table(curves: Mapping[str, sampling.Curve]) -> pd.DataFrame:
    rows = [
        {
            "unit": unit,
            "index": index,
            "n_sampled": size,
            **_percentiles(curve.draws[index][:, column]),
        }
        for unit, curve in curves.items()
        for index in sampling.INDICES
        for column, size in enumerate(curve.sizes)
    ]
    return pd.DataFrame(rows)


def _percentiles(draws: FloatArray) -> dict[str, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return {
        "mean_percent": float(draws.mean()),
        "low_percent": float(low),
        "high_percent": float(high),
    }


def _needed_table(curves: Mapping[str, sampling.Curve]) -> pd.DataFrame:
    """Smallest number of lesions whose mean recovery reaches 75 %; empty when none does."""
    rows = [
        {"unit": unit, **{f"{index}_needed": curve.enough(index) for index in sampling.INDICES}}
        for unit, curve in curves.items()
    ]
    return pd.DataFrame(rows).astype({f"{index}_needed": "Int64" for index in sampling.INDICES})
