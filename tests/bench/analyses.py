"""Speed of the analyses, as ratios to plain programs measured in the same run.

Rivals: a loop that calls ``scipy.spatial.distance.pdist`` once a draw, and the published
reduction and MIRV procedure written with pandas as its text and program describe it.
"""

import itertools
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy.spatial.distance import cosine, euclidean, pdist

from mirv.analysis.choices import Scaling
from mirv.analysis.heterogeneity import distances
from mirv.analysis.patient.sampling import STRATEGIES, drawable, generator, recover, recovery_curve
from mirv.analysis.spaces.fitting import groups
from mirv.analysis.spaces.reduction import VOLUME, reduce_features
from mirv.analysis.spaces.space import FeatureSpace

N_LESIONS, N_DRAWS = 100, 500
SITES = ("lung", "liver", "bone", "lymph node", "adrenal")
T = TypeVar("T")


def run() -> list[str]:
    """All rows."""
    return [*_sampling(), *_mirv()]


def _timed(call: Callable[[], T], repeats: int = 3) -> tuple[float, T]:
    """CPU seconds of the fastest of some repeats, and what the call gave."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        found = call()
        best = min(best, time.process_time() - started)
    return best, found


def _sampling() -> list[str]:
    random = np.random.default_rng(0)
    vectors = random.uniform(size=(N_LESIONS, 8))
    sites = [SITES[i % len(SITES)] for i in range(N_LESIONS)]

    def ours() -> float:
        D = distances(vectors).cosine
        found = recover(D, sites, n_draws=N_DRAWS, random=generator(0, "p"))
        curve = recovery_curve(D, n_draws=N_DRAWS, random=generator(0, "p"))
        return float(found[1].draws.mean() + curve.mean("ath_matrix")[0])

    def plain() -> float:
        full = pdist(vectors, "cosine")
        recovered = []
        for strategy in STRATEGIES:
            for _ in range(N_DRAWS):
                chosen = np.concatenate(
                    [
                        random.choice(rows, min(strategy.size, len(rows)), replace=False)
                        for rows in drawable(strategy, sites).values()
                    ]
                )
                pairs = pdist(vectors[chosen], "cosine")
                recovered.append((pairs.max() / full.max(), pairs.mean() / full.mean()))
        for size in range(2, 16):
            for _ in range(N_DRAWS):
                chosen = random.choice(N_LESIONS, size, replace=False)
                pairs = pdist(vectors[chosen], "cosine")
                recovered.append((pairs.max() / full.max(), pairs.mean() / full.mean()))
        return float(np.mean(recovered))

    fast, _ = _timed(ours)
    slow, _ = _timed(plain, 1)
    what = f"sampling {N_LESIONS} lesions, {N_DRAWS} draws x 5 strategies and curve 2..15"
    return [f"{what}: {fast:.3f} s CPU; plain scipy loop {slow:.2f} s; x{slow / fast:.0f}"]


def _cohort() -> tuple[pd.DataFrame, list[str]]:
    """4,000 lesions of 1,000 patients x 1,218 features, a third of them tied to the volume."""
    random = np.random.default_rng(1)
    n, p = 4000, 1218
    volume = random.lognormal(7, 1, n)
    common = random.normal(size=(n, 40))
    values = random.normal(size=(n, p)) + 1.5 * common[:, random.integers(0, 40, p)]
    values[:, ::3] += np.log(volume)[:, None]
    values *= 10.0 ** random.uniform(-3, 4, p)
    names = [f"made_glcm_F{i}" for i in range(p)]
    table = pd.DataFrame(values, columns=names)
    table[names[13]] = volume
    table = table.rename(columns={names[13]: VOLUME})
    return table, [f"P{i % 1000}" for i in range(n)]


def _published(table: pd.DataFrame, patients: list[str]) -> tuple[list[str], pd.DataFrame]:
    """Variance, volume and pair filters, z-scores, every pair of every patient: in pandas."""
    variance = table.var()
    rho = table.corrwith(table[VOLUME], method="spearman")
    kept = table.loc[:, (variance >= variance.median()) & (rho.abs() <= 0.1)]
    correlation = kept.corr(method="spearman").abs()
    high = [column for column in correlation if (correlation[column].drop(column) > 0.7).any()]
    kept = kept.drop(columns=high)
    scaled = (kept - kept.mean()) / kept.std(ddof=0)
    rows = []
    for patient, own in scaled.groupby(patients):
        pairs = list(itertools.combinations(range(len(own)), 2))
        rows.append(
            (
                patient,
                max(euclidean(own.iloc[i], own.iloc[j]) for i, j in pairs),
                max(cosine(own.iloc[i], own.iloc[j]) for i, j in pairs),
            )
        )
    return list(kept.columns), pd.DataFrame(rows, columns=["patient", "distance", "dissimilarity"])


def _ours(table: pd.DataFrame, patients: list[str]) -> tuple[list[str], dict[str, float]]:
    values = table.to_numpy()
    names = list(table.columns)
    reduction = reduce_features(values, names)
    chosen = values[:, [names.index(name) for name in reduction.names]]
    space = FeatureSpace(
        "bench", "made", Scaling.ZSCORE, reduction.names, chosen.mean(axis=0), chosen.std(axis=0)
    )
    scaled = space.scaled(chosen)
    found = {}
    for patient, rows in groups(patients).items():
        between = distances(scaled[rows])
        found[patient] = float(between.euclidean_pairs.max() + between.cosine_pairs.max())
    return list(reduction.names), found


def _mirv() -> list[str]:
    table, patients = _cohort()
    fast, (names, found) = _timed(lambda: _ours(table, patients))
    slow, (published, rows) = _timed(lambda: _published(table, patients), 1)
    expected = dict(zip(rows["patient"], rows["distance"] + rows["dissimilarity"], strict=True))
    gap = max(abs(found[patient] - value) for patient, value in expected.items())
    if names != published or gap > 1e-9:
        raise AssertionError(f"{len(names)} and {len(published)} features, difference {gap:g}")
    what = f"reduction and MIRV of 4,000 lesions x 1,218 features ({len(names)} kept)"
    return [
        f"{what}: {fast:.2f} s CPU; published procedure in pandas {slow:.1f} s; x{slow / fast:.0f}"
    ]
