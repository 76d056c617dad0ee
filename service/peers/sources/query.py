"""What a source has of a patient or a study: QIDO-RS or C-FIND, with the same answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydicom import Dataset

from mirv.analysis.errors import PeerRefused, Transient, Unsuitable
from mirv.config.settings.network import Source
from mirv.dicom_io.files.values import PARSE_FAULTS
from mirv.service.peers.association import Proposal, associated
from mirv.service.peers.statuses import PENDING, SUCCESS
from mirv.service.peers.web_client import SECONDS, client, first_value, objects

# Study Root Query/Retrieve Information Model (PS3.4 section C.6.2).
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
_MOST = 1000
_MOST_INSTANCES = 20_000
# Of all answers to one query together: each by itself may take `SECONDS`.
_QUERY_SECONDS = 600.0
WILDCARDS = frozenset("*?\\")
"""What makes a query match more than one value."""
_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "PatientName": "00100010",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientBirthDate": "00100030",
    "PatientSex": "00100040",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "StudyDescription": "00081030",
    "Modality": "00080060",
    "SeriesDescription": "0008103E",
    "BodyPartExamined": "00180015",
    "ProtocolName": "00181030",
}
_OF_STUDY = (
    "StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyDate",
    "StudyTime", "StudyDescription", "PatientSex", "PatientName",
)  # fmt: skip
_OF_SERIES = (
    "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription", "BodyPartExamined",
    "ProtocolName",
)  # fmt: skip
_OF_INSTANCE = ("SOPInstanceUID", "SOPClassUID")


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
    sex: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series as a source describes it."""

    study_uid: str
    series_uid: str
    modality: str
    description: str
    body_part: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An object as a source describes it."""

    sop_instance_uid: str
    sop_class_uid: str


def studies_of(
    source: Source, patient_id: str, first: str, last: str, ae_title: str
) -> list[FoundStudy]:
    """A patient's studies of these dates (YYYYMMDD, both included).

    Parameters
    ----------
    patient_id : str
        Without wildcards: the caller sees to that.
    first, last : str
        Both "": of any date.

    Raises
    ------
    Transient
        The source cannot be reached, broke off or takes too long.
    PeerRefused
        It answered with a failure status.
    Unsuitable
        ``too_many_answers``
    """
    query = {"PatientID": patient_id}
    if first or last:
        query["StudyDate"] = f"{first}-{last}"
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


def instances_of(
    source: Source, study_uid: str, series_uid: str, ae_title: str
) -> list[FoundInstance]:
    """The objects of a series; raises as `studies_of`.

    Parameters
    ----------
    source : Source
    study_uid, series_uid : str
    ae_title : str
        The node's own.

    Returns
    -------
    list of FoundInstance
    """
    query = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    found = _find(source, "IMAGE", query, _OF_INSTANCE, ae_title)
    return [FoundInstance(*(one[name] for name in _OF_INSTANCE)) for one in found]


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
    if level in ("SERIES", "IMAGE"):
        path += f"/{params.pop('StudyInstanceUID')}/series"
    if level == "IMAGE":
        path += f"/{params.pop('SeriesInstanceUID')}/instances"
    included = ",".join(_TAGS[name] for name in attributes)
    with client(source, source.url or "") as web:
        answers = _ask(web, path, {**params, "includefield": included}, _most(level))
    return [{name: _text(one, _TAGS[name]) for name in attributes} for one in answers]


def _most(level: str) -> int:
    return _MOST_INSTANCES if level == "IMAGE" else _MOST


def _too_many(most: int) -> Unsuitable:
    return Unsuitable("too_many_answers", f"found more than {most} answers to one query")


def _ask(web: httpx.Client, path: str, params: Mapping[str, str], most: int = _MOST) -> list[Any]:
    headers = {"Accept": "application/dicom+json"}
    try:
        with web.stream("GET", path, params=dict(params), headers=headers) as answer:
            answer.raise_for_status()
            found = objects(answer)
    except httpx.HTTPError as fault:
        raise Transient(f"query: {type(fault).__name__}") from fault
    if len(found) > most:
        raise _too_many(most)
    return found


def _text(found: Any, tag: str) -> str:
    value = first_value(found, tag)
    if isinstance(value, dict):  # a person's name, in up to three scripts (PS3.18 F.2.2)
        groups = (value.get(one) for one in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(str(one or "") for one in groups).rstrip("=")
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
    last, deadline = Dataset(), time.monotonic() + _QUERY_SECONDS
    for status, identifier in association.send_c_find(find_query(level, query, attributes), FIND):
        last = status
        if status.get("Status") in PENDING and identifier is not None:
            found.append({name: _said(identifier, name) for name in attributes})
        if len(found) > _most(level):
            association.abort()
            raise _too_many(_most(level))
        if time.monotonic() > deadline:
            association.abort()
            raise Transient(f"{source.name}: takes more than {_QUERY_SECONDS:.0f} s to answer")
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
        ``STUDY``, ``SERIES`` or ``IMAGE``.
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
    if not all(value.isascii() for value in query.values()):
        ds.SpecificCharacterSet = "ISO_IR 192"
    for name in attributes:
        setattr(ds, name, "")
    for name, value in query.items():
        setattr(ds, name, value)
    return ds


def _said(identifier: Dataset, name: str) -> str:
    try:
        value = identifier.get(name)
        return "" if value is None else str(value)
    except PARSE_FAULTS:  # a value that cannot be decoded says nothing
        return ""
