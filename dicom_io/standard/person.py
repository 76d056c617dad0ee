"""Who an object is of: one identity, one comparison, one key of a person.

PatientID names a person only within its issuer (PS3.3 C.7.1.1). Everything that joins studies,
segmentations, results or rows of one person asks here, so nothing is joined that contradicts.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import combinations

_ALIKE = 0.8
_LONGEST_NAME = 200
_MOST_WORDS, _LONGEST_WORD = 8, 32
"""Of a name that are compared: a sender's long one must not keep the node busy."""
_WORDS = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"[0-9]{8}")
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


def persons(identities: Iterable[Identity]) -> dict[Identity, str]:
    """The key of the person of each identity; one key means one person.

    Identities are joined that are surely of one person. Where joining would bring together two
    that contradict (a third that lacks what tells them apart), none of them is joined.

    Parameters
    ----------
    identities : iterable of Identity
        In any order; the answer depends on the set alone.

    Returns
    -------
    dict of Identity to str
        PatientID, followed by ``~`` and eight hexadecimal digits of what else is known of the
        person. "" for an identity without a PatientID, which joins nothing.
    """
    by_id: dict[str, list[Identity]] = {}
    for identity in sorted(set(identities)):
        by_id.setdefault(identity.patient_id, []).append(identity)
    keys = dict.fromkeys(by_id.pop("", ()), "")
    for alike in by_id.values():
        for group in _surely_same(alike):
            if any(compare(*pair).sameness is Sameness.OTHER for pair in combinations(group, 2)):
                keys.update((one, _key(astuple(one))) for one in group)
            else:
                known = _all_that_is_known(group)
                keys.update((one, known) for one in group)
    return keys


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


def _words_of(identity: Identity) -> list[list[str]]:
    """Words of each component group of the name, folded; none for a name that tells nothing."""
    groups = [_folded(group) for group in identity.name[:_LONGEST_NAME].split("=")]
    said = {word for group in groups for word in group} - _SAYS_NOTHING
    if not said or said <= set(_folded(identity.patient_id)):
        return []
    return groups


def _folded(text: str) -> list[str]:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign))
    for double, single in (("ae", "a"), ("oe", "o"), ("ue", "u")):  # Mueller is Müller
        plain = plain.replace(double, single)
    return [word[:_LONGEST_WORD] for word in _WORDS.findall(plain)[:_MOST_WORDS]]


def _names_contradict(one: Identity, other: Identity) -> bool:
    """True when names of one script are there on both sides and share no word."""
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(_words_of(one), _words_of(other), strict=False)
        if ours and theirs and _script(ours) == _script(theirs)
    ]
    return bool(pairs) and not any(
        SequenceMatcher(None, mine, yours).ratio() >= _ALIKE
        for ours, theirs in pairs
        for mine in ours
        for yours in theirs
    )


def _script(words: list[str]) -> str:
    """Name of the script of the first letter: LATIN, HANGUL, CJK ..."""
    return unicodedata.name(words[0][0], "").partition(" ")[0]


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


def _all_that_is_known(group: list[Identity]) -> str:
    """The key of one person: what any of its identities says, names aside."""
    issuers = [one.issuer.partition("&") for one in group]
    said = (
        group[0].patient_id,
        issuer(*(max(part[index] for part in issuers) for index in (0, 2))),
        max(one.birth_date for one in group),
        max(one.sex for one in group),
    )
    return _key(said)


def _key(said: tuple[str, ...]) -> str:
    if not any(said[1:]):
        return said[0]
    digest = hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{said[0]}~{digest[:8]}"
