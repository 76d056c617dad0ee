"""Extraction profiles: everything that changes a feature's value, in one YAML a profile."""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

PROFILE_FOLDER = Path(__file__).parent / "profiles"


@dataclass(frozen=True, slots=True)
class ExtractionProfile:
    """How features are extracted.

    Attributes
    ----------
    name : str
    description : str
        For people; the only field that does not enter the digest.
    pixel_type : str
        SimpleITK pixel type of the image handed to PyRadiomics when the unit is HU
        (``"int16"``: both published pipelines read CT so). Other units use ``"float32"``.
    image_types : mapping of PyRadiomics image type to its own settings
    feature_classes : mapping of feature class to a list of feature names; empty list: all
    settings : mapping
        PyRadiomics settings (binWidth, resampledPixelSpacing, interpolator, padDistance ...).
    n_features : int
        How many features the profile yields: checked at every extraction.
    selected : tuple of str
        The profile's own short list of features (heterogeneity, headline), in order.
    preprocessing : str
        ``"pyradiomics"``: its own resampling lattice; ``"ibsi"``: centre-aligned grid, linear
        mask cut at 0.5, rounded values, bins counted from the re-segmentation bound.
    perturbation_mm : float
        Radius of the ball that erodes and dilates the mask in robustness analysis, in mm.
    """

    name: str
    description: str
    pixel_type: str
    image_types: dict[str, dict[str, Any]]
    feature_classes: dict[str, list[str]]
    settings: dict[str, Any]
    n_features: int
    selected: tuple[str, ...] = ()
    preprocessing: str = "pyradiomics"
    perturbation_mm: float = 1.0

    def digest(self) -> str:
        """SHA-256 of every field that can change a number."""
        content = asdict(self)
        del content["description"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that ship with the node, sorted."""
    return tuple(sorted(path.stem for path in PROFILE_FOLDER.glob("*.yaml")))


def load_profile(name_or_path: str) -> ExtractionProfile:
    """Load a shipped profile by name, or any profile by the path of its YAML file.

    Raises
    ------
    ValueError
        Unknown name, unknown or missing field; says which.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        if name_or_path not in profile_names():
            raise ValueError(
                f"no profile {name_or_path!r}: shipped are {', '.join(profile_names())}; "
                "a profile of your own is named by the path of its .yaml file"
            )
        path = PROFILE_FOLDER / f"{name_or_path}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict):
        raise ValueError(f"profile {path.name}: found {type(raw).__name__}, wanted a mapping")
    known = {field.name: field for field in fields(ExtractionProfile)}
    required = {name for name, field in known.items() if field.default is MISSING}
    if unknown := set(raw) - set(known):
        raise ValueError(f"profile {path.name}: unknown field {', '.join(sorted(unknown))}")
    if missing := required - set(raw):
        raise ValueError(f"profile {path.name}: missing field {', '.join(sorted(missing))}")
    return ExtractionProfile(**{**raw, "selected": tuple(raw.get("selected", ()))})
