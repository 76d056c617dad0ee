"""Which studies under a PatientID are of the listed person."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from mirv.analysis.errors import Reason
from mirv.dicom_io.standard.person import (
    Identity,
    Sameness,
    birth_date,
    compare,
    in_words,
)
from mirv.service.peers.sources.query import FoundStudy

_MOST_IDENTITIES = 50
SEVERAL = Reason(
    "several_persons",
    "studies of this PatientID contradict each other, and the list does not tell which person is "
    "meant: wanted birth_date or issuer there",
)


def of_the_person(
    wanted: Identity, found: Sequence[FoundStudy]
) -> tuple[list[FoundStudy], dict[str, Reason]]:
    """The studies of the listed person, and why others are not.

    Parameters
    ----------
    wanted : Identity
        As the list has it.
    found : sequence of FoundStudy

    Returns
    -------
    kept : list of FoundStudy
        None contradicts the list or another of them.
    refused : dict of Study Instance UID to Reason
    """
    identities = {study.study_uid: _identity(study) for study in found}
    refused: dict[str, Reason] = {}
    sure: set[Identity] = set()
    for uid, identity in identities.items():
        verdict = compare(wanted, identity)
        if identity.patient_id != wanted.patient_id:
            refused[uid] = other_person(("patient_id",))
        elif verdict.sameness is Sameness.OTHER:
            refused[uid] = other_person(verdict.differing)
        elif verdict.sameness is Sameness.SAME:
            sure.add(identity)
    if sure and not are_several(sure):
        # What says too little for the list may still contradict those that are surely meant.
        for uid, identity in identities.items():
            verdicts = (compare(identity, one) for one in sure)
            differing = next((one.differing for one in verdicts if one.differing), ())
            if differing and uid not in refused:
                refused[uid] = other_person(differing)
    left = {uid: one for uid, one in identities.items() if uid not in refused}
    if are_several(left.values()):
        refused |= dict.fromkeys(left, SEVERAL)
    return [study for study in found if study.study_uid not in refused], refused


def are_several(identities: Iterable[Identity]) -> bool:
    """Whether identities contradict each other; more than can be compared are taken to."""
    distinct = sorted(set(identities))
    return len(distinct) > _MOST_IDENTITIES or any(
        compare(*pair).sameness is Sameness.OTHER for pair in combinations(distinct, 2)
    )


def other_person(fields: Iterable[str]) -> Reason:
    """Why something is not of the listed person: fields of `Identity`, never their values."""
    return Reason("other_person", f"found another {in_words(fields)}")


def _identity(study: FoundStudy) -> Identity:
    return Identity(
        study.patient_id.strip(),
        study.issuer.strip(),
        birth_date(study.birth_date),
        study.sex.strip().upper(),
        study.name.strip(),
    )
