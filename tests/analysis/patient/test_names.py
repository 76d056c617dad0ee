"""Which names say which lesion is meant."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.analysis.patient.names import LONGEST_NAME, is_generic, name_key

GENERIC = (
    "Segment_1", "Segment 2", "segmentation", "Lesion", "lesion 3", "GTV", "GTV1", "GTVp", "GTV-n2",
    "ROI-1", "tumor", "Tumour_02", "mask", "mask.nii.gz", "label 1", "12", "#3", "", "  ", "_",
    "Target 1", "TL1", "New lesion 2", "Unnamed segment", "Metastasis 4", "lymph node 2", "LN 3",
    "Läsion 3", "Laesion 3", "Herd 1", "Raumforderung", "Lymphknoten 2", "Lésion cible 1", "Tumeur",
    "Lesión 2", "Nódulo", "Lesione 1", "Metastasi", "Lesão 1", "laesie 2", "förändring 1",
    "Zmiana 2", "węzeł 1", "Tümör 2", "Очаг 1", "ОПУХОЛЬ", "βλάβη 1", "病灶1", "第3病灶",
    "腫瘍２", "セグメント_1", "ｾｸﾞﾒﾝﾄ 2", "병변 1", "آفة 2", "①", "Segment_1_2",
)  # fmt: skip
TELLING = (
    "Liver-1", "LIVER-05", "Lesion left", "Segment VII", "A", "B", "left upper lobe nodule", "twin",
    "左肺病灶1", "Lebermetastase S7", "foie", "Rippe 4 links", "GTV liver", "Para-aortic",
)  # fmt: skip


@pytest.mark.parametrize("name", GENERIC)
def test_a_name_any_lesion_may_bear_is_generic(name: str) -> None:
    assert is_generic(name)


@pytest.mark.parametrize("name", TELLING)
def test_a_name_with_a_word_of_its_own_is_none(name: str) -> None:
    assert not is_generic(name)


@given(
    st.lists(st.sampled_from(GENERIC[:30]), min_size=1, max_size=3),
    st.lists(st.integers(0, 999).map(str), max_size=3),
    st.sampled_from([" ", "_", "-", ".", " / ", "#", "\t"]),
    st.sampled_from([str.upper, str.lower, str.title, str]),
)
def test_numbers_signs_and_case_make_no_name(words, numbers, sign, case) -> None:
    name = case(sign.join([*words, *numbers]))
    assert len(name) > LONGEST_NAME or is_generic(name)


@given(st.text(max_size=300))
def test_any_text_has_one_key_however_it_is_written(name: str) -> None:
    key = name_key(name)
    assert name_key(key) == key
    assert name_key(f"  {name}\n") in {key, ""}
    assert name_key(unicodedata.normalize("NFD", name)) in {key, ""}
    assert is_generic(key) == is_generic(name)


def test_what_is_too_long_to_be_a_name_is_none() -> None:
    assert name_key("x" * LONGEST_NAME)
    assert is_generic("x" * (LONGEST_NAME + 1))
    assert is_generic("liver " * 10**6)
