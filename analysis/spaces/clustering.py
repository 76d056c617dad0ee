"""Clusters of correlated features, one representative each (SPEC R-CLU-1).

Henry et al. 2022 read eight clusters off a heatmap by eye and kept the most understandable
feature of each. Here the cut is a number and the choice a list, so that it can be repeated. The
paper names neither the correlation nor the linkage (A4): Pearson and average are the defaults.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from mirv.analysis.choices import Correlation
from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import FloatArray
from mirv.config.errors import BadInput


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Features by cluster.

    Attributes
    ----------
    names : tuple of str
        Features clustered, sorted; constant ones are not among them.
    labels : int (len(names),)
        Cluster of each, from 1, numbered by their first feature in the alphabet.
    representatives : tuple of str
        One a cluster, in the order of the clusters.
    constant : tuple of str
        Features left out because they are the same for every lesion.
    correlation : float64 (len(names), len(names))
        Absolute correlation.
    tree : float64 (len(names) - 1, 4)
        Linkage as scipy writes it.
    """

    names: tuple[str, ...]
    labels: NDArray[np.intp]
    representatives: tuple[str, ...]
    constant: tuple[str, ...]
    correlation: FloatArray
    tree: FloatArray

    @property
    def leaves(self) -> list[int]:
        """Order of the features along the dendrogram."""
        return [int(leaf) for leaf in leaves_list(self.tree)]


def cluster_features(
    values: FloatArray,
    names: Sequence[str],
    *,
    n_clusters: int | None = 8,
    height: float | None = None,
    method: Correlation = Correlation.PEARSON,
    preference: Sequence[str] = (),
) -> Clusters:
    """Average-linkage clusters at distance ``1 - |correlation|``.

    Parameters
    ----------
    values : float64 (n_lesions, n_features), all finite
    names : sequence of str
    n_clusters : int or None
        Number of clusters; None with `height`.
    height : float or None
        Cut the tree at this distance instead.
    method : Correlation
    preference : sequence of str
        Features to represent their cluster, most wanted first; a cluster without one is
        represented by its first name in the alphabet.

    Raises
    ------
    BadInput
        Both `n_clusters` and `height`, or neither.
    Unsuitable
        Fewer than 3 lesions or fewer than 2 features that vary.
    """
    if (n_clusters is None) == (height is None):
        raise BadInput("give the number of clusters or the height of the cut, not both")
    if len(values) < 3:
        raise Unsuitable("too_few_lesions", f"found {len(values)} lesion(s), wanted at least 3")
    order = sorted(range(len(names)), key=lambda i: names[i])
    varied = [i for i in order if np.ptp(values[:, i]) > 0]
    if len(varied) < 2:
        raise Unsuitable("too_few_features", f"{len(varied)} feature(s) vary, wanted at least 2")
    used = values[:, varied]
    if method == Correlation.SPEARMAN:
        used = rankdata(used, axis=0)
    # Rounded, so that the order of the lesions cannot tip a tie.
    correlation = np.round(np.abs(np.corrcoef(used, rowvar=False)), 12).astype(np.float64)
    np.fill_diagonal(correlation, 1.0)
    tree = linkage(squareform(1.0 - correlation, checks=False), method="average")
    if n_clusters is not None:
        raw = fcluster(tree, n_clusters, criterion="maxclust")
    else:
        raw = fcluster(tree, height or 0.0, criterion="distance")
    kept = tuple(names[i] for i in varied)
    labels = _by_first_member(raw)
    return Clusters(
        kept,
        labels,
        _representatives(kept, labels, preference),
        tuple(names[i] for i in order if i not in set(varied)),
        correlation,
        tree,
    )


def _by_first_member(raw: NDArray[np.int32]) -> NDArray[np.intp]:
    first = {label: position for position, label in reversed(list(enumerate(raw)))}
    number = {label: rank for rank, label in enumerate(sorted(first, key=lambda k: first[k]), 1)}
    return np.array([number[label] for label in raw], np.intp)


def _representatives(
    names: Sequence[str], labels: NDArray[np.intp], preference: Sequence[str]
) -> tuple[str, ...]:
    rank = {name: place for place, name in enumerate(preference)}
    chosen = []
    for label in range(1, int(labels.max()) + 1):
        members = [name for name, own in zip(names, labels, strict=True) if own == label]
        chosen.append(min(members, key=lambda name: (rank.get(name, len(rank)), name)))
    return tuple(chosen)
