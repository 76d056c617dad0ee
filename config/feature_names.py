"""Which features image types and feature classes yield, without loading PyRadiomics.

Names are PyRadiomics' own, without the ``diagnostics_`` entries:
``<image type>_<feature class>_<feature>``, shape first, then image type by image type.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

from mirv.config.errors import ProfileError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FEATURES: dict[str, tuple[str, ...]] = {
    "shape": _words(
        "Elongation Flatness LeastAxisLength MajorAxisLength Maximum2DDiameterColumn "
        "Maximum2DDiameterRow Maximum2DDiameterSlice Maximum3DDiameter MeshVolume "
        "MinorAxisLength Sphericity SurfaceArea SurfaceVolumeRatio VoxelVolume"
    ),
    "shape2D": _words(
        "Elongation MajorAxisLength MaximumDiameter MeshSurface MinorAxisLength Perimeter "
        "PerimeterSurfaceRatio PixelSurface Sphericity"
    ),
    "firstorder": _words(
        "10Percentile 90Percentile Energy Entropy InterquartileRange Kurtosis Maximum "
        "MeanAbsoluteDeviation Mean Median Minimum Range RobustMeanAbsoluteDeviation "
        "RootMeanSquared Skewness TotalEnergy Uniformity Variance"
    ),
    "glcm": _words(
        "Autocorrelation ClusterProminence ClusterShade ClusterTendency Contrast Correlation "
        "DifferenceAverage DifferenceEntropy DifferenceVariance Id Idm Idmn Idn Imc1 Imc2 "
        "InverseVariance JointAverage JointEnergy JointEntropy MCC MaximumProbability "
        "SumAverage SumEntropy SumSquares"
    ),
    "glrlm": _words(
        "GrayLevelNonUniformity GrayLevelNonUniformityNormalized GrayLevelVariance "
        "HighGrayLevelRunEmphasis LongRunEmphasis LongRunHighGrayLevelEmphasis "
        "LongRunLowGrayLevelEmphasis LowGrayLevelRunEmphasis RunEntropy "
        "RunLengthNonUniformity RunLengthNonUniformityNormalized RunPercentage RunVariance "
        "ShortRunEmphasis ShortRunHighGrayLevelEmphasis ShortRunLowGrayLevelEmphasis"
    ),
    "glszm": _words(
        "GrayLevelNonUniformity GrayLevelNonUniformityNormalized GrayLevelVariance "
        "HighGrayLevelZoneEmphasis LargeAreaEmphasis LargeAreaHighGrayLevelEmphasis "
        "LargeAreaLowGrayLevelEmphasis LowGrayLevelZoneEmphasis SizeZoneNonUniformity "
        "SizeZoneNonUniformityNormalized SmallAreaEmphasis SmallAreaHighGrayLevelEmphasis "
        "SmallAreaLowGrayLevelEmphasis ZoneEntropy ZonePercentage ZoneVariance"
    ),
    "ngtdm": _words("Busyness Coarseness Complexity Contrast Strength"),
    "gldm": _words(
        "DependenceEntropy DependenceNonUniformity DependenceNonUniformityNormalized "
        "DependenceVariance GrayLevelNonUniformity GrayLevelVariance HighGrayLevelEmphasis "
        "LargeDependenceEmphasis LargeDependenceHighGrayLevelEmphasis "
        "LargeDependenceLowGrayLevelEmphasis LowGrayLevelEmphasis SmallDependenceEmphasis "
        "SmallDependenceHighGrayLevelEmphasis SmallDependenceLowGrayLevelEmphasis"
    ),
}
"""Every feature PyRadiomics 3.1.4 computes by default, by class, in its order."""

DEPRECATED: dict[str, tuple[str, ...]] = {
    "shape": ("Compactness1", "Compactness2", "SphericalDisproportion"),
    "shape2D": ("SphericalDisproportion",),
    "firstorder": ("StandardDeviation",),
}
"""Features PyRadiomics computes only when a profile names them."""

PLAIN_IMAGES: dict[str, str] = {
    "Original": "original",
    "Square": "square",
    "SquareRoot": "squareroot",
    "Logarithm": "logarithm",
    "Exponential": "exponential",
    "Gradient": "gradient",
}
"""Image types that yield one image of a fixed name."""


def names_of(
    image_types: Mapping[str, Mapping[str, Any] | None],
    feature_classes: Mapping[str, Sequence[str] | None],
    settings: Mapping[str, Any],
) -> tuple[str, ...]:
    """Name every feature, in PyRadiomics' order.

    Parameters
    ----------
    image_types : mapping of image type to its own settings
    feature_classes : mapping of feature class to features; none: all but deprecated ones
    settings : mapping

    Raises
    ------
    ProfileError
        A feature class, feature or image type that is not supported.
    """
    chosen = {kind: _chosen(kind, names) for kind, names in feature_classes.items()}
    names = [
        f"original_{kind}_{feature}"
        for kind in ("shape", "shape2D")
        for feature in chosen.get(kind, ())
    ]
    textures = [(kind, found) for kind, found in chosen.items() if not kind.startswith("shape")]
    for image_type, own in image_types.items():
        if not isinstance(own, (Mapping, type(None))):
            raise ProfileError(f"image type {image_type}: found {own!r}, wanted its settings")
        for image in _image_names(image_type, {**settings, **(own or {})}):
            names += [f"{image}_{kind}_{feature}" for kind, found in textures for feature in found]
    return tuple(names)


def _chosen(kind: str, names: Sequence[str] | None) -> tuple[str, ...]:
    if kind not in FEATURES:
        raise ProfileError(f"unknown feature class {kind!r}, wanted one of {', '.join(FEATURES)}")
    if not isinstance(names, (list, tuple, type(None))):
        raise ProfileError(f"feature class {kind}: found {names!r}, wanted a list of features")
    known = {*FEATURES[kind], *DEPRECATED.get(kind, ())}
    if unknown := sorted({str(name) for name in names or ()} - known):
        raise ProfileError(f"unknown {kind} feature {', '.join(unknown)}")
    return tuple(dict.fromkeys(names)) if names else FEATURES[kind]


def _image_names(image_type: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    if image_type in PLAIN_IMAGES:
        return (PLAIN_IMAGES[image_type],)
    if image_type == "LoG":
        sigmas = settings.get("sigma", ())
        if not isinstance(sigmas, (list, tuple)):
            raise ProfileError(f"sigma: found {sigmas!r}, wanted a list of numbers")
        return tuple(f"log-sigma-{str(s).replace('.', '-')}-mm-3D" for s in sigmas)
    if image_type == "Wavelet":
        level = settings.get("level", 1)
        if not isinstance(level, int):
            raise ProfileError(f"level: found {level!r}, wanted a whole number")
        return _wavelet_names(2 if settings.get("force2D") else 3, level)
    supported = ", ".join([*PLAIN_IMAGES, "LoG", "Wavelet"])
    raise ProfileError(f"image type {image_type!r} is not supported, wanted one of {supported}")


@cache
def _wavelet_names(dimensions: int, levels: int) -> tuple[str, ...]:
    details = ["".join(p) for p in product("LH", repeat=dimensions)][1:]
    stems = ["wavelet" if level == 1 else f"wavelet{level}" for level in range(1, levels + 1)]
    names = [f"{stem}-{detail}" for stem in stems for detail in details]
    return (*names, f"{stems[-1]}-{'L' * dimensions}")
