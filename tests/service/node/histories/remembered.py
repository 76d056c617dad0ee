"""What pure functions made of the same content before, remembered: histories repeat themselves.

Headers and assembled studies depend on the content of the files alone (and on rules that no
history changes), so a thousand histories need not read the same few files anew. Reports are made
for one history in four; a small object stands for them in the others.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mirv.analysis.model import StudyResult
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files import folder as folder_headers
from mirv.dicom_io.files.header import InstanceHeader, read_header
from mirv.dicom_io.model import Artifact, RenderContext, StudyInput
from mirv.dicom_io.phantom.writers import Identity, common
from mirv.dicom_io.standard.identity import MANUFACTURER
from mirv.dicom_io.standard.uids import derive_uid
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import Selection
from mirv.service.objects import intake
from mirv.service.study import pipeline
from mirv.service.work import runs
from tests.service.node.histories.world import as_bytes

SR = "1.2.840.10008.5.1.4.1.1.88.34"


@contextmanager
def remembered(*, whole: bool) -> Iterator[None]:
    """Within, content that was read before is not read anew.

    Parameters
    ----------
    whole : bool
        Real reports, as the node makes them.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (intake, folder_headers):
            patch.setattr(module, "read_header", _header)
        for module in (pipeline, runs):
            patch.setattr(module, "assemble", _assembled)
        if not whole:
            patch.setattr(runs, "render", _small)
        yield


_headers: dict[str, InstanceHeader] = {}
_studies: dict[tuple[Any, ...], StudyInput] = {}


def _header(source: Path | bytes | memoryview, sha256: str = "") -> InstanceHeader:
    content = source.read_bytes() if isinstance(source, Path) else bytes(source)
    key = hashlib.sha256(content).hexdigest()
    if key not in _headers:
        _headers[key] = read_header(content, sha256)
    return _headers[key]


def _assembled(
    selection: Selection, open_object: Callable[[str], Path], reading: Reading
) -> StudyInput:
    opened = tuple(
        hashlib.sha256(open_object(uid).read_bytes()).hexdigest()
        for uid in (*selection.images, *selection.segmentations)
    )
    key = (selection.to_json(), opened)
    if key not in _studies:
        _studies[key] = assemble(selection, open_object, reading)
    return _studies[key]


def _small(study: StudyInput, result: StudyResult, context: RenderContext) -> tuple[Artifact, ...]:
    """One object that names what the reports name."""
    image = study.evidence.images[0]
    ds = common(Identity(), SR, "SR", "small", "small")
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"):
        setattr(ds, keyword, image[keyword].value)
    del ds.FrameOfReferenceUID
    ds.Manufacturer = MANUFACTURER
    ds.SOPInstanceUID = derive_uid("small", context.run_digest)
    ds.SeriesInstanceUID = derive_uid("small series", context.run_digest)
    named = [one.SOPInstanceUID for one in (*study.evidence.images, *study.evidence.segmentations)]
    ds.TextValue = repr([named, result, context.predecessor, context.created])
    return (Artifact("lesion_sr", SR, ds.SOPInstanceUID, ds.SeriesInstanceUID, as_bytes(ds)),)
