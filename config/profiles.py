"""Extraction profiles: everything that changes a feature's value, in one YAML a profile."""

import hashlib
import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mirv.config.errors import ProfileError, read_given
from mirv.config.feature_names import FEATURES, names_of

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
    ProfileError
        Unknown name, unknown or missing field; says which.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        if name_or_path not in profile_names():
            raise ProfileError(
                f"no profile {name_or_path!r}: shipped are {', '.join(profile_names())}; "
                "a profile of your own is named by the path of its .yaml file"
            )
        path = PROFILE_FOLDER / f"{name_or_path}.yaml"
    return _checked(_read(path, f"profile {path.name}"), path.name)


def _read(path: Path, what: str) -> Any:
    text = read_given(path, what, ProfileError)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError(f"{what}: not YAML: {error}") from error


def dump_profile(profile: ExtractionProfile) -> str:
    """A profile as YAML text that `load_profile` reads back.

    Parameters
    ----------
    profile : ExtractionProfile

    Returns
    -------
    str
    """
    content = {**asdict(profile), "selected": list(profile.selected)}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _checked(raw: Any, where: str) -> ExtractionProfile:
    if not isinstance(raw, dict):
        raise ProfileError(f"profile {where}: found {type(raw).__name__}, wanted a mapping")
    known = {field.name: field for field in fields(ExtractionProfile)}
    required = {name for name, field in known.items() if field.default is MISSING}
    if unknown := set(raw) - set(known):
        raise ProfileError(f"profile {where}: unknown field {', '.join(sorted(map(str, unknown)))}")
    if missing := required - set(raw):
        raise ProfileError(f"profile {where}: missing field {', '.join(sorted(missing))}")
    for name, wanted in SHAPES.items():
        if name in raw and not isinstance(raw[name], wanted):
            raise ProfileError(
                f"profile {where}: {name}: found {raw[name]!r}, wanted a {wanted.__name__}"
            )
    if not NAME.fullmatch(raw["name"]):
        raise ProfileError(
            f"profile {where}: name: found {raw['name']!r}, wanted 1 to 64 letters, digits, _ or -"
        )
    for name, allowed in CHOICES.items():
        if name in raw and raw[name] not in allowed:
            raise ProfileError(
                f"profile {where}: {name}: found {raw[name]!r}, wanted one of {', '.join(allowed)}"
            )
    return ExtractionProfile(
        **{
            **raw,
            "image_types": {kind: own or {} for kind, own in raw["image_types"].items()},
            "feature_classes": {kind: own or [] for kind, own in raw["feature_classes"].items()},
            "selected": tuple(raw.get("selected") or ()),
        }
    )


NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
SHAPES: dict[str, type] = {
    "name": str,
    "description": str,
    "image_types": dict,
    "feature_classes": dict,
    "settings": dict,
    "n_features": int,
}
CHOICES = {
    "pixel_type": ("int16", "float32", "float64"),
    "preprocessing": ("pyradiomics", "ibsi"),
}


INTERPOLATORS = (
    "sitkNearestNeighbor",
    "sitkLinear",
    "sitkBSpline",
    "sitkGaussian",
    "sitkLabelGaussian",
    "sitkHammingWindowedSinc",
    "sitkCosineWindowedSinc",
    "sitkWelchWindowedSinc",
    "sitkLanczosWindowedSinc",
    "sitkBlackmanWindowedSinc",
)
"""SimpleITK's interpolators; in a parameter file number n stands for the n-th."""

DEFAULTS: dict[str, Any] = {
    "interpolator": "sitkBSpline",
    "padDistance": 5,
    "minimumROIDimensions": 2,
    "distances": [1],
    "force2D": False,
    "force2Ddimension": 0,
    "voxelArrayShift": 0,
    "symmetricalGLCM": True,
    "gldm_a": 0,
}
"""What PyRadiomics assumes when a parameter file is silent: a profile says it."""

WITHOUT_EFFECT = frozenset(
    {"label", "label_channel", "additionalInfo", "geometryTolerance", "correctMask"}
)
"""Settings about handing images over, which the node does itself."""

KNOWN_SETTINGS = frozenset(DEFAULTS) | {
    *("binWidth", "binCount", "normalize", "normalizeScale", "removeOutliers", "preCrop"),
    *("resampledPixelSpacing", "resegmentRange", "resegmentMode", "resegmentShape"),
    *("minimumROISize", "sigma", "start_level", "level", "wavelet", "gradientUseSpacing"),
    "weightingNorm",
}


def import_parameter_file(path: Path, name: str, *, pixel_type: str = "int16") -> ExtractionProfile:
    """Take in a PyRadiomics parameter file (YAML or JSON) as a profile.

    Parameters
    ----------
    path : Path
    name : str
        The new profile's name.
    pixel_type : str
        Of CT images; parameter files are silent about it, and it changes most values.

    Returns
    -------
    ExtractionProfile
        With PyRadiomics' defaults written out. `dump_profile` makes a file of it.

    Raises
    ------
    ProfileError
        Not a parameter file, or it asks for something the node does not do; says what.
    """
    raw = _read(path, path.name)
    if not isinstance(raw, dict):
        raise ProfileError(f"{path.name}: found {type(raw).__name__}, wanted a mapping")
    sections = {"setting", "imageType", "featureClass"}
    if unknown := set(raw) - sections:
        raise ProfileError(
            f"{path.name}: cannot take in section {', '.join(sorted(map(str, unknown)))}, "
            f"wanted only {', '.join(sorted(sections))}"
        )
    for section in sections - {"setting"}:
        if not isinstance(raw.get(section) or {}, dict):
            found = type(raw[section]).__name__
            raise ProfileError(f"{path.name}: {section}: found {found}, wanted a mapping")
    image_types = {
        kind: _settings(own, f"{path.name}: imageType {kind}")
        for kind, own in (raw.get("imageType") or {"Original": {}}).items()
    }
    settings = {**DEFAULTS, **_settings(raw.get("setting"), f"{path.name}: setting")}
    if "binCount" not in settings:
        settings.setdefault("binWidth", 25)
    classes = raw.get("featureClass") or {kind: [] for kind in FEATURES if kind != "shape2D"}
    try:
        names = names_of(image_types, classes, settings)
    except ProfileError as error:
        raise ProfileError(f"{path.name}: {error}") from error
    return _checked(
        {
            "name": name,
            "description": f"Taken in from the PyRadiomics parameter file {path.name}.",
            "pixel_type": pixel_type,
            "image_types": image_types,
            "feature_classes": {kind: list(own or []) for kind, own in classes.items()},
            "settings": settings,
            "n_features": len(names),
        },
        path.name,
    )


def _settings(raw: Any, where: str) -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ProfileError(f"{where}: found {type(raw).__name__}, wanted a mapping")
    if unknown := set(raw) - KNOWN_SETTINGS - WITHOUT_EFFECT:
        raise ProfileError(f"{where}: unknown setting {', '.join(sorted(map(str, unknown)))}")
    kept = {
        key: value for key, value in raw.items() if value is not None and key not in WITHOUT_EFFECT
    }
    how = kept.get("interpolator")
    if isinstance(how, int) and 1 <= how <= len(INTERPOLATORS):
        kept["interpolator"] = INTERPOLATORS[how - 1]
    elif how is not None and how not in INTERPOLATORS:
        raise ProfileError(f"{where}: interpolator: found {how!r}, wanted a name of SimpleITK's")
    if "interpolator" in raw and how is None:
        kept.pop("resampledPixelSpacing", None)  # PyRadiomics does not resample without one
    return kept
