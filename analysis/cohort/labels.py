"""Which of the published cohorts a patient would be in (Henry 2022, Methods; SPEC 1.2).

By the number of lesions: whether all were drawn, and of which primary tumour, a number cannot tell.
"""

from collections.abc import Mapping

L, M_OLIGO, M_MULTI = "L", "M-oligo", "M-multi"
PUBLISHED = (L, M_OLIGO, M_MULTI)
_L_EACH, _L_IN_ALL = 10, 100
_OLIGO, _MULTI = range(2, 6), 15


def taken_into_l(n_lesions: Mapping[str, int]) -> frozenset[str]:
    """The patients of cohort L.

    Parameters
    ----------
    n_lesions : mapping of patient to int
        Lesions of each patient at the one time point that counts.

    Returns
    -------
    frozenset of str
        Those with ten lesions or more, taken consecutively in lexicographic order until they have
        a hundred lesions together (or no patient is left).
    """
    taken: list[str] = []
    collected = 0
    for patient in sorted(n_lesions):
        if n_lesions[patient] >= _L_EACH and collected < _L_IN_ALL:
            taken.append(patient)
            collected += n_lesions[patient]
    return frozenset(taken)


def labels(n_lesions: int, *, in_l: bool) -> tuple[str, ...]:
    """The published cohorts of a patient with so many lesions.

    Parameters
    ----------
    n_lesions : int
    in_l : bool
        Whether `taken_into_l` has the patient.

    Returns
    -------
    tuple of str
        Of `PUBLISHED`: ``M-oligo`` for two to five lesions, ``M-multi`` for fifteen or more.
    """
    fits = (in_l, n_lesions in _OLIGO, n_lesions >= _MULTI)
    return tuple(label for label, there in zip(PUBLISHED, fits, strict=True) if there)
