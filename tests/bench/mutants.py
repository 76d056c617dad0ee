"""20,000 damaged files: each read or refused, in time and memory; no rival, but counted."""

import tempfile
from pathlib import Path

from tests.dicom_io.files.mutants import MEMORY, SECONDS
from tests.dicom_io.files.mutants import run as run_mutants

COUNT = 20_000


def run() -> list[str]:
    """One row: what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        tally = run_mutants(Path(folder), COUNT, seed=7)
    outcomes = ", ".join(f"{n} {what}" for what, n in sorted(tally.outcomes.items()))
    return [
        f"{COUNT} mutated files: {outcomes}; slowest {tally.slowest:.2f} s of {SECONDS} s, largest "
        f"{tally.largest >> 20} of {MEMORY >> 20} MB; {len(tally.faults)} fault(s)",
        *tally.faults[:20],
    ]
