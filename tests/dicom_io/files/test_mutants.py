"""A short, seeded run over damaged files; at length: ``python -m tests.dicom_io.files.mutants``."""

from pathlib import Path

import numpy as np

from tests.dicom_io.files import mutants


def test_every_mutant_is_read_or_refused(tmp_path: Path) -> None:
    """No crash, 5 s of processor time and 1 GB each, no study of half the slices."""
    tally = mutants.run(tmp_path, count=200, seed=11)
    assert tally.faults == []
    assert tally.outcomes["refused"] > 10
    assert tally.outcomes["read"] > 10


def test_the_cage_notices_harm(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A reader that crashes, hangs in a loop or eats memory would be found."""
    harms = {
        "crash": lambda *_: 1 / 0,
        "memory": lambda *_: np.ones(1 << 29).sum(),
        "half": lambda *_: mutants.HALF,
    }
    for name, harm in harms.items():
        monkeypatch.setattr(mutants, "_consume", harm)
        tally = mutants.run(tmp_path / name, count=1, seed=1)
        assert len(tally.faults) == 1, name
