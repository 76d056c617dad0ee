"""A hundred lesions on a large CT cost their boxes, not a hundred volumes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, resource, sys
from pathlib import Path
from mirv.config.settings import Reading
from tests.bench.reading import read_folder
study = read_folder(Path(sys.argv[1]), Reading())
print(json.dumps({
    "shape": study.volume.geometry.shape,
    "lesions": len(study.lesions),
    "voxels": [lesion.mask.n_voxels for lesion in study.lesions],
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""
WRITER = """
import sys
from pathlib import Path
import numpy as np
from mirv.analysis.model import Geometry, Mask
from mirv.dicom_io.standard import codes
from mirv.dicom_io.phantom.writers import DrawnLesion, Identity, write_ct, write_seg
folder = Path(sys.argv[1])
shape = (600, 512, 512)
affine = np.eye(4)
affine[:3, :3] = [[0, 0, 0.8], [0, 0.8, 0], [1.0, 0, 0]]
geometry = Geometry(shape, affine)
plane = np.random.default_rng(1).integers(-1000, 1000, shape[1:]).astype(np.int16)
write_ct(folder / "CT", np.broadcast_to(plane, shape), geometry, Identity())
drawn = []
for n in range(100):
    start = (5 * n, 40 + 4 * (n % 10), 60 + 3 * n)
    mask = Mask.from_box(start, np.ones((6 + n % 20, 24, 30), bool), shape)
    drawn.append(DrawnLesion(f"L{n}", f"L{n}", f"2.25.{n + 1}", codes.LUNG, mask))
write_seg(folder / "SEG.dcm", drawn, geometry, Identity())
"""
ROOT = Path(__file__).parents[3]


def _run(script: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(folder)],
        check=True, capture_output=True, text=True, cwd=ROOT,
    ).stdout  # fmt: skip


@pytest.mark.timeout(600)
def test_a_hundred_lesions_on_600_slices(tmp_path: Path) -> None:
    """512 x 512 x 600, 100 lesions: under 1.5 GB peak (the volume itself is 0.3 GB)."""
    _run(WRITER, tmp_path)
    found = json.loads(_run(SCRIPT, tmp_path))
    assert found["shape"] == [600, 512, 512]
    assert found["voxels"] == [(6 + n % 20) * 24 * 30 for n in range(100)]
    assert found["peak"] < 1.5e9
