"""`mirv process` as a function: what it writes beside tables and DICOM."""

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydantic import ValidationError

from mirv.config.settings import Settings
from mirv.config.settings.processing import Outputs
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.standard.uids import derive_uid
from mirv.service.study.folder import FolderResult, process_folder
from tests.golden.digests import pdf_text


def test_quick_check_images_are_written_where_they_are_set(tmp_path: Path) -> None:
    phantom = write_study(tmp_path / "in", n_lesions=2, shape=(16, 64, 64), spacing=(5.0, 2.4, 2.4))
    out = tmp_path / "out"
    settings = Settings(
        spaces=(),
        profiles=("henry2022",),
        outputs={"extras": (), "quick_check": True, "quick_check_window": (0, 10)},
    )
    outcome = process_folder([tmp_path / "in"], out, settings)
    (folder,) = outcome.pictures
    assert folder.parent == out and folder.name.startswith("quick-check-")
    planes = sum(int(drawn.mask.values.any(axis=(1, 2)).sum()) for drawn in phantom.drawn)
    files = sorted(folder.iterdir())
    assert len(files) == planes
    # So narrow a window leaves black, white and the red edge.
    picture = matplotlib.image.imread(files[0])[..., :3]
    assert np.isin(picture, (0, 1)).mean() > 0.9
    assert {path.name.split("-")[0] for path in outcome.artifacts} == {
        "lesion_sr", "patient_sr", "lesion_seg",
    }  # fmt: skip


@pytest.mark.parametrize("uid", [None, "1.2.840.99"])
def test_every_object_names_the_installation_that_is_set(tmp_path: Path, uid: str | None) -> None:
    """Else the one of the AE title; the same whenever the outputs are made again."""
    write_study(tmp_path / "in", n_lesions=2, shape=(16, 64, 64), spacing=(5.0, 2.4, 2.4))
    settings = Settings(
        spaces=(), profiles=("henry2022",), outputs={"extras": (), "device_uid": uid}
    )
    named = set()
    for out in ("first", "again"):
        outcome = process_folder([tmp_path / "in"], tmp_path / out, settings)
        assert len(outcome.artifacts) == 3
        for path in outcome.artifacts:
            written = pydicom.dcmread(path)
            named.add(written.ContributingEquipmentSequence[1].DeviceUID)
            named |= {
                item.UID
                for item in written.get("ContentSequence", [])
                if item.ConceptNameCodeSequence[0].CodeValue == "121012"
            }
    assert named == {uid or derive_uid("mirv-node", "MIRV")}


@pytest.mark.parametrize("uid", ["", "1", "1.2.", "1.02", "3.1", "1.2\n", "1.2.x", "1." + "2" * 63])
def test_what_is_no_uid_names_no_installation(uid: str) -> None:
    with pytest.raises(ValidationError, match="device_uid"):
        Outputs(device_uid=uid)


SMALL = {"n_lesions": 2, "shape": (16, 64, 64), "spacing": (5.0, 2.4, 2.4)}
SEX_UNKNOWN = {"PatientSex": ""}


def compared(
    folder: Path, tags: list[dict[str, str]], **identity: str
) -> tuple[list[bool], list[list[str]]]:
    """Of one patient's studies, by their images' tags: which are compared, and what is said."""
    uids = []
    for number, of_study in enumerate(tags):
        into = folder / "in" / str(number)
        made = write_study(
            into,
            **SMALL,
            time_point=number,
            patient_name="Doe^J",
            ct_tags={"StudyDate": f"202401{number + 10}", **of_study},
        )
        ds = pydicom.dcmread(made.seg or into)
        for tag in ("PatientSex", "PatientName", "PatientBirthDate"):
            setattr(ds, tag, "")
        ds.save_as(into / "SEG.dcm")
        uids.append(made.identity.study_uid)
    settings = Settings(
        spaces=(), profiles=("henry2022",), outputs={"extras": ()}, identity=identity
    )
    outcome = process_folder([folder / "in"], folder / "out", settings)
    assert outcome.exit_code == 0
    of = {
        record.study_uid: any(one.name == "n_matched" for one in record.result.measures)
        for record in outcome.records
    }
    said = [
        [
            row.found
            for row in outcome.refused
            if row.check.endswith("_person") and row.study_uid == uid
        ]
        for uid in uids
    ]
    return [of[uid] for uid in uids], said


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        ({}, ""),
        (SEX_UNKNOWN, ""),
        ({"PatientName": "Doe^Jane"}, ""),
        ({"PatientSex": "M"}, "sex"),
        ({"PatientBirthDate": "19610101"}, "birth date"),
        ({"IssuerOfPatientID": "ELSEWHERE"}, "Issuer of Patient ID"),
        ({"PatientName": "Schmidt^Bert"}, "name"),
    ],
)
def test_studies_of_two_persons_under_one_patient_id_are_never_compared(
    tmp_path: Path, other: dict[str, str], differing: str
) -> None:
    """Finding H1: the earlier study of another person was taken for the baseline."""
    first = {"PatientSex": "F", "PatientBirthDate": "19500102", "IssuerOfPatientID": "HERE"}
    found = compared(tmp_path, [first, {**first, **other}])
    assert found == (
        [False, not differing],
        [[], [f"another {differing}"] if differing else []],
    )


def test_a_study_that_could_be_of_either_of_two_is_compared_with_neither(tmp_path: Path) -> None:
    tags = [SEX_UNKNOWN, {"PatientSex": "F"}, {"PatientSex": "M"}]
    several = "several persons under one Patient ID"
    found = compared(tmp_path, [{**one, "PatientName": "Anonymous"} for one in tags])
    assert found == ([False] * 3, [[], [several], [several, "another sex"]])


@pytest.mark.parametrize("default", ["HERE", "ELSEWHERE"])
def test_a_patient_id_without_issuer_is_of_the_default_one(tmp_path: Path, default: str) -> None:
    """It tells persons apart as a written one does, and provenance says that it was not written."""
    tags = [{"IssuerOfPatientID": "HERE"}, {}]  # the segmentations carry none
    found = compared(tmp_path, tags, folder_issuer=default)
    same = default == "HERE"
    said = [] if same else ["another Issuer of Patient ID"]
    assert found == ([False, same], [[], said])
    results = json.loads((tmp_path / "out" / "provenance.json").read_text())["results"]
    assert [one.get("default_issuer") for one in results] == [None, default]


# --- a follow-up ----------------------------------------------------------------------------------

_HENRY = Settings(spaces=(), profiles=("henry2022",), outputs={"extras": ("headline_sr",)})


def _follow_up(
    folder: Path, names: tuple[tuple[str, ...], tuple[str, ...]], *, uids: bool, sites: bool = True
) -> FolderResult:
    """Two time points of three lesions, named as given and drawn by their order at each."""
    for time_point, drawn in enumerate(names):
        written = write_study(
            folder / "in" / str(time_point),
            n_lesions=3,
            shape=(16, 64, 64),
            spacing=(5.0, 2.4, 2.4),
            time_point=time_point,
        )
        seg = pydicom.dcmread(written.seg)
        for number, (segment, name) in enumerate(zip(seg.SegmentSequence, drawn, strict=True)):
            segment.SegmentLabel = segment.TrackingID = name
            segment.TrackingUID = f"2.25.{time_point + 1}{number}"
            if not uids:
                del segment.TrackingUID, segment.TrackingID
            if not sites:
                del segment.AnatomicRegionSequence
        seg.save_as(written.seg)
    return process_folder([folder / "in"], folder / "out", _HENRY)


def _changes(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "out" / "changes.csv", dtype=str, keep_default_na=False)


@pytest.mark.parametrize("uids", [True, False])
def test_generic_names_of_two_time_points_match_nothing_and_that_is_said(
    tmp_path: Path, uids: bool
) -> None:
    """Finding X9: a viewer's default names, other tracking UIDs or none, another order."""
    names = ("Segment_1", "Segment_2", "Segment_3"), ("Segment_3", "Segment_1", "Segment_2")
    outcome = _follow_up(tmp_path, names, uids=uids, sites=False)
    assert outcome.exit_code == 0
    _, later = outcome.records
    found = {one.name: one for one in later.result.measures}
    assert (found["n_matched"].value, found["n_unmatched"].value) == (0, 6)
    for name in ("n_vanished", "n_new", "volume_change_range_percent", "tsrc_methods"):
        assert found[name].reason.code == "lesions_not_matched"
    assert found["volume_total_change_percent"].value is not None
    changes = _changes(tmp_path)
    assert set(changes["state"]) == {"unmatched"}
    assert set(changes["change_percent"]) == {""}
    assert changes["reason"].str.startswith("generic_name: ").all()
    (row,) = [row for row in later.quality if row.check == "generic_name"]
    assert row.outcome == "warn"
    assert row.found.startswith("3 of the earlier study, 3 of this one: ")


def test_names_of_their_own_match_where_no_tracking_uid_came(tmp_path: Path) -> None:
    """The node derives UIDs of both studies: they are no evidence, the names are."""
    names = ("Big one", "Second", "Seventh")  # the third: a rib gone, a lesion of the lung new
    outcome = _follow_up(tmp_path, (names, names), uids=False)
    assert set(pd.read_csv(tmp_path / "out" / "lesions.csv")["tracking"]) == {"derived"}
    changes = _changes(tmp_path)[["lesion", "site", "state", "matched_by"]].values.tolist()
    assert changes == [
        ["Big one", "liver", "matched", "name"],
        ["Second", "lung", "matched", "name"],
        ["Seventh", "lung", "new", ""],
        ["Seventh", "bone", "vanished", ""],
    ]
    _, later = outcome.records
    (row,) = [row for row in later.quality if row.check == "comparison"]
    assert row.found == "2 matched by name, 1 new, 1 vanished"


def test_a_comparison_names_the_earlier_study_in_every_output(tmp_path: Path) -> None:
    for time_point in (0, 1):
        write_study(
            tmp_path / "in" / str(time_point),
            n_lesions=2,
            shape=(16, 64, 64),
            spacing=(5.0, 2.4, 2.4),
            time_point=time_point,
        )
    settings = _HENRY.model_copy(update={"outputs": Outputs(extras=("headline_sr", "report_pdf"))})
    outcome = process_folder([tmp_path / "in"], tmp_path / "out", settings)
    first, later = outcome.records
    earlier = later.result.provenance
    assert (earlier.prior_study_uid, earlier.prior_study_date) == (
        first.study_uid,
        first.study_date,
    )
    assert [(one.state, one.matched_by) for one in later.result.changes] == [
        ("matched", "tracking_uid"),
        ("new", ""),
        ("vanished", ""),
    ]
    stated = json.loads((tmp_path / "out" / "provenance.json").read_text())["results"][1]
    assert stated["prior_study_uid"] == first.study_uid
    assert stated["prior_study_date"] == first.study_date
    changes = _changes(tmp_path)
    assert set(changes["previous_study_uid"]) == {first.study_uid}
    assert set(changes["previous_study_date"]) == {first.study_date}
    said = []
    for path in outcome.artifacts:
        ds, content = pydicom.dcmread(path), path.read_bytes()
        if ds.StudyInstanceUID == first.study_uid:
            assert later.study_uid.encode() not in content
        elif ds.Modality == "SR":
            assert first.study_uid.encode() in content
            said.append(ds.SeriesDescription)
        elif "EncapsulatedDocument" in ds:
            pdf = pdf_text(bytes(ds.EncapsulatedDocument))
            assert first.study_uid in pdf
            assert f"{first.study_date[:4]}-{first.study_date[4:6]}-{first.study_date[6:]}" in pdf
            assert pdf.count("by tracking UID") == 2  # in the summary, and at the lesion
            assert " vanished " in pdf
            said.append(ds.SeriesDescription)
    assert len(said) == 4
