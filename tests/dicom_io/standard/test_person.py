"""Who an object is of: compared, and given a key."""

from dataclasses import replace
from difflib import SequenceMatcher
from itertools import combinations, permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirv.dicom_io.standard import person
from mirv.dicom_io.standard.person import (
    MOST_WRITINGS,
    Comparison,
    Identity,
    Sameness,
    birth_date,
    compare,
    issuer,
    persons,
    persons_of_studies,
    together,
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


def test_while_nothing_contradicts_all_under_one_patient_id_are_one_person() -> None:
    alike = (ANNA, replace(ANNA, sex="", name=""), Identity("17"), Identity("17", name="Muller"))
    for order in permutations(alike):
        assert set(persons(order).values()) == {"17"}


def test_one_person_has_one_key_in_any_order() -> None:
    fewer = replace(ANNA, sex="", name="")
    bert = replace(ANNA, birth_date="19610101", sex="M", name="Schmidt^Bert")
    nothing = Identity("17")
    for order in permutations((ANNA, fewer, bert, nothing)):
        keys = persons(order)
        assert keys[ANNA] == keys[fewer]
        assert len({keys[ANNA], keys[bert], keys[nothing], "17"}) == 4
    assert keys[ANNA].startswith("17~")
    assert persons([ANNA, fewer, bert])[ANNA] == keys[ANNA], "one more unknown changes no key"


def test_who_could_be_either_of_two_joins_neither() -> None:
    he = replace(ANNA, sex="M", name="")
    she = replace(ANNA, sex="F", name="")
    either = replace(ANNA, sex="", name="")
    keys = persons((he, she, either))
    assert len(set(keys.values())) == 3
    assert persons((either, he, she)) == keys


def test_who_could_be_either_of_two_does_not_take_the_writings_of_one_apart() -> None:
    he, she = replace(ANNA, sex="M", name=""), replace(ANNA, sex="F")
    either = replace(ANNA, sex="", name="")
    keys = persons((he, she, replace(she, name="Muller"), either))
    assert keys[she] == keys[replace(she, name="Muller")]
    assert len(set(keys.values())) == 3


def test_two_studies_of_whom_nothing_tells_are_two_persons_beside_others() -> None:
    """Each could be of another one of those who share the Patient ID."""
    bert, nothing = replace(ANNA, birth_date="19610101"), Identity("17")
    studies = [("1", ANNA), ("2", ANNA), ("3", bert), ("4", nothing), ("5", nothing)]
    keys = persons_of_studies(studies)
    assert keys["1", ANNA] == keys["2", ANNA]
    assert len(set(keys.values())) == 4
    assert set(persons_of_studies([studies[3], studies[4]]).values()) == {"17"}


def test_persons_that_their_names_alone_tell_apart_have_two_keys() -> None:
    one, other = Identity("17", name="Müller^Anna"), Identity("17", name="Schmidt^Bert")
    assert len(set(persons((one, other)).values())) == 2


def test_no_patient_id_is_the_key_of_a_person_under_another() -> None:
    keys = persons((ANNA, replace(ANNA, sex="M")))
    posing = Identity(keys[ANNA])
    assert persons((posing,))[posing] not in {*keys.values(), keys[ANNA]}


@pytest.mark.parametrize("writings", [MOST_WRITINGS, 100 * MOST_WRITINGS])
def test_a_patient_id_written_in_many_ways_costs_no_more_than_those_that_are_compared(
    monkeypatch: pytest.MonkeyPatch, writings: int
) -> None:
    asked = 0

    def counted(one: Identity, other: Identity) -> Comparison:
        nonlocal asked
        asked += 1
        return compare(one, other)

    monkeypatch.setattr(person, "compare", counted)
    many = [replace(ANNA, issuer=f"I{number}") for number in range(writings - 1)]
    nameless = replace(ANNA, issuer="", name="")
    keys = persons_of_studies((str(n), one) for n in range(2) for one in [*many, nameless])
    assert len(set(keys.values())) == len(many) + 2
    assert keys["0", many[7]] == keys["1", many[7]]
    assert keys["0", nameless] != keys["1", nameless]
    assert asked <= 2 * MOST_WRITINGS**2


_IDENTITIES = st.builds(
    Identity,
    patient_id=st.sampled_from(("", "17", "18")),
    issuer=st.sampled_from(("", "A", "B", "A&1.2", "B&1.2", "&1.3")),
    birth_date=st.sampled_from(("", "19500102", "19610101")),
    sex=st.sampled_from(("", "F", "M")),
    name=st.sampled_from(("", "17", "Müller^Anna", "Mueller^A", "Schmidt^Bert", "王^小东")),
)


@settings(max_examples=300)
@given(
    studies=st.lists(st.tuples(st.sampled_from("12345"), _IDENTITIES), max_size=9),
    random=st.randoms(use_true_random=False),
)
def test_one_key_never_holds_two_that_contradict(
    studies: list[tuple[str, Identity]], random: Random
) -> None:
    keys = persons_of_studies(studies)
    shuffled = studies * 2
    random.shuffle(shuffled)
    assert persons_of_studies(shuffled) == keys
    for (one, its), (other, key) in combinations(keys.items(), 2):
        same_id = one[1].patient_id == other[1].patient_id
        said = compare(one[1], other[1]).sameness
        if its == key != "":
            assert same_id and said is not Sameness.OTHER
        elif same_id and said is Sameness.SAME:
            assert _between_two(one[1], studies) or _between_two(other[1], studies)
    for patient_id in ("17", "18"):
        alike = {one for _, one in studies if one.patient_id == patient_id}
        contradicted = any(compare(*pair).differing for pair in combinations(alike, 2))
        found = {key for (_, one), key in keys.items() if one in alike}
        assert contradicted or found <= {patient_id}
        assert not contradicted or patient_id not in found


def _between_two(identity: Identity, studies: list[tuple[str, Identity]]) -> bool:
    """Compatible with two that contradict each other."""
    fitting = [one for _, one in studies if not compare(identity, one).differing]
    return any(compare(*pair).differing for pair in combinations(fitting, 2))


def test_what_one_person_is_known_by_is_put_together() -> None:
    fewer = replace(ANNA, issuer="HOSP&1.2", birth_date="", name="")
    assert together((fewer, ANNA)) == replace(ANNA, issuer="HOSP&1.2")


def test_without_a_patient_id_nothing_is_joined() -> None:
    nobody = Identity("", "HOSP", "19500102", "F", "Müller^Anna")
    assert persons([nobody, ANNA])[nobody] == ""


def test_of_a_name_without_end_only_the_first_words_count() -> None:
    endless = replace(ANNA, name="Anna " + "x " * 90)
    assert compare(endless, ANNA).sameness is Sameness.SAME
    assert compare(replace(ANNA, name="y " * 90 + "Anna"), ANNA).differing == ("name",)


def test_a_further_name_is_compared_with_the_others_only(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def counting(*words: object) -> SequenceMatcher[str]:
        compared.append(words)
        return SequenceMatcher(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(person, "SequenceMatcher", counting)
    named = [replace(ANNA, name=f"{chr(97 + n) * 5} {chr(107 + n) * 5} q") for n in range(10)]
    persons(named[:-1])
    first = len(compared)
    persons(named)
    assert 0 < len(compared) - first <= 9 * 9 < first
