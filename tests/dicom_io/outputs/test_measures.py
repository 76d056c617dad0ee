"""Measures as concepts: indices by what METRICS says of them."""

from dataclasses import replace

import pytest

from mirv.analysis import heterogeneity
from mirv.analysis.heterogeneity import METRICS, Term
from mirv.dicom_io.model import Code
from mirv.dicom_io.outputs.reports.measure_codes import TITLES, measure_code, measure_title
from mirv.dicom_io.sr.concepts import SCHEME


def test_every_title_is_told_once() -> None:
    assert not {metric.name for metric in METRICS} & set(TITLES)
    titles = [*TITLES.values(), *(metric.title for metric in METRICS)]
    assert len(set(titles)) == len(titles)


def test_an_index_stands_under_the_nodes_own_scheme_by_its_title() -> None:
    for metric in METRICS:
        code = measure_code(metric.name)
        assert (code.scheme, code.meaning) == (SCHEME, metric.title)
        assert measure_title(f"{metric.name}_percentile") == f"{metric.title}, percentile"
    assert measure_title("ath_matrix_percentile", narrow=True).endswith("(matrix), percentile")
    assert measure_title("n_sites") == "Number of metastatic sites"


def test_an_index_with_a_public_concept_stands_under_it_but_not_its_percentile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coded = replace(METRICS[0], code=Term("X1", "IBSI", "Divergence"))
    monkeypatch.setattr(heterogeneity, "METRICS", (coded, *METRICS[1:]))
    assert measure_code("mtd") == Code("X1", "IBSI", "Divergence")
    assert measure_code("mtd_percentile").scheme == SCHEME
