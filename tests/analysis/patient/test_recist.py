"""SPEC R-REC-1: RECIST 1.1 thresholds."""

import pytest

from mirv.analysis.patient.recist import outcome, response
from mirv.analysis.patient.target_lesions import Measured


@pytest.mark.parametrize(
    ("sums", "extra", "wanted"),
    [
        ((100, 100, 70), {}, "PR"),
        ((100, 100, 70.1), {}, "SD"),
        ((100, 50, 60), {}, "PD"),
        ((100, 50, 59.9), {}, "PR"),
        ((20, 20, 24), {}, "SD"),  # 20 % but only 4 mm
        ((100, 100, 119), {}, "SD"),
        ((100, 0, 6), {}, "PD"),
        ((100, 0, 0), {"all_gone": True}, "CR"),
        ((100, 80, 50), {"new_lesions": True}, "PD"),
        ((100, 80, float("nan")), {}, "NE"),
        ((0, 0, 10), {}, "NE"),
    ],
)
def test_response_by_its_thresholds(sums, extra, wanted):
    """Eisenhauer 2009: -30 % of baseline; +20 % and 5 mm above nadir."""
    assert response(*sums, **extra) == wanted


def test_outcome_follows_the_targets_of_the_baseline():
    """Targets 40 + 30 (two a lung) and a node of 16 mm: 86; later 20 + gone + 9: 29."""
    baseline = [
        Measured("lung", 1, 40.0),
        Measured("lung", 1, 30.0),
        Measured("lung", 1, 25.0),
        Measured("lymph node", 1, 30.0, 16.0),
    ]
    current = [Measured("lung", 1, 20.0), None, None, Measured("lymph node", 1, 12.0, 9.0)]
    found = outcome(baseline, current, new_lesions=False)
    assert (found.n_targets, found.baseline_mm, found.current_mm) == (3, 86, 29)
    assert found.change_percent == pytest.approx(-66.279, abs=1e-3)
    assert found.response == "PR"
    assert outcome(baseline, current, new_lesions=True).response == "PD"
    gone = [None, None, None, Measured("lymph node", 1, 12.0, 9.0)]
    assert outcome(baseline, gone, new_lesions=False).response == "CR"


def test_outcome_without_targets_or_diameters_is_not_evaluable():
    small = [Measured("liver", 1, 9.0)]
    found = outcome(small, small, new_lesions=False)
    assert (found.response, found.reason.code) == ("NE", "no_target")
    found = outcome([Measured("liver", 1, 20.0)], [Measured("liver", 1)], new_lesions=False)
    assert (found.response, found.reason.code) == ("NE", "no_diameter")
