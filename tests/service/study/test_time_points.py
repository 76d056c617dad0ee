"""Every row says whose it is, of which study, and which time point that is."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import QualityOutcome, QualityRow
from mirv.dicom_io.standard.person import Identity
from mirv.service.research.pseudonym import pseudonymised
from mirv.service.runtime.node_folder import NodeFolder
from mirv.service.study import result_record, result_tables, table_files
from mirv.service.study.result_record import ResultRecord
from mirv.service.study.time_points import (
    KEY_COLUMNS,
    cohorts_of,
    day_of,
    key_rows,
    ordinals,
    persons_of,
)
from tests.service.study.test_result_tables import lesion, record

TABLES = ("lesions", "patients", "pairs", "variation", "quality")


def of(patient: str, uid: str, day: str, born: str = "", n_lesions: int = 3) -> ResultRecord:
    """A study of a person; the same PatientID with another birth date is another person."""
    lesions = tuple(lesion(n, tracking_uid=f"2.25.{uid}{n:03d}") for n in range(1, n_lesions + 1))
    base = record(patient_id=patient, study_uid=uid, study_date=day, series_uid=f"{uid}.1")
    measures = base.result.measures
    result = StudyResult(
        lesions,
        (replace(measures[0]), replace(measures[1], value=float(n_lesions))),
        base.result.pairs,
        base.result.variation,
        base.result.provenance,
    )
    identity = Identity(patient, birth_date=born)
    quality = tuple(replace(row, study_uid=uid) for row in base.quality)
    return replace(base, result=result, identity=identity, quality=quality)


def history() -> list[ResultRecord]:
    return [
        of("P", "1.3", "20240601", "19500101"),
        of("P", "1.2", "20240101", "19500101"),
        replace(of("P", "1.2", "20240101", "19500101"), series_uid="1.2.2"),
        of("P", "1.9", "20230101", "19810101"),
        of("P", "1.4", "", "19500101"),
        of("Q", "1.5", "2024.01.01"),
        of("", "1.6", "20240101"),
    ]


def test_time_points_are_a_persons_own_and_two_series_share_one(tmp_path: Path) -> None:
    """The namesake with another birth date, the undated and the nameless study move nothing."""
    for records in permutations(history(), 7):
        found = {
            (one.series_uid, one.study_date): row["time_point"]
            for one, row in zip(records, key_rows(records), strict=True)
        }
        assert found == {
            ("1.2.1", "20240101"): 1,
            ("1.2.2", "20240101"): 1,
            ("1.3.1", "20240601"): 2,
            ("1.9.1", "20230101"): 1,
            ("1.4.1", ""): None,
            ("1.5.1", "2024.01.01"): 1,
            ("1.6.1", "20240101"): None,
        }
    keys = persons_of(history())
    assert len(set(keys)) == 4
    assert keys[0] == keys[1] == keys[4] != keys[3]
    assert keys[5:] == ["Q", ""]


def test_studies_of_one_day_are_ordered_by_uid() -> None:
    day = day_of("20240101")
    assert ordinals([("p", "2", day), ("p", "1", day)]) == {("p", "1"): 1, ("p", "2"): 2}


@pytest.mark.parametrize("text", ["", "2024", "20240230", "2024-1-01", "2024.01-01", "٢٠٢٤٠١٠١"])
def test_what_is_no_date_has_no_time_point(text: str) -> None:
    assert day_of(text) is None


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_table_carries_them(tmp_path: Path, kind: str) -> None:
    refusal = QualityRow(
        study_uid="1.8", series_uid="1.8.1", check="kernel", outcome=QualityOutcome.REFUSED
    )
    table_files.write_tables(tmp_path, history(), [refusal], kind)  # type: ignore[arg-type]
    points = {("1.2", "1"), ("1.3", "2"), ("1.9", "1"), ("1.4", ""), ("1.5", "1"), ("1.6", "")}
    for name in TABLES:
        path = tmp_path / f"{name}.{kind}"
        table = pd.read_csv(path, dtype=str) if kind == "csv" else pd.read_parquet(path)
        table["time_point"] = table["time_point"].astype("Int64").astype("string").fillna("")
        found = set(zip(table["study_uid"], table["time_point"], strict=True))
        assert found == points | ({("1.8", "")} if name == "quality" else set()), name
        assert set(KEY_COLUMNS) <= set(table.columns)
        own = table[table["study_uid"].isin(["1.2", "1.3"])]
        assert own["person"].nunique() == 1
        assert set(table.loc[table["study_uid"] == "1.9", "person"]).isdisjoint(own["person"])


def test_a_record_of_an_earlier_version_knows_its_patient_id() -> None:
    """As it was stored before: without an identity."""
    data = result_record.to_bytes(replace(record(), identity=Identity("PAT-SENTINEL", "ISSUER")))
    assert result_record.from_bytes(data).identity == Identity("PAT-SENTINEL", "ISSUER")
    text = result_record.to_bytes(record()).replace(
        b'"identity": {"birth_date": "", "issuer": "", "name": "", "patient_id": "", "sex": ""}, ',
        b"",
    )
    length = int.from_bytes(text[:8], "little") - (
        len(result_record.to_bytes(record())) - len(text)
    )
    old = result_record.from_bytes(length.to_bytes(8, "little") + text[8:])
    assert old.identity == Identity("PAT-SENTINEL")
    assert persons_of([old, record()]) == ["PAT-SENTINEL"] * 2


def test_pseudonymised_tables_tell_two_persons_apart_and_name_neither(tmp_path: Path) -> None:
    """The key of a person begins with the PatientID: nothing of it may leave."""
    records = [
        replace(one, identity=replace(one.identity, name="SENTINEL^NAME", sex="F"))
        for one in history()
        if one.patient_id == "P"
    ]
    named = [replace(one, patient_id="PAT-SENTINEL") for one in records]
    named = [
        replace(one, identity=replace(one.identity, patient_id="PAT-SENTINEL")) for one in named
    ]
    hidden = list(pseudonymised(named, NodeFolder(tmp_path)))
    table_files.write_tables(tmp_path / "out", hidden)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    for secret in (b"SENTINEL", b"19500101", b"19810101", *(k.encode() for k in persons_of(named))):
        assert secret not in everything, secret
    before, after = key_rows(named), key_rows(hidden)
    assert [row["time_point"] for row in after] == [row["time_point"] for row in before]
    assert len({row["person"] for row in after}) == 2
    assert b"SENTINEL" not in result_record.to_bytes(hidden[0])


def test_cohorts_of_henry_2022() -> None:
    """L stops at a hundred lesions; all studies of a person have the cohort of the first one."""
    counts = {"A": 30, "B": 9, "C": 28, "D": 69, "E": 40, "F": 2, "G": 5, "H": 6, "I": 14, "J": 1}
    records = [
        of(name, f"1.{n}", "20240101", n_lesions=own)
        for n, (name, own) in enumerate(counts.items())
    ]
    records += [
        of("A", "1.50", "20240601", n_lesions=31),
        of("F", "1.51", "", n_lesions=15),
        of("", "1.52", "", n_lesions=15),
    ]
    found = dict(zip((one.study_uid for one in records), cohorts_of(records), strict=True))
    assert list(found.values()) == [
        ("L", "M-multi"),
        (),
        ("L", "M-multi"),
        ("L", "M-multi"),
        ("M-multi",),
        ("M-oligo",),
        ("M-oligo",),
        (),
        (),
        (),
        ("L", "M-multi"),
        ("M-oligo",),
        (),
    ]
    columns, rows = result_tables.lesion_rows(records)
    assert "cohort" in columns
    assert {row["cohort"] for row in rows if row["patient_id"] == "C"} == {"L;M-multi"}


def test_the_cohort_is_of_all_lesions_when_some_are_exported() -> None:
    whole = of("A", "1.1", "20240101", n_lesions=16)
    some = replace(whole, result=replace(whole.result, lesions=whole.result.lesions[:3]))
    assert cohorts_of([some]) == [("L", "M-multi")]
