"""Rows of two tables joined by a named key: the one way two tables meet, and what it reports."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mirv.analysis.errors import Unsuitable
from mirv.analysis.tables import identifiers, require_columns

MOST_NAMED = 20
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keyed:
    """The rows of a table by their key.

    Attributes
    ----------
    name : str
        What messages call the table.
    columns : tuple of str
        The key's.
    keys : list of tuple of str
        One a row.
    """

    name: str
    columns: tuple[str, ...]
    keys: list[Key]


@dataclass(frozen=True, slots=True)
class Join:
    """Which rows of two tables belong together.

    Attributes
    ----------
    left, right : Keyed
    pairs : list of (int, int)
        Rows of both sides with equal keys, in the order of the left one.
    left_only, right_only : list of int
        Rows without a partner.
    """

    left: Keyed
    right: Keyed
    pairs: list[tuple[int, int]]
    left_only: list[int]
    right_only: list[int]


@dataclass(slots=True)
class Report:
    """What a reader of the numbers must know of how they came together.

    Attributes
    ----------
    notes : list of str
    joins : list of dict
        Every join with all its unmatched keys, for the provenance.
    """

    notes: list[str] = field(default_factory=list)
    joins: list[dict[str, Any]] = field(default_factory=list)

    def joined(self, found: Join) -> None:
        """Count what a join matched, and name what it did not."""
        left, right = found.left, found.right
        alone = [
            (left.name, [named(left.keys[row]) for row in found.left_only]),
            (right.name, [named(right.keys[row]) for row in found.right_only]),
        ]
        self.joins.append(
            {
                "on": list(left.columns),
                "tables": [left.name, right.name],
                "matched": len(found.pairs),
                "unmatched": [keys for _, keys in alone],
            }
        )
        told = [f"{len(keys)} only in {name} ({listed(keys)})" for name, keys in alone if keys]
        if told:
            on = ", ".join(left.columns)
            self.notes.append(
                f"{left.name} and {right.name} joined on {on}: {len(found.pairs)} matched, "
                + ", ".join(told)
            )

    def nobody(self, detail: str) -> Unsuitable:
        """The refusal of what leaves nobody, with what was noted on the way to it."""
        return Unsuitable("no_patients", "; ".join([detail, *self.notes]))


def keyed(table: pd.DataFrame, columns: Sequence[str], name: str) -> Keyed:
    """The rows of a table by named columns.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str
    name : str
        What messages call the table.

    Raises
    ------
    Unsuitable
        ``missing_column``, ``missing_value``: names the column (and row).
    """
    require_columns(table, columns, name)
    texts = [identifiers(table, column, name) for column in columns]
    return Keyed(name, tuple(columns), list(zip(*texts, strict=True)))


def join(left: Keyed, right: Keyed) -> Join:
    """Match rows by equal keys; identifiers are text, blanks around them do not count.

    Parameters
    ----------
    left, right : Keyed
        Under keys of the same meaning.

    Returns
    -------
    Join

    Raises
    ------
    Unsuitable
        ``missing_column``: the two sides are not known by the same columns; ``repeated_key``: a
        key stands in two rows of a side; names both.
    """
    if left.columns != right.columns:
        sides = [f"{side.name} by {', '.join(side.columns)}" for side in (left, right)]
        raise Unsuitable(
            "missing_column", f"rows are known in {' and in '.join(sides)}: wanted the same columns"
        )
    ours, theirs = _rows(left), _rows(right)
    return Join(
        left,
        right,
        pairs=[(row, theirs[key]) for key, row in ours.items() if key in theirs],
        left_only=[row for key, row in ours.items() if key not in theirs],
        right_only=[row for key, row in theirs.items() if key not in ours],
    )


def refuse_repeated(side: Keyed) -> None:
    """Check that no key stands in two rows.

    Raises
    ------
    Unsuitable
        ``repeated_key``.
    """
    _rows(side)


def named(key: Key) -> str:
    """A key for people."""
    return " ".join(key)


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _rows(side: Keyed) -> dict[Key, int]:
    rows: dict[Key, int] = {}
    for row, key in enumerate(side.keys):
        if key in rows:
            columns = ", ".join(map(repr, side.columns))
            raise Unsuitable(
                "repeated_key",
                f"{side.name}: column {columns}: {named(key)!r} stands in rows {rows[key] + 1} and "
                f"{row + 1}, wanted one row each: choose rows, or name what tells them apart",
            )
        rows[key] = row
    return rows
