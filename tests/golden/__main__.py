"""``python -m tests.golden``: record anew what the golden test compares with.

``python -m tests.golden CASE FOLDER FILE`` measures one case in this process: its outputs go into
the folder, the digests into the file.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.conftest import SHARED
from tests.golden import recorded
from tests.golden.cases import CASES, measure


def main(arguments: list[str]) -> None:
    """Measure one case, or record all."""
    if arguments:
        case, folder, file = arguments
        content = measure(CASES[case], SHARED, Path(folder))
        Path(file).write_text(json.dumps(content), encoding="utf-8")
        return
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            measured[name] = recorded.measure_apart(name, Path(folder))
            print(f"{name}: {len(measured[name]['files'])} files")
    recorded.save(measured)
    print(f"{recorded.RECORDED}: {recorded.RECORDED.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
