"""The list of patients: text stays text, and a fault is told by its line, without a patient."""

from datetime import date
from pathlib import Path

import pytest

from mirv.config.errors import BadInput
from mirv.dicom_io.standard.person import Identity
from mirv.service.research.retrieval.patient_list import read_patients

HEAD = "patient_id,index_date"


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_identifiers_are_text_and_dates_of_both_kinds(tmp_path: Path, delimiter: str) -> None:
    lines = [
        "\ufeffIndex_Date,patient_id,birth_date,issuer",
        "20210301, 007 ,,",
        "2021-02-28,7,1960-01-01,A&1.2",
        "",
        "20210301,NA,19600101,",
        '20210301,"1.10",,',
    ]
    path = written(tmp_path / "list.csv", *(line.replace(",", delimiter) for line in lines))
    assert [(one.identity, one.index_date) for one in read_patients(path)] == [
        (Identity("007"), date(2021, 3, 1)),
        (Identity("7", "A&1.2", "19600101"), date(2021, 2, 28)),
        (Identity("NA", "", "19600101"), date(2021, 3, 1)),
        (Identity("1.10"), date(2021, 3, 1)),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SECRET*,20210301", "without \\*, \\? and"),
        ("SECRET?,20210301", "without"),
        ("SECRET\\X,20210301", "without"),
        ("SECRET" * 20 + ",20210301", "at most 64"),
        ("SEC\x07RET,20210301", "patient_id"),
        (",20210301", "patient_id: found none"),
        ("SECRET,", "index_date: wanted"),
        ("SECRET,1.3.2021", "index_date: wanted"),
        ("SECRET,20210230", "index_date: wanted"),
        ("SECRET,2021060", "index_date: wanted"),
        ("SECRET,2021-W09-1", "index_date: wanted"),
        ("SECRET,٢٠٢١٠٣٠١", "index_date: wanted"),
        ("SECRET", "found 1 cells, wanted 2"),
        ("SECRET,20210301,SECRET", "found 3 cells, wanted 2"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_without_its_patient(
    tmp_path: Path, line: str, said: str
) -> None:
    path = written(tmp_path / "list.csv", HEAD, "A,20210301", line, "B,2021")
    with pytest.raises(BadInput, match=said) as refused:
        read_patients(path)
    assert "2 fault(s)" in str(refused.value)
    assert "line 3: " in str(refused.value) and "line 4: " in str(refused.value)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize(
    "head",
    ["", "patient_id", "index_date", f"{HEAD},birthdate", f"{HEAD},index_date", "id,index_date"],
)
def test_columns_are_known_and_stand_once(tmp_path: Path, head: str) -> None:
    """A misspelt birth_date would be a check that is not made."""
    with pytest.raises(BadInput, match="wanted patient_id, index_date and"):
        read_patients(written(tmp_path / "list.csv", head, "A,20210301,19600101"))


def test_a_person_stands_once(tmp_path: Path) -> None:
    head = f"{HEAD},issuer,birth_date"
    two = written(tmp_path / "two.csv", head, "A,20210301,,19600101", "A,20210301,,19700101")
    assert len(read_patients(two)) == 2
    for line in ("A,20210401,,19600101", "A,20210301,X,"):
        path = written(tmp_path / "list.csv", head, "A,20210301,,19600101", line)
        with pytest.raises(BadInput, match="lines 2 and 3: found the same patient_id"):
            read_patients(path)
    with pytest.raises(BadInput, match="found no patient"):
        read_patients(written(tmp_path / "list.csv", head))
    with pytest.raises(BadInput, match="found no CSV"):
        read_patients(written(tmp_path / "list.csv", head, '"A,20210301'))
