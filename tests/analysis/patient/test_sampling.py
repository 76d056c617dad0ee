"""SPEC R-SAMP-1/2: properties of lesion sampling, and the numbers of section 5."""

import itertools
import math

import numpy as np
import pytest

from mirv.analysis.errors import Unsuitable
from mirv.analysis.heterogeneity import distances
from mirv.analysis.patient.sampling import (
    STRATEGIES,
    WITHIN_SITE,
    Strategy,
    draw,
    drawable,
    expected_ath,
    full_indices,
    generator,
    recover,
    recover_fixed,
    recovery_curve,
    summary,
)
from mirv.analysis.spaces.files import load_space
from mirv.analysis.spaces.fitting import groups
from mirv.analysis.tables import feature_columns, identifiers, read_table

SITES = ["lung"] * 9 + ["bone"] * 6 + ["liver"] * 4 + ["adrenal"] + ["unknown"] * 2


def cosine(n=22, seed=3):
    """Cosine distances of n lesions with non-negative features."""
    return distances(np.random.default_rng(seed).uniform(size=(n, 5))).cosine


def slow_indices(D, chosen) -> dict[str, float]:
    """The indices of a sample by plain loops."""
    pairs = [D[i, j] for i, j in itertools.combinations(chosen, 2)]
    m = len(chosen)
    return {
        "mtd": max(pairs),
        "ath_pairs": sum(pairs) / len(pairs),
        "ath_matrix": 2 * sum(pairs) / m**2,
    }


def test_fast_equals_slow():
    """Each draw of each strategy, recomputed by loops."""
    D = cosine()
    full = slow_indices(D, range(len(D)))
    assert full_indices(D) == pytest.approx(full)
    for strategy in STRATEGIES:
        found = recover(D, SITES, [strategy], n_draws=20, random=generator(1, "p"))
        drawn = np.concatenate(draw(strategy, SITES, 20, generator(1, "p")), axis=1)
        for row, chosen in enumerate(drawn):
            slow = slow_indices(D, chosen)
            for recovery in found:
                expected = 100 * slow[recovery.index] / full[recovery.index]
                assert recovery.draws[row] == pytest.approx(expected)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.name)
def test_draws_obey_the_strategy(strategy):
    drawn = np.concatenate(draw(strategy, SITES, 200, generator(0, "p")), axis=1)
    for chosen in drawn:
        names = [SITES[i] for i in chosen]
        assert len(set(chosen)) == len(chosen)
        if strategy.per_site:
            assert "unknown" not in names
            assert not set(names) & set(strategy.without)
            for site in set(names):
                assert names.count(site) == min(strategy.size, SITES.count(site))
        else:
            assert len(chosen) == strategy.size


@pytest.mark.parametrize("strategy", [*STRATEGIES, *WITHIN_SITE], ids=lambda s: s.name)
def test_exact_expectation_lies_within_three_standard_errors(strategy):
    found = recover(cosine(), SITES, [strategy], n_draws=4000, random=generator(7, "p"))
    for recovery in found:
        if recovery.index == "mtd":
            assert recovery.expected is None
            continue
        error = recovery.draws.std(ddof=1) / math.sqrt(len(recovery.draws))
        assert abs(recovery.draws.mean() - recovery.expected) <= 3 * error


def test_exact_expectation_equals_all_possible_draws():
    """Two per site of 3 + 2 + 1 lesions: 3 x 1 x 1 draws; three at random of 6: 20 draws."""
    D, sites = cosine(6), ["lung"] * 3 + ["liver"] * 2 + ["bone"]
    samples = [[*pair, 3, 4, 5] for pair in itertools.combinations(range(3), 2)]
    for strategy, draws in (
        (STRATEGIES[2], samples),
        (STRATEGIES[1], list(itertools.combinations(range(6), 3))),
    ):
        exact = expected_ath(D, strategy, sites)
        for index in ("ath_pairs", "ath_matrix"):
            mean = np.mean([slow_indices(D, chosen)[index] for chosen in draws])
            assert exact[index] == pytest.approx(mean)


@pytest.mark.parametrize(("n", "m", "percent"), [(30, 2, 51.7), (30, 3, 69.0)])
def test_matrix_mean_loses_the_diagonal(n, m, percent):
    """SPEC R-SAMP-1: ((m-1)/m) / ((N-1)/N); a mean over pairs would recover 100 %."""
    D = cosine(n)
    exact = expected_ath(D, Strategy("r", m), ["lung"] * n)
    full = full_indices(D)
    assert 100 * exact["ath_matrix"] / full["ath_matrix"] == pytest.approx(percent, abs=0.05)
    assert exact["ath_pairs"] / full["ath_pairs"] == pytest.approx(1)


def test_all_lesions_recover_everything():
    D = cosine()
    for recovery in recover(
        D, SITES, [Strategy("all", len(D))], n_draws=5, random=generator(0, "")
    ):
        assert recovery.draws == pytest.approx(100)
        assert recovery.expected in (None, pytest.approx(100))


def test_curve_grows_and_says_when_it_is_enough():
    curve = recovery_curve(cosine(30), random=generator(0, "p"))
    assert curve.sizes == tuple(range(2, 16))
    assert (np.diff(curve.draws["mtd"], axis=1) >= 0).all()
    matrix = curve.mean("ath_matrix")
    theory = np.array([100 * (m - 1) / m / (29 / 30) for m in curve.sizes])
    error = curve.draws["ath_matrix"].std(axis=0, ddof=1) / math.sqrt(500)
    assert (np.abs(matrix - theory) <= 3 * error).all()
    assert curve.enough("ath_matrix") == 4
    assert curve.enough("ath_pairs", 150) is None
    assert recovery_curve(cosine(4), random=generator(0, "p")).sizes == (2, 3, 4)


def test_fewer_than_two_lesions_recover_nothing_and_say_so():
    found = recover(cosine(3), ["bone", "bone", "liver"], random=generator(0, "p"))
    last = [recovery for recovery in found if recovery.strategy == "site_2_no_bone"]
    assert all(recovery.not_computable and not recovery.draws.any() for recovery in last)
    assert not any(recovery.not_computable for recovery in found if recovery not in last)
    nothing = recover(cosine(2), ["bone", "bone"], [STRATEGIES[4]], random=generator(0, "p"))
    assert all(recovery.not_computable and recovery.n_sampled == 0 for recovery in nothing)


def test_seeds_make_it_repeatable_patient_by_patient():
    D = cosine()

    def run(seed, patient):
        found = recover(D, SITES, random=generator(seed, patient))
        return np.concatenate([recovery.draws for recovery in found])

    assert (run(1, "a") == run(1, "a")).all()
    assert (run(1, "a") != run(1, "b")).any()
    assert (run(1, "a") != run(2, "a")).any()


def test_what_cannot_be_sampled():
    with pytest.raises(Unsuitable, match="too_few_lesions"):
        full_indices(np.zeros((1, 1)))
    with pytest.raises(Unsuitable, match="zero_vector"):
        full_indices(np.full((3, 3), np.nan))
    alike = recover(np.zeros((4, 4)), ["lung"] * 4, random=generator(0, "p"))
    assert all(recovery.reason is not None for recovery in alike)
    assert all(summary(recovery.draws) is None for recovery in alike)


@pytest.mark.shared
def test_recovery_on_the_public_lung_table(shared):
    """SPEC section 5, run: five patients with 8 lesions or more, cohort min-max, m = 2, 3, 4, 8."""
    table = read_table(shared / "sarc021" / "lung_baseline_features.csv.gz", ["USUBJID"])
    space = load_space("sarc021-lung-henry8-minmax")
    scaled = space.scaled(table[feature_columns(table)][list(space.names)].to_numpy())
    large = {p: rows for p, rows in groups(identifiers(table, "USUBJID")).items() if len(rows) >= 8}
    assert len(large) == 5
    curves = [
        recovery_curve(distances(scaled[rows]).cosine, largest=8, random=generator(0, patient))
        for patient, rows in large.items()
    ]
    columns = [0, 1, 2, 6]
    for index, wanted, within in (
        ("ath_pairs", (98, 100, 101, 100), 4),
        ("ath_matrix", (55, 75, 85, 98), 2.5),
        ("mtd", (27, 46, 60, 94), 3),
    ):
        found = np.mean([curve.mean(index)[columns] for curve in curves], axis=0)
        assert found == pytest.approx(wanted, abs=within)


def test_a_fixed_rule():
    D = cosine(5)
    found = {r.index: r for r in recover_fixed(D, "pair", [0, 3])}
    assert found["mtd"].draws[0] == pytest.approx(100 * D[0, 3] / D.max())
    assert found["ath_matrix"].expected == found["ath_matrix"].draws[0]
    assert all(r.not_computable and r.draws[0] == 0 for r in recover_fixed(D, "one", [2]))


def test_groups_by_site_are_complete():
    assert {site: len(rows) for site, rows in drawable(STRATEGIES[2], SITES).items()} == {
        "adrenal": 1,
        "bone": 6,
        "liver": 4,
        "lung": 9,
    }
