"""``make bench``: each module's rows, ratios to named rivals measured in the same run.

``python -m tests.bench [name ...]`` runs only the modules named; the long ones only when named.
"""

import importlib
import sys
import time

MODULES = (
    "starting", "line", "extraction", "reading", "mutants", "analyses", "outputs", "ingest",
    "sizing",
)  # fmt: skip
LONG = ("load", "service", "powercut", "crash", "attack")


def main(names: list[str]) -> int:
    """Run benches by name; all when none is named."""
    known = MODULES + LONG
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no bench {', '.join(unknown)}: there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or MODULES:
        started = time.perf_counter()
        print(f"== {name}", flush=True)
        for row in importlib.import_module(f"tests.bench.{name}").run():
            print(row, flush=True)
        print(f"   ({time.perf_counter() - started:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
