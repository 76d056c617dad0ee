"""The table of `docs/ibsi.md`; ``python -m tests.analysis.features.ibsi_table`` writes it anew."""

from pathlib import Path

from mirv.analysis.extraction.pool import Extractor
from tests.analysis.features.test_ibsi import deviations
from tests.conftest import SHARED

PAGE = Path(__file__).parents[3] / "docs" / "ibsi.md"
MARK = "<!-- table -->\n"

if __name__ == "__main__":
    with Extractor(1) as pool:
        table = deviations(SHARED, pool)
    head = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n{table}\n", encoding="utf-8")
