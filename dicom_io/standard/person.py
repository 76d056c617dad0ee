"""Who an object is of: one identity, one comparison, one key of a person.

PatientID names a person only within its issuer (PS3.3 C.7.1.1). Everything that joins studies,
segmentations, results or rows of one person asks here, so nothing is joined that contradicts.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from functools import lru_cache
from itertools import combinations

MOST_WRITINGS = 64
"""Of one PatientID that are compared with each other; of more, only equal ones are joined."""
_ALIKE = 0.8
_LONGEST_NAME = 200
_MOST_GROUPS, _MOST_WORDS, _LONGEST_WORD = 3, 8, 32
"""Of a name that are compared: a sender's long one must not keep the node busy."""
_LOOKS_LIKE_A_KEY = re.compile(r"~[0-9a-f]{16}\Z")
_WORDS = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"[0-9]{8}")
_Said = tuple[str, ...]
_SAYS_NOTHING = frozenset(
    {
        "anon",
        "anonym",
        "anonymised",
        "anonymized",
        "anonymous",
        "deidentified",
        "name",
        "no",
        "none",
        "noname",
        "patient",
        "removed",
        "unknown",
        "xxx",
    }
)


SEVERAL_PATIENTS = "several_patients"
"""The check that refuses a series that is of no one person."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What an object says of its patient; "" for what it does not say.

    Attributes
    ----------
    patient_id : str
    issuer : str
        Issuer of Patient ID, ``&`` and the universal entity ID of its qualifiers, where there is
        one.
    birth_date : str
        YYYYMMDD.
    sex : str
        ``M``, ``F``, ``O`` or another code as it came.
    name : str
        Patient's Name as it came.
    """

    patient_id: str = ""
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    name: str = ""


NOBODY = Identity()
"""Says nothing of its patient."""

_IN_WORDS = {
    "patient_id": "Patient ID",
    "issuer": "Issuer of Patient ID",
    "birth_date": "birth date",
    "sex": "sex",
    "name": "name",
}


def in_words(fields: Iterable[str]) -> str:
    """Fields of `Identity` as people call them, joined by "and"; never their values."""
    return " and ".join(_IN_WORDS[field] for field in fields)


class Sameness(StrEnum):
    """Whether two identities are of one person."""

    SAME = "same"  # the same PatientID, something that tells agrees, and nothing contradicts
    OTHER = "other"  # something contradicts
    UNKNOWN = "unknown"  # nothing contradicts, and nothing tells


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two identities say of each other.

    Attributes
    ----------
    sameness : Sameness
    differing : tuple of str
        Fields of `Identity` that contradict, in their order.
    """

    sameness: Sameness
    differing: tuple[str, ...] = ()


def birth_date(text: str) -> str:
    """A Patient's Birth Date as YYYYMMDD; "" when it is none (the old form with points is read)."""
    plain = text.strip().replace(".", "")
    return plain if _DIGITS.fullmatch(plain) and plain.strip("0") else ""


def issuer(local: str, universal: str = "") -> str:
    """The text of an issuer: its local name, and its universal entity ID where there is one."""
    local, universal = local.strip(), universal.strip()
    return f"{local}&{universal}" if universal else local


def compare(one: Identity, other: Identity) -> Comparison:
    """Whether two identities are of one person.

    Parameters
    ----------
    one, other : Identity

    Returns
    -------
    Comparison
        ``OTHER`` when PatientID, issuer, birth date or sex are known on both sides and differ, or
        when the names have no word alike. ``SAME`` needs an equal PatientID and one of issuer,
        birth date or whole name known and equal on both sides. Else ``UNKNOWN``.
    """
    differing = []
    if one.patient_id and other.patient_id and one.patient_id != other.patient_id:
        differing.append("patient_id")
    if _issuers_differ(one.issuer, other.issuer):
        differing.append("issuer")
    for field in ("birth_date", "sex"):
        ours, theirs = getattr(one, field), getattr(other, field)
        if ours and theirs and ours != theirs:
            differing.append(field)
    if _names_contradict(one, other):
        differing.append("name")
    if differing:
        return Comparison(Sameness.OTHER, tuple(differing))
    if one.patient_id and one.patient_id == other.patient_id and _something_tells(one, other):
        return Comparison(Sameness.SAME)
    return Comparison(Sameness.UNKNOWN)


def together(identities: Iterable[Identity]) -> Identity:
    """All that identities of one person say between them.

    Parameters
    ----------
    identities : iterable of Identity
        At least one, of which no two contradict.

    Returns
    -------
    Identity
    """
    found = list(identities)
    local, universal = (max(one.issuer.partition("&")[part] for one in found) for part in (0, 2))
    return Identity(
        max(one.patient_id for one in found),
        issuer(local, universal),
        max(one.birth_date for one in found),
        max(one.sex for one in found),
        max(one.name for one in found),
    )


def persons(identities: Iterable[Identity]) -> dict[Identity, str]:
    """The key of the person of each identity; as `persons_of_studies`, for one study.

    Parameters
    ----------
    identities : iterable of Identity
        In any order; the answer depends on the set alone.

    Returns
    -------
    dict of Identity to str
    """
    found = persons_of_studies(("", identity) for identity in identities)
    return {identity: key for (_, identity), key in found.items()}


def persons_of_studies(found: Iterable[tuple[str, Identity]]) -> dict[tuple[str, Identity], str]:
    """The key of the person of each study; one key means one person.

    Under one PatientID, when no two identities contradict, all are one person. Where two
    contradict, those are joined that are surely the same. One that is compatible with two that
    contradict each other could be of either, and one that nothing tells of could be of a third:
    each of its studies is a person of its own. The time this takes grows with the identities,
    and for one PatientID with the square of `MOST_WRITINGS` at most: of one that is written in
    more ways, only equal writings with birth date and name are joined.

    Parameters
    ----------
    found : iterable of (Study Instance UID, Identity)
        In any order, and repeated at will; the answer depends on the set alone.

    Returns
    -------
    dict of (Study Instance UID, Identity) to str
        The PatientID itself where all under it are one person. Else it is followed by ``~`` and 16
        hexadecimal digits of what else is known of the person. "" without a PatientID, which joins
        nothing.
    """
    studies = set(found)
    by_id: dict[str, set[Identity]] = {}
    for _, identity in studies:
        by_id.setdefault(identity.patient_id, set()).add(identity)
    known_by = {
        identity: said
        for patient_id, alike in by_id.items()
        if patient_id
        for identity, said in _told_apart(frozenset(alike)).items()
    }
    return {one: _key(*one, known_by.get(one[1])) for one in studies}


def _issuers_differ(one: str, other: str) -> bool:
    ours, theirs = one.partition("&"), other.partition("&")
    if ours[2] and theirs[2]:
        return ours[2] != theirs[2]
    return bool(ours[0] and theirs[0] and ours[0] != theirs[0])


def _something_tells(one: Identity, other: Identity) -> bool:
    ours, theirs = one.issuer.partition("&"), other.issuer.partition("&")
    issued = any(ours[part] and ours[part] == theirs[part] for part in (0, 2))
    born = bool(one.birth_date and one.birth_date == other.birth_date)
    named = bool((words := _words_of(one)) and words == _words_of(other))
    return issued or born or named


def _words_of(identity: Identity) -> tuple[tuple[str, ...], ...]:
    """Words of each component group of the name, folded; none for a name that tells nothing."""
    return _words(identity.name, identity.patient_id)


@lru_cache(4096)
def _words(name: str, patient_id: str) -> tuple[tuple[str, ...], ...]:
    groups = tuple(_folded(group) for group in name[:_LONGEST_NAME].split("=")[:_MOST_GROUPS])
    said = {word for group in groups for word in group} - _SAYS_NOTHING
    return () if not said or said <= set(_folded(patient_id)) else groups


def _folded(text: str) -> tuple[str, ...]:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    for double, single in (("ae", "a"), ("oe", "o"), ("ue", "u")):  # Mueller is Müller
        plain = plain.replace(double, single)
    return tuple(word[:_LONGEST_WORD] for word in _WORDS.findall(plain)[:_MOST_WORDS])


def _names_contradict(one: Identity, other: Identity) -> bool:
    """True when names of one script are there on both sides and share no word."""
    return _no_word_alike(_words_of(one), _words_of(other))


@lru_cache(1 << 14)  # a further identity is compared with all before it, not all anew
def _no_word_alike(one: tuple[_Said, ...], other: tuple[_Said, ...]) -> bool:
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(one, other, strict=False)
        if ours and theirs and _script(ours) == _script(theirs)
    ]
    return bool(pairs) and not any(
        _alike(mine, yours) for ours, theirs in pairs for mine in ours for yours in theirs
    )


def _alike(mine: str, yours: str) -> bool:
    matcher = SequenceMatcher(None, mine, yours)
    bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)  # the quicker first
    return all(bound() >= _ALIKE for bound in bounds)


def _script(words: Sequence[str]) -> str:
    """Name of the script of the first letter: LATIN, HANGUL, CJK ..."""
    return unicodedata.name(words[0][0], "").partition(" ")[0]


@lru_cache(64)
def _told_apart(identities: frozenset[Identity]) -> dict[Identity, _Said | None]:
    """What tells the person of each identity from the others under one PatientID.

    () where all are one person; None for an identity that joins no other study.
    """
    alike: dict[tuple[object, ...], list[Identity]] = {}
    for identity in sorted(identities):
        writing = (identity.issuer, identity.birth_date, identity.sex, _words_of(identity))
        alike.setdefault(writing, []).append(identity)
    writings = [group[0] for group in alike.values()]  # those alike compare alike
    if len(writings) > MOST_WRITINGS:
        told = [_in_full(one) for one in writings]
    else:
        told = _by_contradiction(writings)
    each = zip(alike.values(), told, strict=True)
    return {identity: said for group, said in each for identity in group}


def _in_full(one: Identity) -> _Said | None:
    words = _words_of(one)
    if not (one.birth_date and words):
        return None
    return ("writing", one.issuer, one.birth_date, one.sex, json.dumps(words))


def _by_contradiction(writings: list[Identity]) -> list[_Said | None]:
    """What tells each of different writings from the others.

    Of those that stand between no two, what contradicts one contradicts all it is the same with,
    so no chain of joins ever brings together two that contradict.
    """
    others: list[set[int]] = [set() for _ in writings]
    for one, two in combinations(range(len(writings)), 2):
        if compare(writings[one], writings[two]).sameness is Sameness.OTHER:
            others[one].add(two)
            others[two].add(one)
    if not any(others):
        return [()] * len(writings)
    everyone = set(range(len(writings)))
    sure = [
        index
        for index, one in enumerate(writings)
        if compare(one, one).sameness is Sameness.SAME
        and not any(others[two] - others[index] for two in everyone - others[index])
    ]
    told: list[_Said | None] = [None] * len(writings)
    groups = _surely_same([writings[index] for index in sure])
    known = [_known(group) for group in groups]
    twice = Counter(known)
    for group, said in zip(groups, known, strict=True):
        if twice[said] > 1:  # the names alone tell them apart
            said = (*said, *sorted(json.dumps(_words_of(one)) for one in group))
        for writing in group:
            told[writings.index(writing)] = said
    return told


def _surely_same(identities: list[Identity]) -> list[list[Identity]]:
    """Connected groups of identities that are pairwise linked as the same."""
    groups: list[list[Identity]] = []
    for identity in identities:
        linked = [
            group
            for group in groups
            if any(compare(identity, one).sameness is Sameness.SAME for one in group)
        ]
        groups = [group for group in groups if group not in linked]
        groups.append([*(one for group in linked for one in group), identity])
    return groups


def _known(group: Sequence[Identity]) -> _Said:
    """What is known of one person, names aside: those are written in many ways."""
    one = together(group)
    return ("person", one.issuer, one.birth_date, one.sex)


def _key(study: str, identity: Identity, said: _Said | None) -> str:
    patient_id = identity.patient_id
    if not patient_id or (said == () and not _LOOKS_LIKE_A_KEY.search(patient_id)):
        return patient_id
    if said is None:
        said = ("alone", study, *astuple(identity))
    return f"{patient_id}~{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]}"
