"""Sites: from codes, else from names; never a guess."""

from pathlib import Path

import pytest

from mirv.config.sites import SITES, SITES_FILE, load_site_rules
from mirv.dicom_io.model import Code
from mirv.dicom_io.study.sites import site_of


@pytest.mark.parametrize(
    ("code", "site"),
    [
        ("10200004", "liver"),
        ("39607008", "lung"),
        ("272673000", "bone"),
        ("59441001", "lymph node"),
        ("3120008", "pleura"),
        ("87784001", "soft tissue"),
        ("23451007", "adrenal"),
        ("15425007", "peritoneum"),
        ("27398004", "peritoneum"),
        ("12738006", "other"),
        ("64033007", "other"),
        ("1", "unknown"),
    ],
)
def test_codes(code: str, site: str) -> None:
    assert site_of((Code(code, "SCT", ""),), ()) == site


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("LIVER-01", "liver"),
        ("liver_met_3", "liver"),
        ("Lung L", "lung"),
        ("LUNG2", "lung"),
        ("RUL nodule", "lung"),
        ("pulmonary lymphangitis", "lymphangitis"),
        ("LN_mediastinal", "lymph node"),
        ("LYMPH-NODE-07", "lymph node"),
        ("left adrenal", "adrenal"),
        ("Pleural met", "pleura"),
        ("omental cake", "peritoneum"),
        ("rib 5", "bone"),
        ("vertebra", "bone"),
        ("Spinal cord", "other"),
        ("psoas muscle", "soft tissue"),
        ("Brain", "other"),
        ("GTV-1", "unknown"),
        ("lesion", "unknown"),
        ("delivery", "unknown"),
        ("tribute", "unknown"),
        ("", "unknown"),
        ("x" * 100_000, "unknown"),
    ],
)
def test_names(name: str, site: str) -> None:
    assert site_of((None,), (name,)) == site


def test_the_code_goes_before_the_name() -> None:
    assert site_of((Code("39607008", "SCT", "Lung"),), ("LIVER-01",)) == "lung"
    assert site_of((Code("1", "SCT", "?"), None), ("LIVER-01",)) == "liver"


def test_every_site_of_the_rules_is_on_the_list() -> None:
    rules = load_site_rules()
    assert {*rules.codes.values(), *(site for site, _ in rules.patterns)} <= set(SITES)


def test_a_site_is_written_with_a_code_that_is_read_as_that_site(tmp_path: Path) -> None:
    rules = load_site_rules()
    assert set(rules.regions) == set(SITES) - {"lymphangitis", "other", "unknown"}
    for site, (value, meaning) in rules.regions.items():
        assert site_of((Code(value, "SCT", meaning),), ()) == site
    wrong = tmp_path / "sites.yaml"
    wrong.write_text(SITES_FILE.read_text().replace('lung: ["39607008"', 'lung: ["10200004"'))
    with pytest.raises(ValueError, match="10200004 of 'lung' is a code of 'liver'"):
        load_site_rules(wrong)
