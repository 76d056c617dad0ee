"""Studies and results to write out: phantoms with every kind of value in them."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import numpy as np
import pydicom

from mirv.analysis.errors import Reason
from mirv.analysis.model import (
    Geometry,
    Lesion,
    LesionChange,
    LesionResult,
    Measure,
    Pair,
    Provenance,
    StudyResult,
    Volume,
)
from mirv.analysis.patient.matching import volume_change
from mirv.analysis.patient.response import response_measures
from mirv.config.profiles import ExtractionProfile, load_profile
from mirv.dicom_io.model import (
    Evidence,
    LesionSource,
    Note,
    QualityOutcome,
    QualityRow,
    RenderContext,
    StudyInput,
)
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.standard import codes
from mirv.dicom_io.study.quality_rows import row_of

CREATED = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
PROFILES = (load_profile("henry2022"), load_profile("mirv2025"))
SPACE = "sarc021-lung-paper"


def feature_names(profile: ExtractionProfile) -> tuple[str, ...]:
    """Names a profile yields, from its own lists and the table of codes."""
    source = resources.files("mirv.dicom_io.sr").joinpath("feature_codes.tsv")
    with source.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    bands = [f"{a}{b}{c}" for a in "LH" for b in "LH" for c in "LH"]
    names = []
    for kind in profile.image_types:
        for image in [f"wavelet-{b}" for b in bands] if kind == "Wavelet" else [kind.lower()]:
            for row in rows:
                wanted = profile.feature_classes.get(row["class"])
                if wanted is None or (row["class"] == "shape" and image != "original"):
                    continue
                if not wanted or row["feature"] in wanted:
                    names.append(f"{image}_{row['class']}_{row['feature']}")
    assert len(names) == profile.n_features
    return tuple(names)


def quality_row(
    check: str, outcome: str, found: str, wanted: str, detail: str, *, lesion: str = ""
) -> QualityRow:
    """A row about segmentation 3 of series 2 of study 1."""
    note = Note(check, QualityOutcome(outcome), found, wanted, detail)
    return row_of(note, "1", "2", object_uid="3", lesion=lesion)


def study_of(phantom: Phantom) -> StudyInput:
    """The phantom as reading would hand it on."""
    images = tuple(pydicom.dcmread(path, stop_before_pixels=True) for path in phantom.ct)
    seg = pydicom.dcmread(phantom.seg, stop_before_pixels=True)
    lesions = tuple(
        Lesion(n, drawn.label, drawn.tracking_id, drawn.tracking_uid, known.site, drawn.mask)
        for n, (drawn, known) in enumerate(zip(phantom.drawn, phantom.lesions, strict=True), 1)
    )
    sources = {
        drawn.tracking_uid: LesionSource(
            str(seg.SOPInstanceUID), known.segment, "MANUAL", "", codes.ABNORMAL,
            codes.METASTASIS, drawn.anatomy, "instances",
        )
        for drawn, known in zip(phantom.drawn, phantom.lesions, strict=True)
    }  # fmt: skip
    quality = (
        quality_row("slice_distance", "ok", "2.5", "even", "40 slices"),
        quality_row("small", "warn", "5", ">= 8", "few", lesion=lesions[0].tracking_uid),
    )
    evidence = Evidence(images, (seg,), tuple((i, None) for i in range(len(images))))
    volume = Volume(phantom.values, phantom.geometry, "HU")
    return StudyInput(volume, lesions, sources, evidence, "a" * 64, quality)


def phantom_study(folder: Path, n_lesions: int = 12, **options: object) -> StudyInput:
    """Write a phantom and read it."""
    return study_of(write_study(folder, n_lesions=n_lesions, **options))


def result_of(
    study: StudyInput,
    profiles: Sequence[ExtractionProfile] = PROFILES,
    seed: int = 0,
    *,
    holes: bool = True,
) -> StudyResult:
    """A result with random values over many magnitudes; with `holes`, missing ones too."""
    rng = np.random.default_rng(seed)
    results = []
    for profile in profiles:
        names = feature_names(profile)
        for lesion in study.lesions:
            results.append(_lesion_result(study, lesion, profile, names, rng, holes))
    pairs = _pairs(study, profiles[-1].name, rng)
    provenance = Provenance(
        study.input_digest,
        {profile.name: profile.digest() for profile in profiles},
        {SPACE: "c" * 64},
        {"mirv-node": "0.1.0", "pyradiomics": "3.1.4"},
    )
    n = len(study.lesions)
    varied = [Measure("cv_mean_percent", n / 3, "%", profile.name, "", n) for profile in profiles]
    measures = (*varied, *_measures(profiles[-1].name, n, pairs))
    return StudyResult(tuple(results), measures, pairs, (), provenance)


def _lesion_result(
    study: StudyInput,
    lesion: Lesion,
    profile: ExtractionProfile,
    names: tuple[str, ...],
    rng: np.random.Generator,
    holes: bool,
) -> LesionResult:
    values = rng.standard_normal(len(names)) * 10.0 ** rng.integers(-9, 12, len(names))
    missing, excluded = {}, None
    if holes and lesion.number == 2:
        values[:] = np.nan
        excluded = Reason("too_small", "found 3 voxels, wanted at least 8")
    elif holes:
        values[3] = np.nan
        missing = {names[3]: Reason("constant_intensity", "one grey level in the lesion")}
    return LesionResult(
        lesion.number, lesion.label, lesion.tracking_id, lesion.tracking_uid, lesion.site,
        lesion.mask.n_voxels * study.volume.geometry.voxel_volume_ml, profile.name, names, values,
        missing, excluded, ("touches the border",) if lesion.number == 1 else (),
    )  # fmt: skip


def _pairs(study: StudyInput, profile: str, rng: np.random.Generator) -> tuple[Pair, ...]:
    uids = [lesion.tracking_uid for lesion in study.lesions]
    return tuple(
        Pair(profile, SPACE, first, second, float(rng.uniform(0, 2)), float(rng.uniform(0, 9)))
        for i, first in enumerate(uids)
        for second in uids[i + 1 :]
    )


def _measures(profile: str, n: int, pairs: tuple[Pair, ...]) -> tuple[Measure, ...]:
    few = Reason("too_few_lesions", f"found {n} lesion(s), wanted at least 2")
    plain = [
        Measure("n_lesions", float(n), "{count}", "", "", n),
        Measure("volume_total_ml", 12.5, "ml", "", "", n),
    ]
    if not pairs:
        return (*plain, Measure("mtd", None, "1", profile, SPACE, n, few))
    return (
        *plain,
        Measure("mtd", max(p.cosine or 0 for p in pairs), "1", profile, SPACE, n),
        Measure("mirv_distance_max", max(p.euclidean or 0 for p in pairs), "1", profile, SPACE, n),
        Measure("ath_pairs", None, "1", profile, SPACE, n, Reason("zero_vector", "no direction")),
    )


def context_of(features: str = "all", **changes: object) -> RenderContext:
    """A context of one run."""
    fields: dict[str, object] = {
        "run_digest": "d" * 64,
        "created": CREATED,
        "software_version": "0.1.0",
        "ae_title": "MIRV",
        "sr_features": features,
        "selected": {profile.name: profile.selected for profile in PROFILES},
        "profiles": PROFILES,
        "extras": ("headline_sr",),  # the PDF takes seconds: its own tests ask for it
    }
    return RenderContext(**{**fields, **changes})


def tilted(study: StudyInput) -> Geometry:
    """The study's grid turned about two axes: nothing stays axial."""
    a, b = np.radians(20), np.radians(-35)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = study.volume.geometry.affine.copy()
    affine[:3] = about_z @ about_x @ affine[:3]
    return Geometry(study.volume.geometry.shape, affine)


EARLIER_STUDY, EARLIER_DATE = f"1.2.{'9' * 60}", "20251230"  # as long as a UID can be


def compared(result: StudyResult) -> StudyResult:
    """The result as a follow-up's, with a lesion of every fate."""
    lesions = {one.tracking_uid: one for one in result.lesions}
    why = Reason("generic_name", "the name 'Segment_1' says nothing of which lesion it is")
    fates: list[LesionChange] = []
    for n, (uid, lesion) in enumerate(lesions.items()):
        kept = (uid, lesion.tracking_id, lesion.site)
        now = lesion.volume_ml
        then, by = now * (n + 1) / 3, ("tracking_uid", "name")[n % 2]
        percent = volume_change(then, now)
        earlier = uid if by == "tracking_uid" else f"1.9.{n}"
        fates.append(
            (
                LesionChange(*kept, "matched", by, then, now, percent, previous_uid=earlier),
                LesionChange(*kept, "new", "", None, now, 100.0),
                LesionChange(*kept, "unmatched", "", None, now, None, why),
            )[(n - 1) % 3 if n > 1 else 0]
        )
    gone = ("1.8.1", "Old one", "lymph node")
    lost = (next(iter(lesions)), "Segment_1", "unknown")  # the UID of a lesion of this study
    unread = Reason("not_all_read", "something drawn in the other study could not be read")
    fates += [
        LesionChange(*gone, "vanished", "", 1 / 3, None, -100.0, previous_uid=gone[0]),
        LesionChange(*lost, "unmatched", "", 0.1, None, None, why, previous_uid=lost[0]),
        LesionChange("1.8.2", "x", "lung", "unknown", "", 7.0, None, None, unread, "1.8.2"),
    ]
    return replace(
        result,
        measures=(*result.measures, *response_measures(fates)),
        changes=tuple(fates),
        provenance=replace(
            result.provenance,
            prior_input_digest="e" * 64,
            prior_study_uid=EARLIER_STUDY,
            prior_study_date=EARLIER_DATE,
        ),
    )
