"""Write the deviation table of `docs/ibsi.md` anew: ``python -m tests.analysis.ibsi_table``."""

from pathlib import Path

from analysis.extraction import Extractor
from tests.analysis.test_extraction_ibsi import deviations
from tests.conftest import SHARED

PAGE = Path(__file__).parents[2] / "docs" / "ibsi.md"
MARK = "<!-- table -->\n"

if __name__ == "__main__":
    with Extractor(1) as pool:
        table = deviations(SHARED, pool)
    head = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    PAGE.write_text(f"{head}{MARK}\n{table}\n", encoding="utf-8")
