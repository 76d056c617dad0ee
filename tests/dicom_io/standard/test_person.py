"""Who an object is of: compared, and given a key."""

from dataclasses import replace
from itertools import permutations

import pytest

from mirv.dicom_io.standard.person import (
    Identity,
    Sameness,
    birth_date,
    compare,
    issuer,
    persons,
)

ANNA = Identity("17", "HOSP", "19500102", "F", "Müller^Anna")


@pytest.mark.parametrize(
    ("other", "sameness", "differing"),
    [
        (ANNA, Sameness.SAME, ()),
        (replace(ANNA, patient_id="18"), Sameness.OTHER, ("patient_id",)),
        (replace(ANNA, issuer="ELSEWHERE"), Sameness.OTHER, ("issuer",)),
        (replace(ANNA, birth_date="19500103"), Sameness.OTHER, ("birth_date",)),
        (replace(ANNA, sex="M"), Sameness.OTHER, ("sex",)),
        (replace(ANNA, name="Schmidt^Bert"), Sameness.OTHER, ("name",)),
        (replace(ANNA, name="Mueller^A"), Sameness.SAME, ()),
        (replace(ANNA, name="Schmidt^Anna"), Sameness.SAME, ()),
        (replace(ANNA, name="MUELER"), Sameness.SAME, ()),
        (replace(ANNA, name="Anonymous"), Sameness.SAME, ()),
        (replace(ANNA, name="王^小东"), Sameness.SAME, ()),
        (replace(ANNA, issuer="", birth_date="", sex=""), Sameness.SAME, ()),
        (replace(ANNA, issuer="", birth_date="", name="Muller"), Sameness.UNKNOWN, ()),
        (replace(ANNA, issuer="", birth_date="", name=""), Sameness.UNKNOWN, ()),
        (replace(ANNA, patient_id=""), Sameness.UNKNOWN, ()),
        (replace(ANNA, issuer="HOSP&1.2.3"), Sameness.SAME, ()),
        (replace(ANNA, issuer="&1.2.3", birth_date="", name=""), Sameness.UNKNOWN, ()),
    ],
)
def test_two_identities_are_the_same_another_or_unknown(
    other: Identity, sameness: Sameness, differing: tuple[str, ...]
) -> None:
    for pair in ((ANNA, other), (other, ANNA)):
        found = compare(*pair)
        assert (found.sameness, found.differing) == (sameness, differing)


def test_the_universal_issuer_decides_where_both_have_one() -> None:
    one, other = issuer("A", "1.2.3"), issuer("B", "1.2.3")
    assert compare(replace(ANNA, issuer=one), replace(ANNA, issuer=other)).sameness is Sameness.SAME


def test_a_name_that_is_the_id_or_a_placeholder_tells_nothing() -> None:
    for name in ("", "S 01", "Anonymous^Patient", "unknown"):
        known = Identity("S 01", name=name)
        assert compare(known, known).sameness is Sameness.UNKNOWN, name


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("19500102", "19500102"),
        ("1950.01.02", "19500102"),
        ("1950", ""),
        ("00000000", ""),
        ("", ""),
    ],
)
def test_a_birth_date_is_eight_digits_or_unknown(given: str, read: str) -> None:
    assert birth_date(given) == read


def test_one_person_has_one_key_in_any_order() -> None:
    fewer = replace(ANNA, sex="", name="")
    bert = replace(ANNA, birth_date="19610101", sex="M", name="Schmidt^Bert")
    nothing = Identity("17")
    for order in permutations((ANNA, fewer, bert, nothing)):
        keys = persons(order)
        assert keys[ANNA] == keys[fewer]
        assert len({keys[ANNA], keys[bert], keys[nothing]}) == 3
    assert keys[nothing] == "17"
    assert keys[ANNA].startswith("17~")
    assert persons([ANNA])[ANNA] == keys[ANNA]


def test_who_could_be_either_of_two_joins_neither() -> None:
    he = replace(ANNA, sex="M", name="")
    she = replace(ANNA, sex="F", name="")
    either = replace(ANNA, sex="", name="")
    keys = persons((he, she, either))
    assert len(set(keys.values())) == 3
    assert persons((either, he, she)) == keys


def test_without_a_patient_id_nothing_is_joined() -> None:
    nobody = Identity("", "HOSP", "19500102", "F", "Müller^Anna")
    assert persons([nobody, ANNA])[nobody] == ""


def test_of_a_name_without_end_only_the_first_words_count() -> None:
    endless = replace(ANNA, name="Anna " + "x " * 90)
    assert compare(endless, ANNA).sameness is Sameness.SAME
    assert compare(replace(ANNA, name="y " * 90 + "Anna"), ANNA).differing == ("name",)
