"""What a source has of a patient or a study: QIDO-RS or C-FIND, with the same answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydicom import Dataset

from mirv.analysis.errors import PeerRefused, Transient
from mirv.config.settings.network import Source
from mirv.service.peers.association import Proposal, associated
from mirv.service.peers.statuses import PENDING, SUCCESS
from mirv.service.peers.web_client import SECONDS, client, first_value, objects

# Study Root Query/Retrieve Information Model (PS3.4 section C.6.2).
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
_MOST = 1000
_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientBirthDate": "00100030",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "StudyDescription": "00081030",
    "Modality": "00080060",
    "SeriesDescription": "0008103E",
}
_OF_STUDY = (
    "StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate",
    "StudyTime", "StudyDescription",
)  # fmt: skip
_OF_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription")


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study as a source describes it; "" for what it does not say."""

    study_uid: str
    patient_id: str
    issuer: str
    birth_date: str
    study_date: str
    study_time: str
    description: str


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series as a source describes it."""

    study_uid: str
    series_uid: str
    modality: str
    description: str


def studies_of(
    source: Source, patient_id: str, first: str, last: str, ae_title: str
) -> list[FoundStudy]:
    """A patient's studies of these dates (YYYYMMDD, both included).

    Parameters
    ----------
    patient_id : str
        Without wildcards: the caller sees to that.

    Raises
    ------
    Transient
        The source cannot be reached or broke off.
    PeerRefused
        It answered with a failure status.
    """
    query = {"PatientID": patient_id, "StudyDate": f"{first}-{last}"}
    found = _find(source, "STUDY", query, _OF_STUDY, ae_title)
    return [FoundStudy(*(one[name] for name in _OF_STUDY)) for one in found]


def series_of(source: Source, study_uid: str, ae_title: str) -> list[FoundSeries]:
    """The series of a study; raises as `studies_of`.

    Parameters
    ----------
    source : Source
    study_uid : str
    ae_title : str
        The node's own.

    Returns
    -------
    list of FoundSeries
    """
    found = _find(source, "SERIES", {"StudyInstanceUID": study_uid}, _OF_SERIES, ae_title)
    return [
        FoundSeries(one["StudyInstanceUID"] or study_uid, *(one[name] for name in _OF_SERIES[1:]))
        for one in found
    ]


def studies_with(source: Source, series_uid: str) -> list[str]:
    """Studies a DICOMweb source has a series in; raises as `studies_of`.

    Parameters
    ----------
    source : Source
        One that is asked by DICOMweb.
    series_uid : str

    Returns
    -------
    list of str
        Study Instance UIDs.
    """
    with client(source, source.url or "") as web:
        answers = _ask(web, "/series", {"SeriesInstanceUID": series_uid})
    return [uid for one in answers if (uid := _text(one, _TAGS["StudyInstanceUID"]))]


def _find(
    source: Source, level: str, query: Mapping[str, str], attributes: Sequence[str], ae_title: str
) -> list[dict[str, str]]:
    if source.method == "dicomweb":
        return _by_qido(source, level, query, attributes)
    proposal = Proposal([(FIND, ())], answer_s=SECONDS)
    with associated(source, ae_title, proposal) as association:
        return _by_c_find(association, source, level, query, attributes)


# QIDO-RS


def _by_qido(
    source: Source, level: str, query: Mapping[str, str], attributes: Sequence[str]
) -> list[dict[str, str]]:
    params = dict(query)
    path = "/studies"
    if level == "SERIES":
        path = f"/studies/{params.pop('StudyInstanceUID')}/series"
    included = ",".join(_TAGS[name] for name in attributes)
    with client(source, source.url or "") as web:
        answers = _ask(web, path, {**params, "includefield": included})
    return [{name: _text(one, _TAGS[name]) for name in attributes} for one in answers]


def _ask(web: httpx.Client, path: str, params: Mapping[str, str]) -> list[Any]:
    headers = {"Accept": "application/dicom+json"}
    try:
        with web.stream("GET", path, params=dict(params), headers=headers) as answer:
            answer.raise_for_status()
            return objects(answer)[:_MOST]
    except httpx.HTTPError as fault:
        raise Transient(f"query: {type(fault).__name__}") from fault


def _text(found: Any, tag: str) -> str:
    value = first_value(found, tag)
    return "" if value is None else str(value)


# C-FIND


def _by_c_find(
    association: Any,
    source: Source,
    level: str,
    query: Mapping[str, str],
    attributes: Sequence[str],
) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    last = Dataset()
    for status, identifier in association.send_c_find(find_query(level, query, attributes), FIND):
        last = status
        if status.get("Status") in PENDING and identifier is not None and len(found) < _MOST:
            found.append({name: _said(identifier, name) for name in attributes})
    if "Status" not in last:
        raise Transient(f"{source.name}: broke off")
    if last.Status != SUCCESS:
        raise PeerRefused(last.Status, f"C-FIND at {source.name}")
    return found


def find_query(level: str, query: Mapping[str, str], attributes: Sequence[str] = ()) -> Dataset:
    """Identifier of a C-FIND: what is asked for, and what is wanted of the answers.

    Parameters
    ----------
    level : str
        ``STUDY`` or ``SERIES``.
    query : mapping
        Keyword to value: what must match.
    attributes : sequence of str
        Keywords of what the answers shall say.

    Returns
    -------
    Dataset
    """
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for name in attributes:
        setattr(ds, name, "")
    for name, value in query.items():
        setattr(ds, name, value)
    return ds


def _said(identifier: Dataset, name: str) -> str:
    value = identifier.get(name)
    return "" if value is None else str(value)
