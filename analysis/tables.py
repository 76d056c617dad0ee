"""Tables from outside: read, checked, and refused with column and row named."""

import re
import warnings
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirv.analysis.errors import Unsuitable

FEATURE_NAME = re.compile(
    r"^[A-Za-z0-9.\-]+_(shape|shape2D|firstorder|glcm|glrlm|glszm|gldm|ngtdm)_[A-Za-z0-9]+$"
)
"""How PyRadiomics writes a feature: image type, class, name."""
IDENTIFIERS = frozenset(
    {
        *("patient_id", "person", "study_uid", "series_uid", "segmentation_uid", "object_uid"),
        *("lesion", "tracking_uid", "lesion_a", "lesion_b", "tracking_uid_a", "tracking_uid_b"),
        *("study_date", "time_point", "index_date"),
    }
)
"""Columns that are text in every table, whatever they look like: 1.1 and 1.10 are two lesions."""
_QUOTED = re.compile(r"'[-=+@]")


def read_table(path: Path, text_columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a CSV (``.csv``, ``.csv.gz``) or Parquet table.

    CSV is UTF-8 with or without byte-order mark, with commas, semicolons or tabs.

    Parameters
    ----------
    path : Path
    text_columns : iterable of str
        Columns of identifiers beside `IDENTIFIERS`. They are text as written, whatever it looks
        like (``007``, ``1.10``, ``NA``), without blanks around it.

    Raises
    ------
    Unsuitable
        ``unreadable_table``: no such file, not a table, or no rows; ``repeated_column``;
        ``not_text``: a Parquet column of identifiers holds floating-point numbers.
    """
    texts = IDENTIFIERS | {name for name in text_columns if name}
    try:
        table = _read_parquet(path, texts) if path.suffix == ".parquet" else _read_csv(path, texts)
    except (OSError, ValueError, ImportError) as error:  # pandas raises ValueError for bad content
        raise Unsuitable("unreadable_table", f"{path.name or path}: {error}") from error
    except pd.errors.ParserWarning as error:
        detail = f"{path.name}: found a row with more cells than the header names columns"
        raise Unsuitable("unreadable_table", detail) from error
    if table.empty:
        raise Unsuitable("unreadable_table", f"{path.name}: found no rows, wanted at least one")
    repeated = sorted({str(name) for name in table.columns[table.columns.duplicated()]})
    if repeated:
        raise Unsuitable(
            "repeated_column", f"{path.name}: column {repeated[0]!r} stands there twice"
        )
    return table


def identifier(text: str) -> str:
    """An identifier as it is compared: without blanks around it.

    The quote that our own CSV puts before what a spreadsheet would calculate is no part of it.
    """
    plain = text.strip()
    return plain[1:] if _QUOTED.match(plain) else plain


def _read_csv(path: Path, texts: Set[str]) -> pd.DataFrame:
    """The table under the names of its header, as they stand there.

    Left to itself, pandas gives a second column of a name another one, and takes the first column
    for an index when rows are longer than the header: every value then stands under a wrong name.
    """
    options: dict[str, Any] = {"encoding": "utf-8-sig", "low_memory": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        only_header: dict[str, Any] = {"header": None, "nrows": 1, "dtype": str, "na_filter": False}
        header = pd.read_csv(path, **only_header, **options)
        others = [sign for sign in ";\t" if sign in str(header.iloc[0, 0])]
        if others and header.shape[1] == 1:  # as spreadsheets write where numbers have commas
            options["sep"] = others[0]
            header = pd.read_csv(path, **only_header, **options)
        names = [str(name) for name in header.iloc[0]]
        there = [name for name in dict.fromkeys(names) if name in texts]
        table: pd.DataFrame = pd.read_csv(
            path,
            float_precision="round_trip",
            converters=dict.fromkeys(there, identifier),  # a dtype would take NA for no value
            index_col=False,
            **options,
        )
    for name in there:
        table[name] = _texts(table[name])
    named = [name for name in names if name]  # spreadsheets add empty columns at the end
    if len(set(named)) < len(named) and len(names) == table.shape[1]:
        table.columns = pd.Index(names)  # refused with the rest of what stands there twice
    return table


def _read_parquet(path: Path, texts: Set[str]) -> pd.DataFrame:
    table = pd.read_parquet(path)
    there = [str(name) for name in table.columns if name in texts]
    if not there:
        return table
    # Whole numbers beside an empty cell become floating-point ones, unless asked not to.
    exact = pd.read_parquet(path, columns=there, dtype_backend="numpy_nullable")
    for name in there:
        if pd.api.types.is_float_dtype(exact[name]) and exact[name].notna().any():
            raise Unsuitable(
                "not_text",
                f"{path.name}: column {name!r} holds floating-point numbers, wanted text: the "
                "digits of an identifier as they were written are lost",
            )
        table[name] = _texts(exact[name].astype("string").fillna("").map(identifier))
    return table


def _texts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Text, None where there is none."""
    return column.astype(object).where(column != "", None)


def require_columns(table: pd.DataFrame, columns: Sequence[str], where: str = "table") -> None:
    """Check that `columns` are there, and each named once.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str
    where : str
        What the message calls the table.

    Raises
    ------
    Unsuitable
        ``missing_column``: names the first ones missing and what the table has;
        ``repeated_column``: names the first one asked for twice.
    """
    if len(set(columns)) < len(columns):
        twice = next(name for n, name in enumerate(columns) if name in columns[:n])
        raise Unsuitable("repeated_column", f"column {twice!r} is named twice, wanted once")
    missing = [name for name in columns if name not in table.columns]
    if missing:
        have = ", ".join(map(str, table.columns[:6])) + (" ..." if table.shape[1] > 6 else "")
        lacking = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" * (len(missing) > 3))
        raise Unsuitable("missing_column", f"{where} has no column {lacking}; it has {have}")


def numeric(
    table: pd.DataFrame, columns: Sequence[str], *, missing_allowed: bool = False
) -> pd.DataFrame:
    """The columns as float64.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str
    missing_allowed : bool
        Whether an empty cell is a value that is not there (NaN) or a fault.

    Raises
    ------
    Unsuitable
        ``missing_column``, ``not_a_number`` (text or infinity), ``missing_value``: the message
        names column and row, counted from 1 below the header.
    """
    require_columns(table, columns)
    if all(dtype == np.float64 for dtype in table[list(columns)].dtypes):
        found = table[list(columns)].copy()
    else:
        found = pd.DataFrame({name: _to_float(table[name], name) for name in columns})
    values = found.to_numpy()
    bad = np.isinf(values) if missing_allowed else ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        code = "missing_value" if np.isnan(values[row, column]) else "not_a_number"
        cell = "no value" if code == "missing_value" else values[row, column]
        raise Unsuitable(
            code,
            f"column {columns[column]!r}, row {row + 1}: found {cell}, wanted a finite number"
            + (f" ({int(bad.sum())} such cells)" if bad.sum() > 1 else ""),
        )
    return found


def _to_float(column: "pd.Series[Any]", name: str) -> "pd.Series[float]":
    numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
    text = numbers.isna() & column.notna()
    if text.any():
        row = int(np.flatnonzero(text.to_numpy())[0])
        raise Unsuitable(
            "not_a_number",
            f"column {name!r}, row {row + 1}: found {column.iloc[row]!r}, wanted a number",
        )
    return numbers


def identifiers(table: pd.DataFrame, column: str, where: str = "table") -> list[str]:
    """A column of identifiers as text.

    Parameters
    ----------
    table : DataFrame
    column : str
    where : str
        What the message calls the table.

    Raises
    ------
    Unsuitable
        ``missing_column`` or ``missing_value``, with the row.
    """
    require_columns(table, [column], where)
    empty = (table[column].isna() | (table[column] == "")).to_numpy()
    if empty.any():
        raise Unsuitable(
            "missing_value",
            f"{where}: column {column!r}, row {int(np.flatnonzero(empty)[0]) + 1}: "
            "found no value, wanted an identifier",
        )
    return [identifier(str(value)) for value in table[column]]


def feature_columns(table: pd.DataFrame) -> list[str]:
    """The columns named as PyRadiomics names features, in the table's order.

    Parameters
    ----------
    table : DataFrame

    Raises
    ------
    Unsuitable
        ``missing_column`` when there is none.
    """
    found = [str(name) for name in table.columns if FEATURE_NAME.match(str(name))]
    if not found:
        raise Unsuitable(
            "missing_column",
            "the table has no column named like a feature (original_shape_Sphericity)",
        )
    return found
