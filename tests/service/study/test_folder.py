"""`mirv process` as a function: what it writes beside tables and DICOM."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pydicom
import pytest
from pydantic import ValidationError

from mirv.config.settings import Settings
from mirv.config.settings.processing import Outputs
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.standard.uids import derive_uid
from mirv.service.study.folder import process_folder


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


@pytest.mark.parametrize("sex", ["F", "M"])
def test_studies_of_two_persons_under_one_patient_id_are_never_compared(
    tmp_path: Path, sex: str
) -> None:
    """Finding H1: the earlier study of another person was taken for the baseline."""
    small = {"n_lesions": 2, "shape": (16, 64, 64), "spacing": (5.0, 2.4, 2.4)}
    write_study(tmp_path / "in" / "1", **small, patient_name="Doe^J", ct_tags={"PatientSex": "F"})
    later = write_study(
        tmp_path / "in" / "2",
        **small,
        time_point=1,
        patient_name="Doe^J",
        ct_tags={"PatientSex": sex},
    )
    for path in (tmp_path / "in").glob("*/SEG.dcm"):
        ds = pydicom.dcmread(path)
        ds.PatientSex = ""
        ds.save_as(path)
    settings = Settings(spaces=(), profiles=("henry2022",), outputs={"extras": ()})
    outcome = process_folder([tmp_path / "in"], tmp_path / "out", settings)
    compared = [
        any(one.name == "n_matched" for one in record.result.measures) for record in outcome.records
    ]
    said = [(row.study_uid, row.found) for row in outcome.refused if row.check == "other_person"]
    same = sex == "F"
    assert compared == [False, same]
    assert said == ([] if same else [(later.identity.study_uid, "another sex")])
    assert outcome.exit_code == 0
