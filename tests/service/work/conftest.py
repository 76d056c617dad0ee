"""Whatever a test here has DBOS keep of arguments and results is plain data."""

import base64
import io
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

KEPT = (
    ("workflow_status", ("inputs", "output")),
    ("workflow_input", ("inputs",)),
    ("workflow_output", ("output",)),
    ("operation_outputs", ("output",)),
)


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # It would be lost with work in flight as soon as the class moves.
        raise AssertionError(f"DBOS was given {module}.{name}, wanted plain data")


@pytest.fixture(autouse=True)
def only_plain_data_is_kept(tmp_path: Path) -> Iterator[None]:
    """Look through the books that a test left."""
    yield
    books = tmp_path / "workflows.sqlite"
    if not books.exists():
        return
    with closing(sqlite3.connect(books)) as connection:
        for table, columns in KEPT:
            for column in columns:
                query = f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608
                for (text,) in connection.execute(query):
                    _Plain(io.BytesIO(base64.b64decode(text))).load()
