"""IBSI-1: the digital phantom and configurations A to E against the consensus values.

Values and tolerances: ``ibsi_1_reference_values.csv`` (found equal in MIRP's tables and in the
IBSI reference manual); which PyRadiomics feature is which: ``pyradiomics_ibsi_codes.tsv``.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody uses

from mirv.analysis.extraction.pool import Extractor
from mirv.analysis.model import Geometry, Lesion, Mask, Volume
from mirv.config.profiles import ExtractionProfile, load_profile

pytestmark = pytest.mark.shared

FAMILIES = {
    "shape": "morphology",
    "glcm": "glcm",
    "glrlm": "glrlm",
    "glszm": "glszm",
    "ngtdm": "ngtdm",
    "gldm": "ngldm",
}
DISCRETISED = {"Entropy", "Uniformity"}  # of the histogram, in IBSI's words
ALIASES = {"5QRC": "9SAK"}  # small zone emphasis: the reference table holds its family's code


@dataclass(frozen=True)
class Row:
    """One feature of one configuration beside its consensus value."""

    feature: str
    found: float
    wanted: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Within tolerance, widened by half a unit of the last digit the reference states."""
        digits = np.floor(np.log10(abs(self.wanted))) if self.wanted else 0.0
        return abs(self.found - self.wanted) <= self.tolerance + 0.5 * 10.0 ** (digits - 2)


def read(folder: Path) -> tuple[Volume, Lesion]:
    """Image and mask of a phantom from its NIfTI files."""
    image = sitk.ReadImage(str(next(folder.glob("image/*.nii.gz"))))
    drawn = sitk.ReadImage(str(next(folder.glob("mask/*.nii.gz"))))
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = (directions * np.array(image.GetSpacing()))[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    values = sitk.GetArrayFromImage(image).astype(float)
    mask = Mask.from_full(sitk.GetArrayFromImage(drawn) > 0)
    volume = Volume(values, Geometry(values.shape, affine), "HU")
    return volume, Lesion(1, "GTV", "", "2.25.1", "lung", mask)


def suffixes(kind: str, flat: bool) -> tuple[str, ...]:
    """How IBSI's tags end for the way PyRadiomics joins matrices."""
    space = "2_5D" if flat else "3D"
    if kind in {"glcm", "glrlm"}:
        return (f"_{space}_avg",)
    return (f"_{space}",) if kind in {"glszm", "ngtdm", "gldm"} else ("",)


def compare(
    shared: Path, configuration: str, profile: ExtractionProfile, pool: Extractor
) -> list[Row]:
    """Every coded PyRadiomics feature beside IBSI's value for one configuration."""
    digital = configuration == "digital_phantom"
    folder = "ibsi1_digital_phantom/nifti" if digital else "ibsi1_ct_phantom/nifti"
    volume, lesion = read(shared / folder)
    (result,) = pool.extract(volume, [lesion], [profile])
    assert result.excluded is None, result.excluded
    values = dict(zip(result.names, result.values, strict=True))
    with (shared / "ibsi_1_reference_values.csv").open() as lines:
        known = [r for r in csv.DictReader(lines) if r["config"] == configuration]
    with (shared / "pyradiomics_ibsi_codes.tsv").open() as lines:
        codes = list(csv.DictReader(lines, delimiter="\t"))
    rows = []
    for code in codes:
        kind, feature = code["class"], code["feature"]
        family = FAMILIES.get(kind) or (
            "intensity_histogram" if feature in DISCRETISED else "intensity_statistics"
        )
        ends = suffixes(kind, bool(profile.settings.get("force2D")))
        for r in known:
            if (
                code["ibsi"]
                and r["ibsi_code"] == ALIASES.get(code["ibsi"], code["ibsi"])
                and r["feature_family"] == family
                and r["feature_tag"].endswith(ends)
            ):
                name = f"original_{kind}_{feature}"
                rows.append(
                    Row(f"{kind}_{feature}", values[name], float(r["value"]), float(r["tolerance"]))
                )
    return rows


@pytest.fixture(scope="module")
def pool() -> Iterator[Extractor]:
    with Extractor(1) as extractor:
        yield extractor


DIGITAL = replace(
    load_profile("ibsi-c"),
    name="digital",
    settings={"binWidth": 1, "binFrom": 1},
)
CONFIGURATIONS = {
    "digital_phantom": DIGITAL,
    **{letter.upper(): load_profile(f"ibsi-{letter}") for letter in "abcde"},
}


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_coded_feature_agrees_with_the_consensus(
    shared: Path, pool: Extractor, configuration: str
) -> None:
    """102 of 102: every PyRadiomics feature that IBSI has, within its tolerance."""
    rows = compare(shared, configuration, CONFIGURATIONS[configuration], pool)
    assert [row for row in rows if not row.agrees] == []
    assert len(rows) == 102


def test_pyradiomics_own_preprocessing_would_not_agree(shared: Path, pool: Extractor) -> None:
    """The comparison can fail: configuration C on PyRadiomics' own lattice and masks."""
    own = replace(CONFIGURATIONS["C"], preprocessing="pyradiomics")
    rows = compare(shared, "C", own, pool)
    assert sum(not row.agrees for row in rows) > 10


def deviations(shared: Path, pool: Extractor) -> str:
    """A Markdown table: relative deviation from the consensus, feature by configuration."""
    columns = {
        name: {row.feature: row for row in compare(shared, name, profile, pool)}
        for name, profile in CONFIGURATIONS.items()
    }
    lines = [
        "| feature | " + " | ".join(name.replace("_", " ") for name in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for feature in columns["C"]:
        cells = [_cell(column.get(feature)) for column in columns.values()]
        lines.append(f"| {feature.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.wanted == 0.0:
        return f"{row.found:.1g} (0)"
    return f"{100 * (row.found - row.wanted) / abs(row.wanted):+.2f} %"


def test_documented_table_covers_every_feature_and_configuration() -> None:
    """`docs/ibsi.md` is written by ``python -m tests.analysis.features.ibsi_table``."""
    text = (Path(__file__).parents[3] / "docs" / "ibsi.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "%" in line]
    assert len(rows) == 102
    assert all(line.count("|") == 2 + len(CONFIGURATIONS) for line in rows)
