"""How much heterogeneity a sample of lesions recovers (SPEC R-SAMP-1, R-SAMP-2).

A patient's lesions are drawn without replacement, 500 times by default, and the indices of the
sample are compared with those of all lesions. The distance matrix is computed once, on all
lesions: scaling never sees the sample. For ATH the expectation over all possible draws is also
given exactly, because the probability that a pair of lesions is drawn is known.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.heterogeneity import METRICS, Sums
from mirv.analysis.model import BoolArray, FloatArray

Estimand = Literal["pooled", "within_site_mean"]
SAMPLED = tuple(metric for metric in METRICS if metric.sums is not None)
"""The indices whose recovery is measured."""
_FROM_SUMS = {metric.name: metric.sums for metric in SAMPLED if metric.sums is not None}
INDICES = tuple(_FROM_SUMS)
EXACT = tuple(name for name, sums in _FROM_SUMS.items() if sums.linear)
"""Those whose mean over all possible draws is known."""
Draws = NDArray[np.intp]

LARGEST_BLOCK = 4_000_000
"""Distances looked at in one go: bounds the memory of large samples."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A rule for drawing lesions.

    Attributes
    ----------
    name : str
    size : int
        Lesions drawn in all, or at most from each site.
    per_site : bool
        Draw from each site apart; lesions of unknown site are then left out.
    without : tuple of str
        Sites never drawn from.
    estimand : {"pooled", "within_site_mean"}
        What is computed of the sample: the index over all drawn lesions together, or the mean
        over sites of the index within each, 0 for a site with one lesion. The second fits the
        published per-site rows, the first is the plain reading (SPEC F5, A7).
    """

    name: str
    size: int
    per_site: bool = False
    without: tuple[str, ...] = ()
    estimand: Estimand = "pooled"


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("random_2", 2),
    Strategy("random_3", 3),
    Strategy("site_2", 2, per_site=True),
    Strategy("site_3", 3, per_site=True),
    Strategy("site_2_no_bone", 2, per_site=True, without=("bone",)),
)
"""The five strategies of Henry et al. 2022, Table 3."""

WITHIN_SITE: tuple[Strategy, ...] = tuple(
    Strategy(f"{s.name}_within", s.size, True, s.without, "within_site_mean")
    for s in STRATEGIES
    if s.per_site
)


@dataclass(frozen=True, slots=True, eq=False)
class Recovery:
    """How much of one index one strategy recovers in one patient.

    Attributes
    ----------
    strategy, index : str
    n_lesions, n_sampled : int
        Lesions of the patient; lesions in each draw.
    draws : float64 (n_draws,)
        Recovery of each draw in percent; empty when `reason` is set for the whole patient.
    expected : float or None
        Exact mean over all possible draws in percent (ATH only).
    not_computable : bool
        The strategy gives fewer than two lesions, so it recovers nothing (0 %).
    reason : Reason or None
        Why there is no recovery at all: the index of all lesions is undefined or zero.
    """

    strategy: str
    index: str
    n_lesions: int
    n_sampled: int
    draws: FloatArray
    expected: float | None
    not_computable: bool = False
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and 95 % range (2.5 and 97.5 percentiles) of recoveries, in percent."""

    n_draws: int
    mean: float
    low: float
    high: float


def summary(draws: FloatArray) -> Summary | None:
    """Mean and percentiles of `draws`; None when there are none.

    Parameters
    ----------
    draws : float64 (n_draws,)
        Percent.
    """
    if len(draws) == 0:
        return None
    low, high = np.percentile(draws, [2.5, 97.5])
    return Summary(len(draws), float(draws.mean()), float(low), float(high))


def generator(seed: int, patient: str) -> np.random.Generator:
    """Random numbers of one patient: the same whatever other patients there are."""
    own = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, own])


# --- drawing --------------------------------------------------------------------------------


def drawable(strategy: Strategy, sites: Sequence[str]) -> dict[str, Draws]:
    """Positions a strategy may draw from, by site ("" for all together).

    Parameters
    ----------
    strategy : Strategy
    sites : sequence of str
        Site of each lesion.

    Returns
    -------
    mapping of site to int (n_lesions there,)
    """
    if not strategy.per_site:
        inside = [i for i, site in enumerate(sites) if site not in strategy.without]
        return {"": np.array(inside, np.intp)}
    groups: dict[str, list[int]] = {}
    for position, site in enumerate(sites):
        if site != "unknown" and site not in strategy.without:
            groups.setdefault(site, []).append(position)
    return {site: np.array(groups[site], np.intp) for site in sorted(groups)}


def draw(
    strategy: Strategy, sites: Sequence[str], n_draws: int, random: np.random.Generator
) -> list[Draws]:
    """Draw `n_draws` samples without replacement.

    Parameters
    ----------
    strategy : Strategy
    sites : sequence of str
        Site of each lesion.
    n_draws : int
    random : numpy Generator
        See `generator`.

    Returns
    -------
    list of int arrays (n_draws, drawn from that group)
        One array a group of `drawable`: how many are drawn from each is the same in every draw.
    """
    return [
        positions[_shuffled(len(positions), n_draws, random)[:, : strategy.size]]
        for positions in drawable(strategy, sites).values()
    ]


def _shuffled(n: int, n_draws: int, random: np.random.Generator) -> Draws:
    order: Draws = random.random((n_draws, n)).argsort(axis=1)
    return order


# --- indices of many samples ----------------------------------------------------------------


def _prefixes(D: FloatArray, drawn: Draws) -> tuple[FloatArray, FloatArray]:
    """Maximum and sum over pairs of the first 1, 2 ... m lesions of each draw.

    Returns
    -------
    largest, total : float64 (n_draws, m)
    """
    n_draws, m = drawn.shape
    largest, total = np.zeros((n_draws, m)), np.zeros((n_draws, m))
    step = max(1, LARGEST_BLOCK // max(1, m * m))
    earlier: BoolArray = np.tri(m, k=-1, dtype=bool)
    for start in range(0, n_draws, step):
        rows = drawn[start : start + step]
        block = D[rows[:, :, None], rows[:, None, :]] * earlier
        np.maximum.accumulate(block.max(axis=2), axis=1, out=largest[start : start + step])
        np.cumsum(block.sum(axis=2), axis=1, out=total[start : start + step])
    return largest, total


def _as_indices(largest: FloatArray, total: FloatArray, m: int) -> dict[str, FloatArray]:
    """The indices of samples of `m` lesions; 0 for a single one."""
    if m < 2:
        return {index: np.zeros(len(largest)) for index in INDICES}
    return {name: sums.index(Sums(largest, total, m)) for name, sums in _FROM_SUMS.items()}


def full_indices(D: FloatArray) -> dict[str, float]:
    """The indices of all lesions.

    Parameters
    ----------
    D : float64 (n, n)
        Cosine distances between all lesions of a patient.

    Raises
    ------
    Unsuitable
        Fewer than two lesions, or a distance that is not there.
    """
    n = len(D)
    if n < 2:
        raise Unsuitable("too_few_lesions", f"found {n} lesion(s), wanted at least 2")
    if not np.isfinite(D).all():
        raise Unsuitable("zero_vector", "a lesion lies at the origin of the space: no direction")
    largest, total = _prefixes(D, np.arange(n, dtype=np.intp)[None, :])
    found = _as_indices(largest[:, -1], total[:, -1], n)
    return {index: float(values[0]) for index, values in found.items()}


def _sample_indices(
    D: FloatArray, drawn: Sequence[Draws], estimand: Estimand
) -> dict[str, FloatArray]:
    if estimand == "within_site_mean":
        parts = [_sample_indices(D, [group], "pooled") for group in drawn]
        return {index: np.mean([part[index] for part in parts], axis=0) for index in INDICES}
    together = np.concatenate(drawn, axis=1)
    largest, total = _prefixes(D, together)
    return _as_indices(largest[:, -1], total[:, -1], together.shape[1])


def expected_ath(D: FloatArray, strategy: Strategy, sites: Sequence[str]) -> dict[str, float]:
    """Exact mean of the indices of `EXACT` over every draw a strategy can make.

    A pair is drawn with probability k(k-1) / n(n-1) within a group of n lesions of which k are
    drawn, and (k/n)(k'/n') across two groups; the sample size never varies.

    Parameters
    ----------
    D : float64 (n, n)
        Cosine distances between all lesions of a patient.
    strategy : Strategy
    sites : sequence of str
        Site of each lesion.

    Returns
    -------
    mapping of index to float
        In the unit of the index, not in percent.
    """
    groups = list(drawable(strategy, sites).values())
    drawn = [min(strategy.size, len(group)) for group in groups]
    if strategy.estimand == "within_site_mean":
        parts = [_expected(D, [group], [k]) for group, k in zip(groups, drawn, strict=True)]
        return {
            index: float(np.mean([part[index] for part in parts])) if parts else 0.0
            for index in EXACT
        }
    return _expected(D, groups, drawn)


def _expected(D: FloatArray, groups: Sequence[Draws], drawn: Sequence[int]) -> dict[str, float]:
    m = sum(drawn)
    if m < 2:
        return dict.fromkeys(EXACT, 0.0)
    total = 0.0
    for a, (first, k) in enumerate(zip(groups, drawn, strict=True)):
        n = len(first)
        if k > 1:
            total += k * (k - 1) / (n * (n - 1)) * D[np.ix_(first, first)].sum() / 2
        for second, other in zip(groups[a + 1 :], drawn[a + 1 :], strict=True):
            total += k / n * other / len(second) * D[np.ix_(first, second)].sum()
    sums = Sums(np.zeros(1), np.array([total]), m)
    return {name: float(_FROM_SUMS[name].index(sums)[0]) for name in EXACT}


# --- recovery -------------------------------------------------------------------------------


def recover(
    D: FloatArray,
    sites: Sequence[str],
    strategies: Sequence[Strategy] = STRATEGIES,
    *,
    n_draws: int = 500,
    random: np.random.Generator,
) -> list[Recovery]:
    """Recovery of each index by each strategy in one patient, in percent of all lesions.

    Parameters
    ----------
    D : float64 (n, n)
        Distances between all lesions of the patient.
    sites : sequence of str
        Site of each lesion.
    random : numpy Generator
        See `generator`.

    Raises
    ------
    Unsuitable
        Fewer than two lesions, or a distance that is not there.
    """
    full = full_indices(D)
    found: list[Recovery] = []
    no_site = all(site == "unknown" for site in sites)
    for strategy in strategies:
        if strategy.per_site and no_site:
            found += [_without_sites(strategy, index, len(D)) for index in INDICES]
            continue
        drawn = draw(strategy, sites, n_draws, random)
        m = sum(group.shape[1] for group in drawn)
        sampled = _sample_indices(D, drawn, strategy.estimand) if m else {}
        taken = _Sampled(strategy, len(D), m, n_draws, sampled, expected_ath(D, strategy, sites))
        found += [taken.recovery(index, full[index]) for index in INDICES]
    return found


def _without_sites(strategy: Strategy, index: str, n: int) -> Recovery:
    reason = Reason("site_unknown", f"none of {n} lesions has a known site to draw by")
    return Recovery(strategy.name, index, n, 0, np.zeros(0), None, reason=reason)


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """What a strategy drew from one patient."""

    strategy: Strategy
    n: int  # lesions of the patient
    m: int  # lesions a draw
    n_draws: int
    sampled: Mapping[str, FloatArray]  # an index of each draw
    expected: Mapping[str, float]  # its exact mean, where there is one

    def recovery(self, index: str, full: float) -> Recovery:
        """Recovery of an index that is `full` over all lesions."""
        name, n, m = self.strategy.name, self.n, self.m
        if full <= 0:
            reason = Reason("index_zero", f"{index} of all {n} lesions is 0: nothing to recover")
            return Recovery(name, index, n, m, np.zeros(0), None, m < 2, reason)
        found = self.sampled.get(index)
        draws = np.zeros(self.n_draws) if found is None or m < 2 else 100.0 * found / full
        exact = 100.0 * self.expected[index] / full if index in self.expected else None
        return Recovery(name, index, n, m, draws, exact, m < 2)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Recovery by the number of lesions drawn at random, in percent.

    Attributes
    ----------
    sizes : tuple of int
        2 .. 15, at most the number of lesions.
    draws : mapping of index to float64 (n_draws, len(sizes))
    """

    sizes: tuple[int, ...]
    draws: dict[str, FloatArray]

    def mean(self, index: str) -> FloatArray:
        """Mean recovery at each size.

        Parameters
        ----------
        index : str

        Returns
        -------
        float64 (len(sizes),)
            Percent.
        """
        result: FloatArray = self.draws[index].mean(axis=0)
        return result

    def enough(self, index: str, percent: float = 75.0) -> int | None:
        """Smallest size whose mean recovery reaches `percent`; None when none does."""
        reached = np.flatnonzero(self.mean(index) >= percent)
        return self.sizes[int(reached[0])] if reached.size else None


def recovery_curve(
    D: FloatArray, *, largest: int = 15, n_draws: int = 500, random: np.random.Generator
) -> Curve:
    """Recovery for 2 .. `largest` lesions drawn at random.

    Each draw is one random order of the lesions and its beginnings are the samples, so that the
    MTD of a draw can only grow with its size.

    Parameters
    ----------
    D : float64 (n, n)
        Cosine distances between all lesions of a patient.
    largest : int
        Size to end at.
    n_draws : int
    random : numpy Generator
        See `generator`.

    Raises
    ------
    Unsuitable
        Fewer than two lesions, a distance that is not there, or all lesions alike.
    """
    full = full_indices(D)
    if min(full.values()) <= 0:
        raise Unsuitable("index_zero", f"all {len(D)} lesions are alike: nothing to recover")
    sizes = tuple(range(2, min(largest, len(D)) + 1))
    order = _shuffled(len(D), n_draws, random)[:, : sizes[-1]]
    largest_pair, total = _prefixes(D, order)
    draws: dict[str, FloatArray] = {index: np.zeros((n_draws, len(sizes))) for index in INDICES}
    for column, m in enumerate(sizes):
        for index, values in _as_indices(largest_pair[:, m - 1], total[:, m - 1], m).items():
            draws[index][:, column] = 100.0 * values / full[index]
    return Curve(sizes, draws)


def recover_fixed(D: FloatArray, name: str, chosen: Sequence[int]) -> list[Recovery]:
    """Recovery of a rule that always gives the same lesions.

    Parameters
    ----------
    D : float64 (n, n)
        Cosine distances between all lesions of a patient.
    name : str
        Of the rule.
    chosen : sequence of int
        Positions of the lesions it takes.

    Raises
    ------
    Unsuitable
        Fewer than two lesions, or a distance that is not there.
    """
    full = full_indices(D)
    m = len(chosen)
    found = []
    for index in INDICES:
        if full[index] <= 0:
            reason = Reason("index_zero", f"{index} of all {len(D)} lesions is 0")
            found.append(Recovery(name, index, len(D), m, np.zeros(0), None, m < 2, reason))
            continue
        value = 0.0
        if m > 1:
            value = 100.0 * full_indices(D[np.ix_(chosen, chosen)])[index] / full[index]
        exact = value if index in EXACT else None
        found.append(Recovery(name, index, len(D), m, np.array([value]), exact, m < 2))
    return found
