"""Frozen feature spaces: what makes one arriving patient comparable with a cohort.

Both papers choose and scale features on a cohort. A node that sees one patient at a time has no
heterogeneity value without a space that was fitted before: which features, which centre, which
scale, on whom (SPEC F1, R-MIRV-3). A space is one JSON file; its digest travels with each number.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mirv.analysis.choices import Scaling
from mirv.analysis.errors import Reason
from mirv.analysis.model import FloatArray, LesionResult
from mirv.config.errors import SpaceError
from mirv.config.profiles import ExtractionProfile

FORMAT = "mirv-space/1"
PATIENT_MINMAX = "patient-minmax"
MIN_PATIENT_MINMAX = 5
"""Fewer lesions make min-max within a patient a statement about n, not about lesions (F2)."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSpace:
    """Ordered features with the centre and scale that a cohort gave them.

    Attributes
    ----------
    name : str
    profile : str
        Extraction profile whose features it takes.
    kind : Scaling
        ``zscore``: mean and SD (ddof 0); ``minmax``: minimum and range, clipped to [0, 1];
        ``patient_minmax``: minimum and range of the patient's own lesions (nothing frozen).
    names : tuple of str
    centre, scale : float64 (len(names),)
        In the features' units; empty for ``patient_minmax``.
    low, high : float64 (len(names),) or empty
        Range of each feature over the reference lesions; empty when it is not known.
    fitted_on : mapping
        Provenance: source and its SHA-256, population, counts, reduction.
    reference : mapping of measure to 101 quantiles
        Distribution of each index over the patients of the reference cohort.
    description : str
    """

    name: str
    profile: str
    kind: Scaling
    names: tuple[str, ...]
    centre: FloatArray
    scale: FloatArray
    low: FloatArray = field(default_factory=lambda: np.zeros(0))
    high: FloatArray = field(default_factory=lambda: np.zeros(0))
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        if self.kind not in tuple(Scaling):
            raise SpaceError(
                f"space {self.name}: kind {self.kind!r}, wanted one of {', '.join(Scaling)}"
            )
        if not self.names or len(set(self.names)) != len(self.names):
            raise SpaceError(f"space {self.name}: wanted feature names, each once")
        wanted = 0 if self.kind == Scaling.PATIENT_MINMAX else len(self.names)
        if self.centre.shape != (wanted,) or self.scale.shape != (wanted,):
            raise SpaceError(
                f"space {self.name}: found {self.centre.shape} centres and {self.scale.shape} "
                f"scales, wanted {wanted} of each"
            )
        if len(self.low) != len(self.high) or len(self.low) not in (0, len(self.names)):
            raise SpaceError(f"space {self.name}: wanted a range for every feature or none")
        if not (np.isfinite(self.centre).all() and np.all(self.scale > 0)):
            raise SpaceError(f"space {self.name}: centres must be finite and scales above zero")

    def content(self) -> dict[str, Any]:
        """What its file holds beside the digest: plain JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "description": self.description,
            "profile": self.profile,
            "kind": self.kind,
            "names": list(self.names),
            "centre": [float(value) for value in self.centre],
            "scale": [float(value) for value in self.scale],
            "low": [float(value) for value in self.low],
            "high": [float(value) for value in self.high],
            "fitted_on": dict(self.fitted_on),
            "reference": {name: list(values) for name, values in self.reference.items()},
        }

    @property
    def digest(self) -> str:
        """SHA-256 of everything that can change a number (not the name's prose)."""
        content = self.content()
        del content["description"], content["fitted_on"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def scaled(self, values: FloatArray) -> FloatArray:
        """Scale features; ``minmax`` clips into [0, 1].

        Parameters
        ----------
        values : float64 (n_lesions, len(names))
            Finite, columns in the order of `names`.

        Returns
        -------
        float64 (n_lesions, len(names))
            Without unit, but for a space that does not scale.
        """
        if self.kind == Scaling.PATIENT_MINMAX:
            low, span = values.min(axis=0), np.ptp(values, axis=0)
            # A feature all lesions share says nothing about their differences: it becomes 0.
            own: FloatArray = (values - low) / np.where(span > 0, span, 1.0)
            return own
        result: FloatArray = (values - self.centre) / self.scale
        if self.kind == Scaling.MINMAX:
            np.clip(result, 0.0, 1.0, out=result)
        return result

    def n_outside(self, values: FloatArray) -> int | None:
        """How many feature values lie outside the reference range; None when it is not known.

        There a frozen space extrapolates (``zscore``) or clips (``minmax``).

        Parameters
        ----------
        values : float64 (n_lesions, len(names))
            Not scaled, columns in the order of `names`.
        """
        if len(self.low) == 0:
            return None
        return int(np.count_nonzero((values < self.low) | (values > self.high)))

    def percentile(self, measure: str, value: float) -> float | None:
        """Place of a patient's index among the reference cohort, in percent; None if unknown.

        Linear between the stored quantiles; ties give the middle of their range.
        """
        quantiles = self.reference.get(measure)
        if quantiles is None:
            return None
        levels = np.linspace(0.0, 100.0, len(quantiles))
        points, group = np.unique(np.asarray(quantiles), return_inverse=True)
        middle = np.bincount(group, levels) / np.bincount(group)
        return float(np.interp(value, points, middle, left=0.0, right=100.0))


def patient_minmax(profile: ExtractionProfile) -> FeatureSpace:
    """The space of a profile's own short list, scaled by each patient's own lesions.

    Values in it are not comparable between patients (R-HET-2).
    """
    return FeatureSpace(
        name=PATIENT_MINMAX,
        profile=profile.name,
        kind=Scaling.PATIENT_MINMAX,
        names=profile.selected,
        centre=np.zeros(0),
        scale=np.zeros(0),
        description="Scaled by the patient's own lesions: not comparable between patients.",
    )


def vectors(
    space: FeatureSpace, lesions: Sequence[LesionResult]
) -> tuple[list[int], FloatArray, dict[int, Reason]]:
    """Feature vectors of the lesions that have every feature of the space.

    Parameters
    ----------
    space : FeatureSpace
    lesions : sequence of LesionResult
        Of the space's profile.

    Returns
    -------
    used : list of int
        Positions in `lesions` of the rows.
    values : float64 (len(used), len(space.names))
        Not scaled yet.
    left_out : mapping of position to Reason
    """
    used: list[int] = []
    rows: list[FloatArray] = []
    left_out: dict[int, Reason] = {}
    for position, lesion in enumerate(lesions):
        if lesion.excluded is not None:
            left_out[position] = lesion.excluded
            continue
        place = {name: index for index, name in enumerate(lesion.names)}
        lacking = [
            name
            for name in space.names
            if name not in place or not np.isfinite(lesion.values[place[name]])
        ]
        if lacking:
            left_out[position] = Reason(
                "feature_missing",
                f"lesion {lesion.number} lacks {len(lacking)} of the {len(space.names)} features "
                f"of space {space.name}, first {lacking[0]}",
            )
            continue
        used.append(position)
        rows.append(lesion.values[[place[name] for name in space.names]])
    values = np.array(rows) if rows else np.zeros((0, len(space.names)))
    return used, values, left_out
