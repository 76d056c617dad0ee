"""The methods page keeps up with the program: names, commands, and its example."""

import doctest
import re
from pathlib import Path

import pytest

from mirv.analysis.choices import ReductionMode
from mirv.analysis.heterogeneity import METRICS
from mirv.analysis.patient.response import DEFINITIONS
from mirv.analysis.patient.sampling import STRATEGIES
from mirv.config.spaces import space_names

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_example_of_the_column_shift_runs():
    example = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert example is not None
    test = doctest.DocTestParser().get_doctest(example[1], {}, "methods", str(PAGE), 0)
    assert doctest.DocTestRunner().run(test) == (0, 3)


@pytest.mark.parametrize("mark", [f"{kind}{n}" for kind in "AD" for n in range(1, 12)])
def test_every_ambiguity_and_discrepancy_is_told(mark):
    assert f"**{mark}**" in TEXT


def test_every_name_is_on_the_page():
    names = [metric.name for metric in METRICS] + [*ReductionMode, *space_names()]
    names += [strategy.name for strategy in STRATEGIES]
    names += [f"tsrc_{definition}" for definition in DEFINITIONS]
    assert [name for name in names if f"`{name}" not in TEXT and name not in TEXT] == []
