"""Images for a segmentation that arrived alone: asked of the configured sources, in their order.

What comes passes the same intake as what is sent, so it is durable, checked and indexed; then the
scheduler finds the segmentation's images there.
"""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from analysis.errors import PeerRefused, Transient
from config.settings import Source
from service.listener import STORAGE_CLASSES, TRANSFER_SYNTAXES, file_meta
from service.tls import client_context

Take = Callable[[bytes], object]
_SECONDS = 120.0
_PENDING = (0xFF00, 0xFF01)
# A requestor may propose 128 contexts: images first, uncompressed as well as their own syntax.
_GET_CLASSES = STORAGE_CLASSES[:9]


def fetch_series(source: Source, study_uid: str, series_uid: str, ae_title: str, take: Take) -> int:
    """Fetch a series; how many objects came, 0 when the source does not have it.

    Parameters
    ----------
    study_uid : str
        Of the segmentation: a first guess, images may lie in another study.
    ae_title : str
        Ours: where C-MOVE sends to, and who asks.
    take : callable
        Given each object as a complete file. With C-MOVE the listener takes them.

    Raises
    ------
    Transient
        The source cannot be reached or broke off.
    PeerRefused
        It answered with a failure status.
    """
    if source.method == "dicomweb":
        return _by_dicomweb(source, series_uid, take)
    return _by_dimse(source, study_uid, series_uid, ae_title, take)


# DICOMweb


def _by_dicomweb(source: Source, series_uid: str, take: Take) -> int:
    password = source.password.get_secret_value() if source.password else ""
    with httpx.Client(
        base_url=(source.url or "").rstrip("/"),
        auth=(source.user, password) if source.user else None,
        # Orthanc would otherwise compress every CT, many times slower.
        headers={"Accept-Encoding": "identity"},
        timeout=_SECONDS,
        trust_env=False,
    ) as client:
        try:
            return _ask_dicomweb(client, series_uid, take)
        except httpx.HTTPError as fault:
            raise Transient(f"{source.name}: {type(fault).__name__}") from fault


def _ask_dicomweb(client: httpx.Client, series_uid: str, take: Take) -> int:
    found = client.get(
        "/series",
        params={"SeriesInstanceUID": series_uid},
        headers={"Accept": "application/dicom+json"},
    )
    found.raise_for_status()
    studies = [one["0020000D"]["Value"][0] for one in (found.json() if found.content else [])]
    if not studies:
        return 0
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    answer = client.get(f"/studies/{studies[0]}/series/{series_uid}", headers={"Accept": accept})
    answer.raise_for_status()
    number = 0
    for content in _parts(answer):
        take(content)
        number += 1
    return number


def _parts(answer: httpx.Response) -> Iterator[bytes]:
    """The bodies of a multipart answer (RFC 2046 section 5.1)."""
    kind = answer.headers.get("Content-Type", "")
    boundary = kind.partition("boundary=")[2].partition(";")[0].strip().strip('"')
    if not boundary:
        raise Transient(f"found content type {kind[:80]!r}, wanted multipart/related")
    for part in answer.content.split(b"--" + boundary.encode("ascii", "replace"))[1:]:
        if part.startswith(b"--"):
            return
        content = part.partition(b"\r\n\r\n")[2]
        yield content.removesuffix(b"\r\n")


# DIMSE


def _by_dimse(source: Source, study_uid: str, series_uid: str, ae_title: str, take: Take) -> int:
    getting = source.method == "c-get"
    ae = AE(ae_title)
    ae.connection_timeout = 10
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _SECONDS
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_requested_context(
        StudyRootQueryRetrieveInformationModelGet
        if getting
        else StudyRootQueryRetrieveInformationModelMove
    )
    roles, handlers = [], []
    if getting:
        for sop_class in _GET_CLASSES:
            for syntax in TRANSFER_SYNTAXES[:8]:
                ae.add_requested_context(sop_class, syntax)
            roles.append(build_role(sop_class, scp_role=True))
        handlers.append((evt.EVT_C_STORE, _taking(take)))
    association = ae.associate(
        source.host or "",
        source.port or 0,
        ae_title=source.ae_title or "",
        ext_neg=roles,
        evt_handlers=handlers,
        tls_args=(client_context(source.tls), source.host) if source.tls else None,
    )
    if not association.is_established:
        raise Transient(f"{source.name}: no association")
    try:
        found = _study_of(association, series_uid, study_uid)
        if found is None:
            return 0
        return _retrieve(association, source, found, series_uid, ae_title)
    finally:
        association.release()


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
            return 0xA700
        return 0x0000

    return store


def _study_of(association: Any, series_uid: str, study_uid: str) -> str | None:
    """The study the source has the series in: the segmentation's own, else any."""
    for wanted in (study_uid, ""):
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID, query.SeriesInstanceUID = wanted, series_uid
        answers = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
        for status, identifier in list(answers):
            if status.get("Status") in _PENDING and identifier is not None:
                return str(identifier.StudyInstanceUID)
    return None


def _retrieve(
    association: Any, source: Source, study_uid: str, series_uid: str, ae_title: str
) -> int:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
    if source.method == "c-get":
        answers = association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet)
    else:
        answers = association.send_c_move(
            query, ae_title, StudyRootQueryRetrieveInformationModelMove
        )
    last = Dataset()
    for status, _ in answers:
        last = status
    if "Status" not in last:
        raise Transient(f"{source.name}: broke off")
    if last.Status not in (0x0000, 0xB000):
        raise PeerRefused(last.Status, f"{source.method} from {source.name}")
    return int(last.get("NumberOfCompletedSuboperations") or 0)
