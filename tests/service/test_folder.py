"""`mirv process` as a function: what it writes beside tables and DICOM."""

from pathlib import Path

import matplotlib.image
import numpy as np

from config.settings import Settings
from dicom_io.phantom import write_study
from service.folder import process_folder


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
