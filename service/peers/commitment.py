"""Storage commitment (PS3.4 annex J): its data sets, in both directions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydicom import Dataset

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST = 1  # action type
ALL_COMMITTED, SOME_FAILED = 1, 2  # event types


@dataclass(frozen=True, slots=True)
class Reference:
    """An object by class and instance."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a peer commits to.

    Attributes
    ----------
    transaction_uid : str
    committed : frozenset of SOP Instance UID
    failed : mapping of SOP Instance UID to failure reason
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: dict[str, int]


def _no_matter(*_told: object) -> None:
    """Of one who is not told."""


@dataclass(frozen=True, slots=True)
class CommitmentCalls:
    """Who is told of storage commitment messages, before they are acknowledged.

    Attributes
    ----------
    report : callable
        Told a report about what the node has sent.
    request : callable
        Told (calling AE title, event type, event information): what to answer to a peer that asks
        the node to commit itself.
    """

    report: Callable[[Report], None] = _no_matter
    request: Callable[[str, int, Dataset], None] = _no_matter


def request(transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    """Action information of a request."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [_reference(one) for one in references]
    return ds


def read_request(ds: Dataset) -> tuple[str, tuple[Reference, ...]]:
    """Transaction UID and objects of a request; what is missing is "" and ().

    Parameters
    ----------
    ds : Dataset
        Action information, as a peer sent it.

    Returns
    -------
    transaction_uid : str
    references : tuple of Reference
    """
    references = tuple(
        Reference(
            str(one.get("ReferencedSOPClassUID", "")), str(one.get("ReferencedSOPInstanceUID", ""))
        )
        for one in ds.get("ReferencedSOPSequence") or ()
    )
    return str(ds.get("TransactionUID", "")), references


def answer(
    transaction_uid: str, committed: Iterable[Reference], failed: Iterable[tuple[Reference, int]]
) -> tuple[int, Dataset]:
    """Event type and event information of a report.

    Parameters
    ----------
    transaction_uid : str
    committed : iterable of Reference
    failed : iterable of (Reference, int)
        With the Failure Reason of each (PS3.4 section J.3.3).

    Returns
    -------
    event_type : int
    information : Dataset
    """
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    if kept := [_reference(one) for one in committed]:
        ds.ReferencedSOPSequence = kept
    refused = []
    for one, reason in failed:
        failure = _reference(one)
        failure.FailureReason = reason
        refused.append(failure)
    if refused:
        ds.FailedSOPSequence = refused
    return (SOME_FAILED if refused else ALL_COMMITTED), ds


def read_report(ds: Dataset) -> Report:
    """What a report says."""
    return Report(
        transaction_uid=str(ds.get("TransactionUID", "")),
        committed=frozenset(
            str(one.get("ReferencedSOPInstanceUID", ""))
            for one in ds.get("ReferencedSOPSequence") or ()
        ),
        failed={
            str(one.get("ReferencedSOPInstanceUID", "")): int(one.get("FailureReason") or 0)
            for one in ds.get("FailedSOPSequence") or ()
        },
    )


def _reference(one: Reference) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID = one.sop_class_uid
    ds.ReferencedSOPInstanceUID = one.sop_instance_uid
    return ds
