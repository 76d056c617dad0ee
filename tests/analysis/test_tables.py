"""Tables from outside: what is wrong is named by column and row."""

from pathlib import Path

import pandas as pd
import pytest

from mirv.analysis.errors import Unsuitable
from mirv.analysis.tables import feature_columns, identifiers, numeric, read_table


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def refused(call, *arguments):
    with pytest.raises(Unsuitable) as refusal:
        call(*arguments)
    return refusal.value.reason


def test_byte_order_mark_and_number_like_identifiers(tmp_path):
    path = write(tmp_path / "t.csv", "\ufeffpatient,original_shape_Flatness\n007,0.1\n008,0.2\n")
    table = read_table(path, ["patient"])
    assert identifiers(table, "patient") == ["007", "008"]
    assert feature_columns(table) == ["original_shape_Flatness"]


def test_parquet_equals_csv(tmp_path):
    table = pd.DataFrame({"patient": ["a", "b"], "x": [0.1, 1 / 3]})
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "t.parquet", ["patient"]), read_table(tmp_path / "t.csv", ["patient"])
    )


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\xff\xfe\x00\x01", b'a,b\n1,"2\n'])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert refused(read_table, path).code == "unreadable_table"
    assert refused(read_table, tmp_path / "none.csv").code == "unreadable_table"


def test_faults_name_column_and_row():
    table = pd.DataFrame({"p": ["a", None], "x": ["1", "two"], "y": [1.0, None], "z": [1.0, 2.0]})
    assert "'x', row 2: found 'two'" in refused(numeric, table, ["z", "x"]).detail
    assert "'y', row 2: found no value" in refused(numeric, table, ["y"]).detail
    assert refused(numeric, table, ["w"]).code == "missing_column"
    assert "'p', row 2" in refused(identifiers, table, "p").detail
    assert refused(feature_columns, table).code == "missing_column"
    assert numeric(table, ["y"], missing_allowed=True)["y"].isna().sum() == 1


def test_infinity_is_no_number():
    table = pd.DataFrame({"x": [1.0, float("inf")]})
    assert refused(numeric, table, ["x"]).code == "not_a_number"


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = write(tmp_path / "t.csv", "patient,age,x,age\nA,1,2,9\nB,2,3,8\n")
    assert refused(read_table, path).code == "repeated_column"


def test_longer_rows_shift_no_column(tmp_path):
    """pandas would take the first column for an index: public trap pandas-dev, index_col=False."""
    path = write(tmp_path / "t.csv", "patient,x,y\nA,1,2,\nB,3,4,\n")
    table = read_table(path, ["patient"])
    assert list(table["patient"]) == ["A", "B"] and list(table["x"]) == [1, 3]
    for text in ("patient,x,y\nA,1,2,9\nB,3,4,9\n", "patient,x,y\nA,1,2,9\nB,3,4\n"):
        path = write(tmp_path / "t.csv", text)
        assert refused(read_table, path, ["patient"]).code == "unreadable_table"


def test_empty_columns_at_the_end_are_no_names_that_stand_twice(tmp_path):
    path = write(tmp_path / "t.csv", "patient,x,,\nA,1,,\nB,2,,\n")
    table = read_table(path, ["patient"])
    assert list(table["patient"]) == ["A", "B"] and list(table["x"]) == [1, 2]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_what_a_spreadsheet_separates_cells_by_makes_no_difference(tmp_path, sign):
    text = "\ufeffpatient_id,x\r\n007,0.1\r\n008,0.2\r\n".replace(",", sign)
    table = read_table(write(tmp_path / "t.csv", text))
    assert identifiers(table, "patient_id") == ["007", "008"]
    assert numeric(table, ["x"])["x"].tolist() == [0.1, 0.2]


def test_a_decimal_comma_is_no_number(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "patient_id;x\n007;0,1\n"))
    assert "'x', row 1: found '0,1', wanted a number" in refused(numeric, table, ["x"]).detail


def test_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(read_table, Path()).detail.startswith(".: ")
