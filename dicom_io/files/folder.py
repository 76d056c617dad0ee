"""The headers of everything in folders, and a row for every file that gives none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirv.analysis.errors import Unsuitable
from mirv.config.errors import Unavailable
from mirv.dicom_io.files.header import InstanceHeader, read_header
from mirv.dicom_io.model import QualityOutcome, QualityRow


@dataclass(frozen=True, slots=True)
class FolderHeaders:
    """What was found in folders.

    Attributes
    ----------
    headers : tuple of InstanceHeader
        One an object, by SOP Instance UID.
    paths : mapping of SOP Instance UID to Path
    quality : tuple of QualityRow
        One a file that cannot be read or repeats a UID with other content.
    """

    headers: tuple[InstanceHeader, ...]
    paths: dict[str, Path]
    quality: tuple[QualityRow, ...]


def headers_of_folder(paths: Sequence[Path]) -> FolderHeaders:
    """Read the headers of all files in folders, to the bottom.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders. A DICOMDIR is passed over.

    Returns
    -------
    FolderHeaders

    Raises
    ------
    Unavailable
        A path that is not there.
    """
    headers: dict[str, InstanceHeader] = {}
    where: dict[str, Path] = {}
    quality = []
    for path, name in _files(paths):
        try:
            header = read_header(path)
        except Unsuitable as error:
            if not (path.name.upper() == "DICOMDIR" and error.reason.code == "missing_uid"):
                quality.append(_refused(name, error.reason.code, error.reason.detail))
            continue
        except OSError as error:
            quality.append(_refused(name, "unreadable_file", str(error.strerror or error)))
            continue
        known = headers.get(header.sop_instance_uid)
        if known is None:
            headers[header.sop_instance_uid] = header
            where[header.sop_instance_uid] = path
        elif known.sha256 != header.sha256:
            detail = f"other content under SOP Instance UID {header.sop_instance_uid}; first kept"
            quality.append(_refused(name, "other_content", detail))
    return FolderHeaders(tuple(headers[uid] for uid in sorted(headers)), where, tuple(quality))


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Files and the names to call them by, relative to what the user gave; sorted."""
    for given in paths:
        if given.is_file():
            yield given, given.name
        elif given.is_dir():
            for path in sorted(given.rglob("*")):
                if path.is_file():
                    yield path, str(path.relative_to(given))
        else:
            raise Unavailable(f"no file or folder {given}")


def _refused(name: str, code: str, detail: str) -> QualityRow:
    return QualityRow(check=code, outcome=QualityOutcome.REFUSED, detail=detail, file=name)
