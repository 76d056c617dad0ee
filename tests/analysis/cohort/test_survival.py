"""SPEC R-SURV-1, against what R's survival package gives on its own data sets."""

import numpy as np
import pandas as pd
import pytest
from lifelines.datasets import load_lung, load_rossi

from mirv.analysis.cohort.survival import at_risk, cox, kaplan_meier, split_at_median, vif
from mirv.analysis.errors import Unsuitable


def test_cox_equals_r_on_the_recidivism_data():
    """R: ``coxph(Surv(week, arrest) ~ fin + age + race + wexp + mar + paro + prio, Rossi)``.

    Coefficients and standard errors as printed in Fox and Weisberg, Cox Proportional-Hazards
    Regression for Survival Data in R (appendix to An R Companion to Applied Regression).
    """
    terms = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
    found = cox(load_rossi(), "week", "arrest", terms)
    assert (found.n, found.n_events) == (432, 114)
    assert found.terms["coefficient"].tolist() == pytest.approx(
        [-0.37942, -0.05744, 0.31390, -0.14980, -0.43370, -0.08487, 0.09150], abs=6e-6
    )
    assert found.terms["standard_error"].tolist() == pytest.approx(
        [0.19138, 0.02200, 0.30799, 0.21222, 0.38187, 0.19576, 0.02865], abs=6e-6
    )
    assert found.concordance == pytest.approx(0.640, abs=5e-4)
    assert found.cautions == ()


def test_cox_with_missing_values_equals_r_on_the_lung_data():
    """R: ``coxph(Surv(time, status) ~ age + sex + ph.ecog, lung)``: n 227, 164 events."""
    found = cox(load_lung(), "time", "status", ["age", "sex", "ph.ecog"])
    assert (found.n, found.n_events, found.n_left_out) == (227, 164, 1)
    assert found.terms["coefficient"].tolist() == pytest.approx(
        [0.011067, -0.552612, 0.463728], abs=6e-7
    )
    assert any("1 row(s) left out" in caution for caution in found.cautions)


def test_kaplan_meier_and_log_rank_equal_r_on_the_lung_data():
    """R: ``survdiff(Surv(time, status) ~ sex, lung)``: chisq 10.3, p 0.00131; medians 270, 426."""
    found = kaplan_meier(load_lung(), "time", "status", "sex")
    assert found.groups["median"].tolist() == [270, 426]
    assert found.groups["events"].tolist() == [112, 53]
    assert found.statistic == pytest.approx(10.3267, abs=1e-4)
    assert found.p == pytest.approx(0.00131116, abs=1e-8)
    assert at_risk(found.curves, [0, 250, 500, 2000]).to_numpy().tolist() == [
        [138, 62, 20, 0],
        [90, 53, 21, 0],
    ]


def test_survival_by_hand():
    """Deaths at 1 and 3 of 4, censored at 2 and 4: 3/4, then 3/4 * 1/2."""
    table = pd.DataFrame({"t": [1, 2, 3, 4], "e": [1, 0, 1, 0]})
    found = kaplan_meier(table, "t", "e")
    assert found.curves["survival"].tolist() == pytest.approx([1, 0.75, 0.75, 0.375, 0.375])
    assert found.p is None


@pytest.mark.shared
def test_public_lung_subset(shared):
    """SPEC section 5: 85 patients with two lesions or more, 59 deaths."""
    table = pd.read_csv(shared / "sarc021" / "survival-all.csv", encoding="utf-8-sig")
    mirv = pd.read_csv(shared / "sarc021" / "expected_mirv_as_published.csv")
    joined = mirv.merge(table, on="USUBJID", validate="one_to_one")
    joined["half"] = split_at_median(joined["mirv_dissimilarity_max"])
    found = kaplan_meier(joined, "T_OS", "E_OS", "half")
    assert found.groups["n"].sum() == 85
    assert found.groups["events"].sum() == 59
    assert found.groups.set_index("group")["n"].to_dict() == {"High": 43, "Low": 42}
    model = cox(joined, "T_OS", "E_OS", ["mirv_dissimilarity_max", "mirv_distance_max"])
    assert model.n_events == 59


def test_median_split_says_where_the_median_falls():
    values = pd.Series([1.0, 2.0, 3.0, np.nan])
    assert split_at_median(values).tolist()[:3] == ["Low", "High", "High"]
    assert split_at_median(values, ">").tolist()[:3] == ["Low", "Low", "High"]
    assert split_at_median(values).isna().tolist() == [False] * 3 + [True]


def cohort(n=120) -> pd.DataFrame:
    random = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "x": random.normal(size=n),
            "kind": random.choice(["A", "B", "C"], n),
            "e": (random.random(n) < 0.7).astype(int),
        }
    )
    table["t"] = random.exponential(np.exp(-0.8 * table["x"]))
    return table


def test_categories_are_dummies_and_interactions_products():
    found = cox(cohort(), "t", "e", ["x", "kind"], {"kind": "B"}, [("kind", "x")])
    assert found.terms["term"].tolist() == ["x", "kind[A]", "kind[C]", "kind[A]:x", "kind[C]:x"]
    assert found.terms["hazard_ratio"].tolist() == pytest.approx(
        np.exp(found.terms["coefficient"]).tolist()
    )
    assert found.proportionality["term"].tolist() == found.terms["term"].tolist()


def test_cautions_name_few_events_and_collinear_terms():
    table = cohort(40)
    table["twin"] = table["x"] + np.random.default_rng(0).normal(size=40) * 0.05
    found = cox(table, "t", "e", ["x", "twin", "kind"], {"kind": None})
    assert any("fewer than 10 per term" in caution for caution in found.cautions)
    assert any("x, twin" in caution for caution in found.cautions)
    assert (
        np.isinf(vif(np.column_stack([[1.0, 2, 3, 5], [2.0, 4, 6, 10]]))).all()
        or (vif(np.column_stack([[1.0, 2, 3, 5], [2.0, 4, 6, 10]])) > 1e6).all()
    )


@pytest.mark.parametrize(
    ("change", "arguments", "named"),
    [
        ({"e": [2, 0, 1, 1]}, {}, "'e', row 1: found 2"),
        ({"t": [1, -5, 3, 4]}, {}, "'t', row 2: found -5"),
        ({"t": [1, None, 3, 4]}, {}, "'t', row 2"),
        ({"x": [1, 1, 1, 1]}, {}, "'x' is the same"),
        ({"x": ["a", "b", "c", "d"]}, {}, "'x', row 1"),
        ({"e": [0, 0, 0, 0]}, {}, "has an event"),
        ({}, {"terms": ["y"]}, "y"),
        ({}, {"terms": ["x"], "categories": {"x": "9"}}, "reference '9'"),
        ({}, {"terms": ["x"], "interactions": [("x", "z")]}, "'z'"),
    ],
)
def test_bad_tables_name_column_and_row(change, arguments, named):
    table = pd.DataFrame({"t": [1, 2, 3, 4], "e": [1, 0, 1, 1], "x": [1.0, 2, 3, 5], **change})
    with pytest.raises(Unsuitable) as refusal:
        cox(table, "t", "e", **{"terms": ["x"], **arguments})
    assert named in str(refusal.value)


def test_terms_that_make_up_one_another_are_named():
    table = cohort(40).assign(twin=lambda t: 2 * t["x"])
    with pytest.raises(Unsuitable, match=r"collinear_terms: terms x, twin"):
        cox(table, "t", "e", ["x", "twin"])


def test_complete_separation_does_not_converge():
    table = pd.DataFrame(
        {"t": np.arange(1.0, 21), "e": [1] * 10 + [0] * 10, "x": [1.0] * 10 + [0.0] * 10}
    )
    with pytest.raises(Unsuitable, match="no_convergence"):
        cox(table, "t", "e", ["x"])
