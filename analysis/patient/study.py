"""All patient-level results of one study, from the features of its lesions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mirv.analysis.choices import Scaling
from mirv.analysis.errors import Reason
from mirv.analysis.heterogeneity import METRICS, Distances, Metric, distances, percentile_name
from mirv.analysis.model import (
    FloatArray,
    LesionResult,
    Measure,
    Pair,
    Provenance,
    StudyResult,
    Variation,
)
from mirv.analysis.patient.variation import variation
from mirv.analysis.spaces.space import (
    MIN_PATIENT_MINMAX,
    FeatureSpace,
    patient_minmax,
    vectors,
)
from mirv.config.profiles import ExtractionProfile


def analyse(
    results: Sequence[LesionResult],
    profiles: Sequence[ExtractionProfile],
    spaces: Sequence[FeatureSpace],
    provenance: Provenance,
) -> StudyResult:
    """Every measure, pair and variation of a study.

    Parameters
    ----------
    results : sequence of LesionResult
        Of all profiles, in any order; the result does not depend on the order of the lesions.
    profiles : sequence of ExtractionProfile
    spaces : sequence of FeatureSpace
        Each is used for the lesions of its own profile. A profile that no frozen space serves
        and that has a short list gets the space ``patient-minmax``.
    provenance : Provenance
        Passed on.
    """
    ordered = sorted(results, key=lambda lesion: (lesion.number, lesion.tracking_uid))
    measures = list(counts_and_volumes(ordered))
    pairs: list[Pair] = []
    rows: list[Variation] = []
    for profile in profiles:
        lesions = [lesion for lesion in ordered if lesion.profile == profile.name]
        varied = variation([lesion for lesion in lesions if lesion.excluded is None])
        rows.extend(varied)
        measures.extend(_mean_variation(profile, varied, len(lesions)))
        for space in spaces_of(profile, spaces):
            indices, distances_between = heterogeneity(space, lesions)
            measures.extend(indices)
            pairs.extend(distances_between)
    return StudyResult(tuple(results), tuple(measures), tuple(pairs), tuple(rows), provenance)


def heterogeneity(
    space: FeatureSpace, lesions: Sequence[LesionResult]
) -> tuple[list[Measure], list[Pair]]:
    """Every index of one patient in one space, and the pairs they are made of.

    Parameters
    ----------
    space : FeatureSpace
    lesions : sequence of LesionResult
        One patient; a lesion without all features of the space is left out, which `n_lesions` of
        the measures and the reasons of its pairs say.
    """
    view = _look(space, lesions)
    return _indices(view), _pairs(view)


def spaces_of(
    profile: ExtractionProfile, spaces: Sequence[FeatureSpace]
) -> tuple[FeatureSpace, ...]:
    """The frozen spaces of a profile, else its short list scaled within the patient."""
    own = tuple(space for space in spaces if space.profile == profile.name)
    if own or not profile.selected:
        return own
    return (patient_minmax(profile),)


def divergent_pair(
    result: StudyResult,
    profile: str,
    space: str,
    distance: Literal["cosine", "euclidean"] = "cosine",
) -> Pair | None:
    """The pair of lesions furthest apart (cosine: it sets MTD); None when there is none."""
    best: tuple[float, Pair] | None = None
    for pair in result.pairs:
        value = pair.cosine if distance == "cosine" else pair.euclidean
        if (pair.profile, pair.space) != (profile, space) or value is None:
            continue
        if best is None or value > best[0]:
            best = value, pair
    return best[1] if best else None


# --- counts and volumes ---------------------------------------------------------------------


def counts_and_volumes(results: Sequence[LesionResult]) -> tuple[Measure, ...]:
    """How many lesions at how many sites, and their native volumes; no profile, no space."""
    lesions = {lesion.tracking_uid: lesion for lesion in results if lesion.volume_ml > 0}.values()
    volumes = np.array([lesion.volume_ml for lesion in lesions])
    known = [lesion.site for lesion in lesions if lesion.site != "unknown"]
    n = len(volumes)
    nothing = Reason("no_lesions", "found no lesion with a voxel, wanted at least 1")
    single = _too_few(n, 2)
    no_site = Reason("site_unknown", f"none of {n} lesion(s) has a known metastatic site")
    return (
        Measure("n_lesions", float(n), "{count}", "", "", n),
        _plain("n_sites", float(len(set(known))), "{count}", len(known), bool(known), no_site),
        _plain("volume_total_ml", float(volumes.sum()), "ml", n, n >= 1, nothing),
        _plain("volume_range_ml", float(np.ptp(volumes)) if n else 0.0, "ml", n, n >= 2, single),
        _plain(
            "volume_sd_ml", float(volumes.std(ddof=1)) if n > 1 else 0.0, "ml", n, n > 1, single
        ),
    )


def _plain(name: str, value: float, unit: str, n: int, there: bool, reason: Reason) -> Measure:
    if there:
        return Measure(name, value, unit, "", "", n)
    return Measure(name, None, unit, "", "", n, reason)


def _too_few(found: int, wanted: int) -> Reason:
    return Reason("too_few_lesions", f"found {found} lesion(s), wanted at least {wanted}")


def _mean_variation(
    profile: ExtractionProfile, rows: Sequence[Variation], n_lesions: int
) -> tuple[Measure, ...]:
    """Mean CV over all features and over the profile's short list, undefined CVs left out."""
    measures = []
    for name, wanted in (
        ("cv_mean_percent", None),
        ("cv_selected_mean_percent", set(profile.selected)),
    ):
        if wanted is not None and not wanted:
            none = Reason("no_short_list", f"profile {profile.name} has no short list of features")
            measures.append(Measure(name, None, "%", profile.name, "", 0, none))
            continue
        chosen = [
            row for row in rows if row.site == "" and (wanted is None or row.feature in wanted)
        ]
        defined = [row.cv_percent for row in chosen if row.cv_percent is not None]
        n = max((row.n_lesions for row in chosen), default=0)
        if defined:
            measures.append(Measure(name, float(np.mean(defined)), "%", profile.name, "", n))
            continue
        reason = _too_few(n, 2)
        if n >= 2:
            reason = Reason("undefined", f"none of {len(chosen)} features has a defined CV")
        elif n < n_lesions:
            reason = Reason("too_few_lesions", f"{n} of {n_lesions} lesion(s) have features")
        measures.append(Measure(name, None, "%", profile.name, "", n, reason))
    return tuple(measures)


# --- indices --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A patient's lesions as seen in one space."""

    space: FeatureSpace
    lesions: Sequence[LesionResult]
    used: list[int]
    left_out: dict[int, Reason]
    between: Distances | None
    n_outside: int | None
    refusal: Reason | None


def _look(space: FeatureSpace, lesions: Sequence[LesionResult]) -> _View:
    used, values, left_out = vectors(space, lesions)
    needed = MIN_PATIENT_MINMAX if space.kind == Scaling.PATIENT_MINMAX else 2
    if len(used) < needed:
        detail = f"found {len(used)} lesion(s) with all features of space {space.name}"
        if left_out:
            first = left_out[min(left_out)]
            detail += f" ({len(left_out)} left out; the first: {first.detail})"
        reason = Reason("too_few_lesions", f"{detail}, wanted at least {needed}")
        return _View(space, lesions, used, left_out, None, None, reason)
    between, outside = distances(space.scaled(values)), space.n_outside(values)
    return _View(space, lesions, used, left_out, between, outside, None)


def _indices(view: _View) -> list[Measure]:
    measures: list[Measure] = []
    for metric in METRICS:
        measure = _index(metric, view)
        measures.append(measure)
        if metric.percentile:
            measures.append(_percentile(metric, measure, view.space))
    return [*measures, _outside(view)]


def _outside(view: _View) -> Measure:
    """How many feature values the space has to extrapolate or clip."""
    space, n, name = view.space, len(view.used), "n_outside_reference"
    reason = view.refusal
    if reason is None and view.n_outside is None:
        reason = Reason("no_reference", f"space {space.name} has no reference lesions")
    value = None if reason or view.n_outside is None else float(view.n_outside)
    return Measure(name, value, "{count}", space.profile, space.name, n, reason)


def _index(metric: Metric, view: _View) -> Measure:
    """One index of one space, or why there is none."""
    space = view.space
    n = len(view.used)

    def null(reason: Reason) -> Measure:
        return Measure(metric.name, None, metric.unit, space.profile, space.name, n, reason)

    if space.kind not in metric.scalings:
        return null(
            Reason(
                "not_defined_in_space",
                f"{metric.name} needs a frozen reference space; {space.name} scales by the "
                "patient's own lesions",
            )
        )
    if view.refusal is not None or view.between is None:
        return null(view.refusal or _too_few(n, 2))
    if metric.distance == "cosine":
        n = int(view.between.directed.sum())
    pairs: FloatArray = metric.pairs(view.between)
    if pairs.size == 0:
        return null(
            Reason("zero_vector", f"{n} of {len(view.used)} lesions have a direction, wanted 2")
        )
    return Measure(metric.name, metric.summarise(pairs), metric.unit, space.profile, space.name, n)


def _percentile(metric: Metric, measure: Measure, space: FeatureSpace) -> Measure:
    """Place of an index among the space's reference cohort, in percent."""
    name = percentile_name(metric)
    place = None if measure.value is None else space.percentile(metric.name, measure.value)
    reason = measure.reason
    if place is None and reason is None:
        reason = Reason("no_reference", f"space {space.name} holds no reference for {metric.name}")
    return Measure(name, place, "%", space.profile, space.name, measure.n_lesions, reason)


def _pairs(view: _View) -> list[Pair]:
    """Every pair i < j, those with a lesion left out or without direction with their reason."""
    row_of = {position: row for row, position in enumerate(view.used)}
    return [
        _pair(view, first, second, row_of)
        for first in range(len(view.lesions))
        for second in range(first + 1, len(view.lesions))
    ]


def _pair(view: _View, first: int, second: int, row_of: dict[int, int]) -> Pair:
    space = view.space
    ends = (view.lesions[first].tracking_uid, view.lesions[second].tracking_uid)
    reason = view.left_out.get(first) or view.left_out.get(second) or view.refusal
    if reason is not None or view.between is None:
        return Pair(space.profile, space.name, *ends, None, None, reason)
    i, j = row_of[first], row_of[second]
    cosine: float | None = float(view.between.cosine[i, j])
    if not (view.between.directed[i] and view.between.directed[j]):
        cosine = None
        reason = Reason("zero_vector", "a lesion lies at the origin of the space: no direction")
    return Pair(
        space.profile, space.name, *ends, cosine, float(view.between.euclidean[i, j]), reason
    )
