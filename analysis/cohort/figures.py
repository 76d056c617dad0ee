"""Figures: readable in grey, axes labelled with units. Made without a display."""

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from mirv.analysis.cohort.survival import KaplanMeier, at_risk
from mirv.analysis.model import FloatArray
from mirv.analysis.patient.sampling import SAMPLED, Curve
from mirv.analysis.spaces.clustering import Clusters

COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#7f7f7f")
"""Okabe-Ito, told apart in grey by line style as well."""
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_LABELS = 60

Drawing = Figure
"""What the functions here give: who passes it on needs no matplotlib for it."""


def figure(width: float, height: float) -> Figure:
    """A figure of `width` by `height` inches that draws without a display."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: Figure, path: Path) -> Path:
    """Write the figure; the suffix says the format (png, svg, pdf). Same figure, same bytes."""
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    made.savefig(path, dpi=150, metadata=metadata.get(path.suffix))
    return path


def as_png(made: Figure) -> bytes:
    """The figure as a page shows it."""
    out = io.BytesIO()
    made.savefig(out, format="png", dpi=110)
    return out.getvalue()


def dissimilarity_map(
    D: FloatArray, labels: Sequence[str], *, distance: str = "cosine", title: str = ""
) -> Figure:
    """Matrix of distances between lesions, ordered by the dendrogram drawn above it.

    Parameters
    ----------
    D : float64 (n, n), n of at least 2, all finite
    labels : sequence of str
        One a lesion.
    """
    tree = linkage(squareform(D, checks=False), method="average")
    size = min(12.0, max(5.0, 0.28 * len(D) + 3))
    made = figure(size + 1, size + 1)
    grid = made.add_gridspec(2, 2, height_ratios=(1, 5), width_ratios=(30, 1))
    top = made.add_subplot(grid[0, 0])
    drawn = dendrogram(tree, ax=top, no_labels=True, color_threshold=0, above_threshold_color="k")
    top.set_ylabel("height")
    for side in ("top", "right", "bottom"):
        top.spines[side].set_visible(False)
    order = [int(leaf) for leaf in drawn["leaves"] or ()]
    axes = made.add_subplot(grid[1, 0], sharex=top)
    # Grey from white (alike) to black (apart): prints as it looks. scipy's leaves are 10 apart.
    far = 10.0 * len(D)
    image = axes.imshow(
        D[np.ix_(order, order)],
        cmap="Greys",
        vmin=0,
        vmax=max(float(D.max()), 1e-12),
        extent=(0, far, far, 0),
        aspect="auto",
    )
    top.tick_params(bottom=False, labelbottom=False)
    _ticks(axes, [labels[i] for i in order], np.arange(5.0, far, 10.0))
    unit = "1 - cos" if distance == "cosine" else "scaled feature units"
    made.colorbar(image, cax=made.add_subplot(grid[1, 1]), label=f"{distance} distance ({unit})")
    top.set_title(title or f"Dissimilarity between {len(D)} lesions")
    return made


def _ticks(axes, labels: Sequence[str], places: FloatArray) -> None:  # type: ignore[no-untyped-def]
    if len(labels) > MOST_LABELS:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"{len(labels)} in the order of the dendrogram")
        return
    text = [_short(label) for label in labels]
    axes.set_xticks(places, text, rotation=90, fontsize=7)
    axes.set_yticks(places, text, fontsize=7)


def _short(text: str, longest: int = 42) -> str:
    return text if len(text) <= longest else "…" + text[1 - longest :]


def recovery_curves(curves: Mapping[str, Curve], *, percent: float = 75.0) -> Figure:
    """Mean recovery of each index by number of lesions, the middle 95 % shaded.

    Parameters
    ----------
    curves : mapping of patient (or "pooled") to Curve
        Averaged over those that reach a size: the number of patients falls with the size.
    percent : float
        The line to reach.
    """
    made = figure(8, 5)
    axes = made.add_subplot()
    sizes = sorted({size for curve in curves.values() for size in curve.sizes})
    for place, metric in enumerate(SAMPLED):
        pooled = [
            np.concatenate(
                [
                    curve.draws[metric.name][:, curve.sizes.index(size)]
                    for curve in curves.values()
                    if size in curve.sizes
                ]
            )
            for size in sizes
        ]
        low, high = np.array([np.percentile(draws, [2.5, 97.5]) for draws in pooled]).T
        axes.plot(
            sizes,
            [draws.mean() for draws in pooled],
            label=metric.abbreviation or metric.title,
            color=COLOURS[place],
            linestyle=LINES[place],
            marker=MARKERS[place],
        )
        axes.fill_between(sizes, low, high, color=COLOURS[place], alpha=0.10, linewidth=0)
    axes.axhline(percent, color="0.4", linewidth=1)
    axes.annotate(f"{percent:g} %", (sizes[-1], percent), xytext=(4, 2), textcoords="offset points")
    patients = [sum(size in curve.sizes for curve in curves.values()) for size in sizes]
    axes.set_xticks(sizes, [f"{m}\n({n})" for m, n in zip(sizes, patients, strict=True)])
    axes.set_xlabel("lesions drawn at random (patients that have as many)")
    axes.set_ylabel("recovered share of the index of all lesions (%)")
    axes.set_ylim(bottom=0)
    n = len(curves)
    axes.set_title(f"Recovery of heterogeneity, {n} patient{'s' if n != 1 else ''}")
    axes.legend(title="mean (band: 2.5 to 97.5 %)", frameon=False)
    return made


def variation_by_class(table: pd.DataFrame) -> Figure:
    """Distribution of the CV of features by class.

    Parameters
    ----------
    table : DataFrame
        ``feature, cv_percent``; rows without a CV are left out and counted.
    """
    there = table.dropna(subset=["cv_percent"])
    kinds = there["feature"].map(lambda name: str(name).rsplit("_", 2)[-2])
    groups = {
        kind: there.loc[kinds == kind, "cv_percent"].to_numpy() for kind in sorted(set(kinds))
    }
    made = figure(8, 5)
    axes = made.add_subplot()
    names = [f"{kind}\n(n={len(values)})" for kind, values in groups.items()]
    axes.boxplot(
        list(groups.values()),
        tick_labels=names,
        medianprops={"color": "k", "linewidth": 2},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": "0.5"},
        patch_artist=True,
        boxprops={"facecolor": "0.85"},
    )
    axes.set_yscale("log")
    axes.set_ylabel("coefficient of variation |s / mean| (%)")
    axes.set_xlabel("feature class")
    left_out = len(table) - len(there)
    axes.set_title("Variation between lesions" + (f" ({left_out} undefined)" if left_out else ""))
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    return made


def correlation_map(clusters: Clusters) -> Figure:
    """Absolute correlation of features in the order of their dendrogram, clusters outlined."""
    order = clusters.leaves
    size = min(14.0, max(6.0, 0.16 * len(order) + 4))
    made = figure(size + 1, size)
    axes = made.add_subplot()
    image = axes.imshow(clusters.correlation[np.ix_(order, order)], cmap="Greys", vmin=0, vmax=1)
    labels = clusters.labels[order]
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
    for start, end in pairwise(edges):
        box = np.array([(start, start), (end, start), (end, end), (start, end), (start, start)])
        axes.plot(*(box - 0.5).T, color=COLOURS[1], linewidth=1.5)
    _ticks(axes, [clusters.names[i] for i in order], np.arange(float(len(order))))
    made.colorbar(image, ax=axes, label="|correlation|", shrink=0.8)
    axes.set_title(f"{len(order)} features in {len(clusters.representatives)} clusters")
    return made


def kaplan_meier_plot(
    found: KaplanMeier, *, unit: str = "", title: str = "", n_times: int = 6
) -> Figure:
    """Survival curves with 95 % bands, the log-rank p, and the numbers at risk below."""
    made = figure(8, 5.5 + 0.25 * len(found.groups))
    grid = made.add_gridspec(2, 1, height_ratios=(6, 0.6 + 0.4 * len(found.groups)))
    axes = made.add_subplot(grid[0])
    longest = float(found.curves["time"].max())
    for place, (name, curve) in enumerate(found.curves.groupby("group", sort=True)):
        colour, line = COLOURS[place % 6], LINES[place % 6]
        row = found.groups[found.groups["group"] == name].iloc[0]
        label = f"{name} (n={row['n']}, events={row['events']})"
        axes.step(
            curve["time"],
            curve["survival"],
            where="post",
            color=colour,
            linestyle=line,
            label=label,
        )
        axes.fill_between(
            curve["time"],
            curve["low"],
            curve["high"],
            step="post",
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
        lost = curve[curve["censored"] > 0]
        axes.plot(lost["time"], lost["survival"], "|", color=colour, markersize=6)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(-0.04 * longest, longest * 1.02)
    axes.set_ylabel("survival probability")
    axes.legend(frameon=False)
    axes.set_title(title or "Survival")
    if found.p is not None:
        text = f"log-rank p = {found.p:.3g}"
        axes.annotate(text, (0.02, 0.04), xycoords="axes fraction")
    times = [t for t in axes.get_xticks() if 0 <= t <= longest][: n_times + 3]
    _risk_table(made.add_subplot(grid[1], sharex=axes), found, times, unit)
    return made


def _risk_table(axes, found: KaplanMeier, times: Sequence[float], unit: str) -> None:  # type: ignore[no-untyped-def]
    counts = at_risk(found.curves, times)
    for row, (_, values) in enumerate(counts.iterrows()):
        for time, count in zip(times, values, strict=True):
            axes.text(time, row, str(count), ha="center", va="center", fontsize=9)
    axes.set_yticks(range(len(counts)), list(counts.index))
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_title("at risk", loc="left", fontsize=9)
    axes.set_xlabel(f"time{f' ({unit})' if unit else ''}")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)


def forest_plot(terms: pd.DataFrame, *, title: str = "") -> Figure:
    """Hazard ratios with 95 % limits on a logarithmic axis.

    Parameters
    ----------
    terms : DataFrame
        ``term, hazard_ratio, low, high, p`` as in `analysis.cohort.survival.Cox`.
    """
    made = figure(9, 1.6 + 0.4 * len(terms))
    axes = made.add_subplot()
    rows = np.arange(len(terms))[::-1]
    ratio = terms["hazard_ratio"].to_numpy(float)
    reach = np.abs(np.vstack([ratio - terms["low"], terms["high"] - ratio]))
    axes.errorbar(ratio, rows, xerr=reach, fmt="s", color="k", capsize=3, markersize=5)
    axes.axvline(1, color="0.5", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    few = float(terms["high"].max() / terms["low"].min()) < 100
    axes.xaxis.set_minor_formatter(
        FuncFormatter(lambda value, _: f"{value:g}") if few else NullFormatter()
    )
    axes.set_yticks(rows, [_short(str(term)) for term in terms["term"]])
    axes.set_xlabel("hazard ratio (95 % confidence limits, logarithmic)")
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(
        rows,
        [
            f"{row.hazard_ratio:.2f} [{row.low:.2f}, {row.high:.2f}]  p {row.p:.2g}"
            for row in terms.itertuples()
        ],
        fontsize=8,
    )
    right.tick_params(right=False)
    axes.set_title(title or "Cox proportional hazards")
    return made


def box_by_group(groups: Mapping[str, FloatArray], *, ylabel: str, title: str = "") -> Figure:
    """Values of a measure by category, every patient as a point.

    Parameters
    ----------
    groups : mapping of category to float64 (n,)
        All finite.
    ylabel : str
        The measure with its unit.
    """
    made = figure(max(5.0, 1.2 * len(groups) + 2), 4.5)
    axes = made.add_subplot()
    names = [f"{_short(name, 24)}\n(n={len(values)})" for name, values in groups.items()]
    axes.boxplot(
        list(groups.values()),
        tick_labels=names,
        showfliers=False,
        medianprops={"color": "k", "linewidth": 2},
    )
    random = np.random.default_rng(0)
    for place, values in enumerate(groups.values(), start=1):
        jitter = random.uniform(-0.15, 0.15, len(values))
        axes.plot(place + jitter, values, ".", color="0.45", markersize=4)
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    return made
