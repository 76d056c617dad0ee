"""PyRadiomics feature names as coded concepts: code, unit, and the modifiers that tell them apart.

Codes are those of the Image Biomarker Standardisation Initiative (scheme ``IBSI``, CID 218) where
the value is what IBSI defines; elsewhere, and where PyRadiomics departs from IBSI (kurtosis not
reduced by 3, energy of shifted intensities), the node's own.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from mirv.config.profiles import ExtractionProfile
from mirv.dicom_io.model import Code
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.concepts import own, ucum
from mirv.dicom_io.sr.items import HAS_CONCEPT_MOD, code_item, text_item

_INTENSITY_UNITS = {"HU": "[hnsf'U]", "BQML": "Bq/ml", "GML": "g/ml", "CNTS": "{counts}", "1": "1"}
_MEANINGS = {"[hnsf'U]": "Hounsfield unit", "1": "no units", "mm": "millimeter", "/mm": "per mm"}
_LINEAR = ("original", "wavelet", "log-sigma")  # the filtered image keeps the unit of the image
_AGGREGATIONS = {
    "glcm": concepts.AVERAGED_3D,
    "glrlm": concepts.AVERAGED_3D,
    "glszm": concepts.VOLUME_3D,
    "ngtdm": concepts.VOLUME_3D,
    "gldm": concepts.VOLUME_3D,
}
_SHIFTED = frozenset({"Energy", "TotalEnergy", "RootMeanSquared"})
_HISTOGRAM = frozenset({"Entropy", "Uniformity"})


@dataclass(frozen=True, slots=True)
class _Row:
    code: str
    meaning: str
    unit: str


@dataclass(frozen=True, slots=True)
class FeatureForm:
    """How one feature of one profile is written: concept name, unit, encoded modifiers."""

    name: str
    concept: Code
    unit: Code
    modifiers: bytes


@lru_cache(maxsize=1)
def _table() -> Mapping[tuple[str, str], _Row]:
    source = resources.files("mirv.dicom_io.sr").joinpath("feature_codes.tsv")
    with source.open(encoding="utf-8") as lines:
        return {
            (row["class"], row["feature"]): _Row(row["ibsi"], row["meaning"], row["unit"])
            for row in csv.DictReader(lines, delimiter="\t")
        }


def split_name(name: str) -> tuple[str, str, str]:
    """Split ``wavelet-HLL_glcm_Idm`` in image type, class and feature.

    Parameters
    ----------
    name : str
        As PyRadiomics writes it.

    Returns
    -------
    image type, class, feature : str

    Raises
    ------
    ValueError
        The name has not three parts.
    """
    parts = name.split("_")
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"feature {name!r}: wanted image type, class and feature joined by '_'")
    return parts[0], parts[1], parts[2]


def feature_form(
    name: str, method: Code, profile: ExtractionProfile | None, unit: str
) -> FeatureForm:
    """Everything of a feature but its value.

    Parameters
    ----------
    name : str
        As PyRadiomics writes it.
    method : Code
        The profile, as Measurement Method.
    profile : ExtractionProfile or None
        Says how grey levels were made; None: not stated.
    unit : str
        Of the image (``Volume.unit``).

    Returns
    -------
    FeatureForm

    Raises
    ------
    ValueError
        The name has not three parts.
    """
    image_type, family, feature = split_name(name)
    modifiers = [
        code_item(HAS_CONCEPT_MOD, concepts.MEASUREMENT_METHOD, method),
        text_item(HAS_CONCEPT_MOD, concepts.EQUIVALENT_NAME, name),
        *_filter_modifiers(image_type),
    ]
    if profile is not None and (family in _AGGREGATIONS or feature in _HISTOGRAM):
        discretised = _discretisation(profile, image_type)
        modifiers.append(code_item(HAS_CONCEPT_MOD, concepts.DISCRETISATION, discretised))
    if family in _AGGREGATIONS:
        aggregation = _AGGREGATIONS[family]
        modifiers.append(code_item(HAS_CONCEPT_MOD, concepts.AGGREGATION, aggregation))
    return FeatureForm(
        name, _concept(family, feature, profile), _unit(name, unit), b"".join(modifiers)
    )


def _concept(family: str, feature: str, profile: ExtractionProfile | None) -> Code:
    row = _table().get((family, feature))
    by_ibsi = profile is not None and profile.preprocessing == "ibsi"
    if by_ibsi and (family, feature) == ("firstorder", "Kurtosis"):
        # IBSI's own is in excess of 3, and these profiles state it so.
        return Code("IPH6", "IBSI", "Intensity Kurtosis")
    shifted = profile is not None and bool(profile.settings.get("voxelArrayShift"))
    if row is None:
        return own(f"{family}_{feature}", f"{family} {feature}")
    if not row.code:
        return own(f"{family}_{feature}", row.meaning)
    if shifted and family == "firstorder" and feature in _SHIFTED:
        return own(f"{family}_{feature}", f"{row.meaning}, shifted")
    return Code(row.code, "IBSI", row.meaning)


def _unit(name: str, image_unit: str) -> Code:
    image_type, family, feature = split_name(name)
    row = _table().get((family, feature))
    kind = row.unit if row else "1"
    if kind in {"u", "u2", "u2.mm3"}:
        kind = _intensity_unit(kind, image_type, _INTENSITY_UNITS.get(image_unit, "1"))
    return ucum(kind, _MEANINGS.get(kind))


def _intensity_unit(kind: str, image_type: str, base: str) -> str:
    """UCUM of an intensity, its square, or its square times a volume, in a filtered image."""
    gradient = image_type == "gradient"
    # Square, square root, logarithm and exponential are rescaled to the range of the image: their
    # values are no HU any more.
    if base == "1" or not (gradient or image_type.startswith(_LINEAR)):
        base = "1"
    if base == "1":
        plain = {"u": "1", "u2": "1", "u2.mm3": "mm3"}
        per_mm = {"u": "/mm", "u2": "/mm2", "u2.mm3": "mm"}
        return per_mm[kind] if gradient else plain[kind]
    square = f"{base}2" if "/" not in base else f"({base})2"
    plain = {"u": base, "u2": square, "u2.mm3": f"{square}.mm3"}
    per_mm = {"u": f"{base}/mm", "u2": f"{square}/mm2", "u2.mm3": f"{square}.mm"}
    return per_mm[kind] if gradient else plain[kind]


def _filter_modifiers(image_type: str) -> list[bytes]:
    if image_type == "original":
        return []
    kind, _, parameter = image_type.partition("-")
    if kind == "wavelet":
        value = concepts.WAVELET
    elif kind == "log":
        value = concepts.LAPLACIAN_OF_GAUSSIAN
    else:
        value = own(kind, f"{kind} image")
    modifiers = [code_item(HAS_CONCEPT_MOD, concepts.IMAGE_TYPE, value)]
    if parameter:
        modifiers.append(code_item(HAS_CONCEPT_MOD, concepts.SUBBAND, own(parameter, parameter)))
    return modifiers


def _discretisation(profile: ExtractionProfile, image_type: str) -> Code:
    kind = image_type.partition("-")[0]
    special = {name.lower(): settings for name, settings in profile.image_types.items()}
    settings = {**profile.settings, **(special.get(kind) or {})}
    return concepts.FIXED_BIN_NUMBER if settings.get("binCount") else concepts.FIXED_BIN_SIZE


@lru_cache(maxsize=1)
def _kinds_by_code() -> Mapping[str, str]:
    return {row.code: row.unit for row in _table().values() if row.code}


def known_unit(concept: Code, name: str) -> frozenset[str]:
    """UCUM units that fit a feature's concept; empty where nothing is known.

    Parameters
    ----------
    concept : Code
        Concept name of the measurement.
    name : str
        Its PyRadiomics name where the report states it, else "".
    """
    try:
        _, family, feature = split_name(name)
        kind = _table()[family, feature].unit
    except (ValueError, KeyError):
        if concept.scheme != "IBSI" or concept.value not in _kinds_by_code():
            return frozenset()
        name, kind = "", _kinds_by_code()[concept.value]
    if kind not in {"u", "u2", "u2.mm3"}:
        return frozenset({kind})
    if not name:
        return frozenset()
    return frozenset(_unit(name, unit).value for unit in _INTENSITY_UNITS)
