"""What `mirv process` prints of input it refuses: what was found and what was wanted."""

from pathlib import Path

from typer.testing import CliRunner

from mirv.dicom_io.phantom.patient import write_study
from mirv.service.commands.main import app


def test_a_refusal_names_found_and_wanted(tmp_path: Path) -> None:
    small = {"n_lesions": 2, "shape": (16, 64, 64), "spacing": (5.0, 2.4, 2.4)}
    write_study(tmp_path / "in", **small, ct_tags={"PatientSex": "M"})
    words = ["process", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    said = "refused: other_patient: the segmentation refers to the images of another patient: "
    assert said + "found another sex, wanted the patient of image series" in result.stderr
