"""Where a run's tables, figures and provenance go."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pandas as pd

from mirv.analysis.cohort.figures import Drawing, save
from mirv.analysis.model import Measure
from mirv.config.errors import opening
from mirv.service.research.cohort.joins import Report
from mirv.service.research.cohort.source import Cohort, Input
from mirv.service.study.result_tables import to_csv
from mirv.service.study.table_files import NOTICE

PACKAGES = ("mirv-node", "numpy", "scipy", "pandas", "lifelines", "matplotlib")
T = TypeVar("T")


class Watch(Protocol):
    """Shows how far an iteration is: where there is a terminal, a bar."""

    def __call__(self, sequence: Sequence[T], what: str, /) -> Iterable[T]:
        """The same members, in the same order."""


def unwatched(sequence: Sequence[T], _what: str, /) -> Iterable[T]:
    """Shows nothing."""
    return sequence


class Sink:
    """A folder that receives one run.

    Parameters
    ----------
    folder : Path
        Made when missing.
    table_format : "csv" or "parquet"
    command : str
        Name of the command, for the provenance.
    options : mapping
        Everything that can change a number.
    watch : Watch
        What long iterations go through.

    Attributes
    ----------
    notes : list of str
        What a reader of the numbers must know; who opened the sink tells the user.
    """

    def __init__(
        self,
        folder: Path,
        table_format: Literal["csv", "parquet"],
        command: str,
        options: Mapping[str, Any],
        watch: Watch = unwatched,
    ) -> None:
        with opening():
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.written: list[Path] = []
        self.notes: list[str] = []
        self.watch = watch
        self._format = table_format
        self._provenance: dict[str, Any] = {
            "notice": NOTICE,
            "command": command,
            "options": dict(options),
            "versions": {name: version(name) for name in PACKAGES},
            "inputs": [],
            "joins": [],
            "notes": self.notes,
        }

    def inputs(self, found: Iterable[Input]) -> None:
        """Name what was read."""
        self._provenance["inputs"] += [asdict(one) for one in found]

    def note(self, text: str) -> None:
        """Something a reader of the numbers must know: into the provenance and `notes`."""
        self.notes.append(text)

    def report(self, found: Report) -> None:
        """How what was read came together: notes, and every join for the provenance."""
        self.notes.extend(found.notes)
        self._provenance["joins"] += found.joins

    def fact(self, name: str, content: Any) -> None:
        """One more entry of the provenance."""
        self._provenance[name] = content

    def table(self, name: str, content: pd.DataFrame) -> None:
        """Write a tidy table; an empty one keeps its header.

        Parameters
        ----------
        name : str
            Of the file, without its ending.
        content : DataFrame
        """
        path = self.folder / f"{name}.{self._format}"
        if self._format == "csv":
            columns = [str(column) for column in content.columns]
            rows = (
                dict(zip(columns, map(_plain, row), strict=True))
                for row in content.itertuples(index=False, name=None)
            )
            path.write_bytes(to_csv(columns, rows))
        else:
            content.assign(**_nulls(content)).to_parquet(path, index=False)
        self.written.append(path)

    def figure(self, name: str, made: Drawing) -> None:
        """Write a figure as PNG."""
        path = self.folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written.append(save(made, path))

    def text(self, name: str, content: str) -> None:
        """Write a text file.

        Parameters
        ----------
        name : str
            Of the file, with its ending.
        content : str
        """
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        self.written.append(path)

    def close(self) -> list[Path]:
        """Write ``provenance.json`` and give all paths."""
        content = json.dumps(self._provenance, indent=1, sort_keys=True, default=str)
        self.text("provenance.json", content + "\n")
        return self.written


def _nulls(content: pd.DataFrame) -> dict[str, "pd.Series[Any]"]:
    """Columns of text with None for no text: an empty cell of a CSV."""
    texts = content.select_dtypes(object)
    return {str(name): texts[name].where(texts[name] != "", None) for name in texts}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return int(value) if isinstance(value, bool) else value


def wide(rows: Sequence[tuple[Mapping[str, Any], Sequence[Measure]]]) -> pd.DataFrame:
    """One row a patient: key columns, then each measure and its reason.

    Parameters
    ----------
    rows : sequence of (mapping, sequence of Measure)
        Key columns and measures of a patient.

    Returns
    -------
    DataFrame
    """
    made = []
    counts: dict[str, None] = {}
    for key, measures in rows:
        row = dict(key)
        for measure in measures:
            if measure.unit == "{count}":
                counts[measure.name] = None
            row[measure.name] = measure.value
            row[f"{measure.name}_reason"] = str(measure.reason) if measure.reason else None
        made.append(row)
    return pd.DataFrame(made).astype(dict.fromkeys(counts, "Int64"))


def left_out(cohort: Cohort, sink: Sink, more: Sequence[tuple[int, str, str]] = ()) -> None:
    """Write which lesions did not take part, and say how many."""
    rows = [(row, label, str(reason)) for row, label, reason in cohort.left_out]
    rows += list(more)
    sink.table("left_out", pd.DataFrame(rows, columns=["row", "lesion", "reason"]))
    if rows:
        sink.note(f"{len(rows)} lesion(s) did not take part: see left_out")
