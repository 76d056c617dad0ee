"""The cases of the golden test, how one is run, and on what kind of machine."""

import hashlib
import json
import os
import platform
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from mirv.config.settings import Settings
from mirv.config.settings.processing import Outputs
from mirv.service.study.folder import FolderResult, process_folder
from mirv.service.study.plan import SOFTWARE_VERSION
from tests.golden.digests import Parts, hexes, of_files

CREATED = datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)
"""Date and time of all outputs."""
ALL_OUTPUTS = Outputs(
    sr_features="original",
    extras=("headline_sr", "report_pdf", "report_sc", "derived_measurements"),
    segmentation="LABELMAP",
    quick_check=True,
)
_LIBRARIES = (
    "numpy", "scipy", "SimpleITK", "PyWavelets", "pyradiomics-bhklab", "pydicom", "highdicom",
    "matplotlib", "pillow",
)  # fmt: skip
IBSI = ("ibsi-a", "ibsi-b", "ibsi-c", "ibsi-d")
LEVELS = ("exact", "rounded", "structure")


@dataclass(frozen=True)
class Case:
    """What goes in, below the shared data, and under which settings."""

    places: tuple[str, ...]
    profiles: tuple[str, ...] = ()
    outputs: Outputs = field(default_factory=Outputs)


CASES = {
    "ml12-all-outputs": Case(
        ("multilesion/ML12/baseline/CT", "multilesion/ML12/baseline/RTSTRUCT_lesions.dcm"),
        outputs=ALL_OUTPUTS,
    ),
    # Its first run is that of the baseline alone.
    "ml12-followup": Case(("multilesion/ML12/baseline", "multilesion/ML12/followup")),
    "ml40": Case(("multilesion/ML40/baseline",)),
    "sts-002": Case(("sts/STS_002",)),
    "ibsi-phantom": Case(("ibsi1_ct_phantom/dicom",), (*IBSI, "henry2022", "mirv2025")),
}


def steady_environment() -> dict[str, str]:
    """Environment of a process in which any x86-64-v3 machine computes the same last bits.

    The libraries choose their code by the processor: what only some machines have is left out.
    """
    newest = [name for name in __cpu_dispatch__ if name.startswith("AVX512") or name == "X86_V4"]
    return {
        **os.environ,
        "OPENBLAS_CORETYPE": "Haswell",
        "OPENBLAS_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": " ".join(newest),
    }


def fingerprint() -> dict[str, Any]:
    """What the last bits depend on: code chosen by the processor, and the libraries."""
    features = sorted(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    return {
        "machine": platform.machine(),
        "numpy uses": features,
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", ""),
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", ""),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        **{name: version(name) for name in _LIBRARIES},
    }


def measure(case: Case, shared: Path, out: Path) -> dict[str, Any]:
    """Run a case and digest all it wrote.

    Returns
    -------
    dict
        ``platform``, ``version``, ``runs`` (how their identities begin), ``names`` (of parts, by
        the digest of their list) and ``files``: of each the bytes' SHA-256 and a row of digests
        for every level.
    """
    settings = Settings(folder=out / "unused", outputs=case.outputs)
    places = [shared / place for place in case.places]
    outcome = process_folder(places, out, settings, case.profiles, created=CREATED)
    if outcome.faults:
        raise RuntimeError(f"{outcome.faults} selections failed by a bug")
    runs = _runs(outcome)
    artifacts = {_name(path, runs): path for path in outcome.artifacts}
    others = {_name(path, runs): path for path in (*outcome.tables, *outcome.pictures)}
    names: dict[str, list[str]] = {}
    files = {
        name: _kept(sha256, parts, names)
        for name, (sha256, parts) in of_files(artifacts, others).items()
    }
    return {
        "platform": fingerprint(),
        "version": SOFTWARE_VERSION,
        "runs": runs,
        "names": names,
        "files": files,
    }


def _runs(outcome: FolderResult) -> list[str]:
    return list(dict.fromkeys(path.stem.rpartition("-")[2] for path in outcome.artifacts))


def _name(path: Path, runs: Sequence[str]) -> str:
    """A file's name with the number of its run instead of the identity."""
    stem, _, run = path.stem.rpartition("-")
    return f"{stem}-{runs.index(run) + 1}{path.suffix}" if run in runs else path.name


def _kept(sha256: str, parts: Parts, names: dict[str, list[str]]) -> dict[str, str]:
    listed = list(parts)
    key = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]
    names[key] = listed
    return {"bytes": sha256, "names": key, **{level: hexes(parts, level) for level in LEVELS}}
