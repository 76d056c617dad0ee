"""Figures: drawn without warnings, labelled, the same bytes twice, readable in grey."""

import itertools

import numpy as np
import pandas as pd
import pytest
from lifelines.datasets import load_lung, load_rossi

from mirv.analysis.cohort.figures import (
    LINES,
    Figure,
    box_by_group,
    correlation_map,
    dissimilarity_map,
    forest_plot,
    kaplan_meier_plot,
    recovery_curves,
    save,
    variation_by_class,
)
from mirv.analysis.cohort.survival import cox, kaplan_meier
from mirv.analysis.heterogeneity import distances
from mirv.analysis.patient.sampling import generator, recovery_curve
from mirv.analysis.spaces.clustering import cluster_features

RANDOM = np.random.default_rng(0)
D = distances(RANDOM.uniform(size=(12, 5))).cosine
NAMES = [f"original_glcm_F{i}" for i in range(10)]


def made() -> dict[str, Figure]:
    """One figure of each kind."""
    values = np.random.default_rng(1).normal(size=(30, 10))
    curves = {p: recovery_curve(D, random=generator(0, p)) for p in "ab"}
    variation = pd.DataFrame({"feature": NAMES, "cv_percent": [*range(1, 10), None]})
    terms = cox(load_rossi(), "week", "arrest", ["fin", "age", "prio"]).terms
    return {
        "map": dissimilarity_map(D, [f"LIVER-{i:02d}" for i in range(12)]),
        "recovery": recovery_curves(curves),
        "variation": variation_by_class(variation),
        "correlation": correlation_map(cluster_features(values, NAMES, n_clusters=3)),
        "survival": kaplan_meier_plot(
            kaplan_meier(load_lung(), "time", "status", "sex"), unit="days"
        ),
        "forest": forest_plot(terms),
        "boxes": box_by_group({"a": values[0], "b": values[1]}, ylabel="MIRV distance (1)"),
    }


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return made()


def texts(figure: Figure) -> str:
    """Everything written on a figure."""
    found = []
    for axes in figure.axes:
        found += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(), axes.get_title("left")]
        found += [text.get_text() for text in axes.texts]
        found += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        if axes.get_legend() is not None:
            found += [text.get_text() for text in axes.get_legend().get_texts()]
    return " | ".join(found)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("map", ["LIVER-03", "cosine distance (1 - cos)"]),
        ("recovery", ["75 %", "(%)", "MTD", "ATH (matrix)", "2\n(2)"]),
        ("variation", ["(%)", "glcm\n(n=9)", "1 undefined"]),
        ("correlation", ["10 features in 3 clusters", "original_glcm_F3"]),
        ("survival", ["log-rank p = 0.00131", "time (days)", "138", "at risk", "n=90, events=53"]),
        ("forest", ["hazard ratio", "0.71 [0.49, 1.03]", "fin"]),
        ("boxes", ["MIRV distance (1)", "a\n(n=10)"]),
    ],
)
def test_labels(figures, name, wanted):
    written = texts(figures[name])
    assert [text for text in wanted if text not in written] == []


def test_same_figure_same_bytes(figures, tmp_path):
    again = made()
    for name, figure in figures.items():
        paths = [tmp_path / f"{name}{i}.png" for i in (0, 1)]
        save(figure, paths[0])
        save(again[name], paths[1])
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert paths[0].stat().st_size > 5000


def test_curves_differ_by_more_than_colour(figures):
    for name, drawn in (("recovery", 3), ("survival", 2)):
        lines = [line for line in figures[name].axes[0].lines if len(line.get_xdata()) > 3]
        styles = {line.get_linestyle() for line in lines if line.get_linestyle() != "None"}
        assert len(styles) == drawn
    for first, second in itertools.pairwise(LINES):
        assert first != second


def test_many_lesions_leave_out_their_names():
    many = distances(np.random.default_rng(2).uniform(size=(80, 5))).cosine
    assert "80 in the order" in texts(dissimilarity_map(many, ["x"] * 80))
