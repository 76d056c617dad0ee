"""Lesions for analysis tests, made of plain numbers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import settings

from mirv.analysis.errors import Reason
from mirv.analysis.model import LesionResult, Provenance

# The machine may be busy: no example is wrong for being slow.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Maker = Callable[..., list[LesionResult]]


@pytest.fixture(scope="session")
def lesions() -> Maker:
    """Make one LesionResult a row of a feature table."""

    def make(
        values: Sequence[Sequence[float]],
        *,
        profile: str = "mirv2025",
        names: Sequence[str] | None = None,
        sites: Sequence[str] | None = None,
        volumes: Sequence[float] | None = None,
        missing: Mapping[int, str] | None = None,
        excluded: Sequence[int] = (),
    ) -> list[LesionResult]:
        table = np.asarray(values, float)
        columns = tuple(names or (f"f{index}" for index in range(table.shape[1])))
        made = []
        for row, vector in enumerate(table):
            absent = (
                {missing[row]: Reason("failed", "no value")} if missing and row in missing else {}
            )
            for name in absent:
                vector = np.where(np.array(columns) == name, np.nan, vector)
            made.append(
                LesionResult(
                    number=row + 1,
                    label=f"L{row + 1}",
                    tracking_id=f"L{row + 1}",
                    tracking_uid=f"2.25.{row + 1}",
                    site=sites[row] if sites else "lung",
                    volume_ml=volumes[row] if volumes else float(row + 1),
                    profile=profile,
                    names=columns,
                    values=np.full(len(columns), np.nan) if row in excluded else vector,
                    missing=absent,
                    excluded=Reason("timeout", "no features") if row in excluded else None,
                )
            )
        return made

    return make


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    """An empty provenance."""
    return Provenance("0" * 64, {}, {}, {})
