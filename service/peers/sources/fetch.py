"""Series and single objects of a source, handed on one by one as they come.

For the images of a segmentation that arrived alone what comes passes the same intake as what is
sent, so it is durable, checked and indexed; then the scheduler finds the images there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from pydicom import Dataset
from pynetdicom import evt

from mirv.analysis.errors import PeerRefused, Transient
from mirv.config.settings.network import Source
from mirv.dicom_io.files.part10 import file_meta
from mirv.service.peers import multipart
from mirv.service.peers.association import Proposal, associated
from mirv.service.peers.entity import STORAGE_CLASSES, TRANSFER_SYNTAXES
from mirv.service.peers.sources.query import FIND, GET, MOVE, find_query, studies_with
from mirv.service.peers.statuses import OUT_OF_RESOURCES, PENDING, SUCCESS, WARNING
from mirv.service.peers.web_client import SECONDS, chunks, client

Take = Callable[[bytes], object]
_SERIES_SECONDS = 3600.0
# A requestor may propose 128 contexts: every class we take, uncompressed and in the usual syntaxes.
_GET_SYNTAXES = TRANSFER_SYNTAXES[:8]
_MOVING = Proposal([(FIND, ()), (MOVE, ())], answer_s=SECONDS)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a source has an object, or with "" for it, a series."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str = ""


def fetch_series(
    source: Source,
    study_uid: str,
    series_uid: str,
    ae_title: str,
    take: Take,
    max_object_bytes: int = 4 << 30,
) -> int:
    """Fetch a series; how many objects came, 0 when the source does not have it.

    Parameters
    ----------
    study_uid : str
        Of the segmentation: a first guess, images may lie in another study.
    ae_title : str
        Ours: where C-MOVE sends to, and who asks.
    take : callable
        Given each object as a complete file. With C-MOVE the listener takes them.
    max_object_bytes : int
        What is larger is not taken.

    Raises
    ------
    Transient
        The source cannot be reached or broke off.
    PeerRefused
        It answered with a failure status.
    """
    address = Address(study_uid, series_uid)
    if source.method == "dicomweb":
        return _by_dicomweb(source, address, take, max_object_bytes)
    return _by_dimse(source, address, ae_title, _bounded(take, max_object_bytes))


def fetch_instance(
    source: Source, address: Address, ae_title: str, take: Take, max_object_bytes: int = 4 << 30
) -> int:
    """Fetch one object of a series; raises as `fetch_series`.

    Parameters
    ----------
    source : Source
    address : Address
        Of the object.
    ae_title : str
        Ours.
    take : callable
        Given the object as a complete file.
    max_object_bytes : int
        What is larger is not taken.

    Returns
    -------
    int
        How many objects came: 0 when the source does not have it.
    """
    if source.method == "dicomweb":
        return _by_dicomweb(source, address, take, max_object_bytes)
    return _by_dimse(source, address, ae_title, _bounded(take, max_object_bytes))


def _bounded(take: Take, limit: int) -> Take:
    def take_bounded(content: bytes) -> object:
        if len(content) > limit:
            raise Transient(f"found an object of more than {limit} bytes")
        return take(content)

    return take_bounded


# DICOMweb


def _by_dicomweb(source: Source, address: Address, take: Take, max_object_bytes: int) -> int:
    try:
        studies = studies_with(source, address.series_uid)
        if not studies:
            return 0
        # One series UID in two studies: the one that was asked for is meant.
        study = address.study_uid if address.study_uid in studies else studies[0]
        path = f"/studies/{study}/series/{address.series_uid}"
        if address.sop_instance_uid:
            path += f"/instances/{address.sop_instance_uid}"
        with client(source, source.url or "") as web:
            return _retrieve_parts(web, path, take, max_object_bytes)
    except httpx.HTTPError as fault:
        raise Transient(f"{source.name}: {type(fault).__name__}") from fault
    except Transient as fault:
        raise Transient(f"{source.name}: {fault}") from fault


def _retrieve_parts(web: httpx.Client, path: str, take: Take, max_object_bytes: int) -> int:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    number = 0
    with web.stream("GET", path, headers={"Accept": accept}) as answer:
        answer.raise_for_status()
        boundary = multipart.boundary_of(answer.headers.get("Content-Type", ""))
        come = chunks(answer, _SERIES_SECONDS)
        for content in multipart.bodies(come, boundary, max_object_bytes):
            take(content)
            number += 1
    return number


# DIMSE


def _by_dimse(source: Source, address: Address, ae_title: str, take: Take) -> int:
    proposal = _getting(take) if source.method == "c-get" else _MOVING
    with associated(source, ae_title, proposal) as association:
        found = _study_of(association, address.series_uid, address.study_uid)
        if found is None:
            return 0
        there = Address(found, address.series_uid, address.sop_instance_uid)
        return _retrieve(association, source, there, ae_title)


def _getting(take: Take) -> Proposal:
    offered = [(one, (syntax,)) for one in STORAGE_CLASSES for syntax in _GET_SYNTAXES]
    return Proposal(
        [(FIND, ()), (GET, ()), *offered],
        as_scp=STORAGE_CLASSES,
        handlers=[(evt.EVT_C_STORE, _taking(take))],
        answer_s=SECONDS,
    )


def _taking(take: Take) -> Callable[[evt.Event], int]:
    def store(event: evt.Event) -> int:
        request = event.request
        meta = file_meta(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
        )
        try:
            take(b"".join((meta, request.DataSet.getbuffer())))
        except (OSError, Transient):
            return OUT_OF_RESOURCES
        return SUCCESS

    return store


def _study_of(association: Any, series_uid: str, study_uid: str) -> str | None:
    """The study the source has the series in: the segmentation's own, else any."""
    for wanted in (study_uid, ""):
        query = find_query("SERIES", {"StudyInstanceUID": wanted, "SeriesInstanceUID": series_uid})
        for status, identifier in list(association.send_c_find(query, FIND)):
            if status.get("Status") in PENDING and identifier is not None:
                return str(identifier.StudyInstanceUID)
    return None


def _retrieve(association: Any, source: Source, address: Address, ae_title: str) -> int:
    keys = {"StudyInstanceUID": address.study_uid, "SeriesInstanceUID": address.series_uid}
    if address.sop_instance_uid:
        keys["SOPInstanceUID"] = address.sop_instance_uid
    query = find_query("IMAGE" if address.sop_instance_uid else "SERIES", keys)
    if source.method == "c-get":
        answers = association.send_c_get(query, GET)
    else:
        answers = association.send_c_move(query, ae_title, MOVE)
    last, deadline = Dataset(), time.monotonic() + _SERIES_SECONDS
    for status, _ in answers:
        last = status
        if time.monotonic() > deadline:
            association.abort()
            raise Transient(f"{source.name}: takes more than {_SERIES_SECONDS:.0f} s")
    if "Status" not in last:
        raise Transient(f"{source.name}: broke off")
    if last.Status not in (SUCCESS, WARNING):
        raise PeerRefused(last.Status, f"{source.method} from {source.name}")
    return int(last.get("NumberOfCompletedSuboperations") or 0)
