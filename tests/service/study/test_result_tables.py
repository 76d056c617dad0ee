"""Tables: columns as promised, nothing lost, nothing dropped, identical bytes."""

import csv
import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.analysis.errors import Reason
from mirv.analysis.model import (
    LesionChange,
    LesionIdentity,
    LesionResult,
    Measure,
    Pair,
    Provenance,
    StudyResult,
    Variation,
)
from mirv.dicom_io.model import QualityOutcome, QualityRow
from mirv.service.research.pseudonym import Pseudonymiser, load_key
from mirv.service.study import result_record, result_tables, table_files

NAMES = ("original_shape_Sphericity", "original_firstorder_Mean")


def lesion(number: int, **changes: object) -> LesionResult:
    base = LesionResult(
        number=number,
        label=f"L{number}",
        tracking_id=f"LIVER-{number:02d}",
        tracking_uid=f"2.25.{number}",
        site="liver",
        volume_ml=1.5 * number,
        profile="henry2022",
        names=NAMES,
        values=np.array([0.1 * number, -3.25e-17]),
        diagnostics={"voxels": 100.0 + number},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def record(**changes: object) -> result_record.ResultRecord:
    result = StudyResult(
        lesions=(
            lesion(1),
            lesion(2, excluded=Reason("too_small", "found 1"), values=np.full(2, np.nan)),
            lesion(
                3,
                values=np.array([0.3, np.nan]),
                missing={NAMES[1]: Reason("failed", "division by zero")},
            ),
        ),
        measures=(
            Measure("volume_total_ml", 9.0, "ml", "", "", 3),
            Measure("n_lesions", 3.0, "{count}", "", "", 3),
            Measure("cv_mean_percent", 12.5, "%", "henry2022", "", 3),
            Measure("mtd", None, "1", "henry2022", "patient-minmax", 2, Reason("n", "found 2")),
            Measure("mirv_distance_max", 4.5, "1", "mirv2025", "sarc021", 3),
        ),
        pairs=(Pair("henry2022", "patient-minmax", "2.25.1", "2.25.3", 0.5, 1.25),),
        variation=(
            Variation("henry2022", NAMES[0], "", 3, None, None, True, Reason("mean_zero", "0")),
        ),
        provenance=Provenance("aa", {"henry2022": "bb"}, {"sarc021": "cc"}, {"mirv-node": "1"}),
        identities={
            "2.25.1": LesionIdentity(True, False, "1.2.3.5", ((-1.5, 0.1, 2.0), (3.0, 4.0, 5.0))),
            "2.25.2": LesionIdentity(tracking_received=False, part=True),
        },
    )
    base = result_record.ResultRecord(
        patient_id="PAT-SENTINEL",
        study_uid="1.2.3",
        study_date="20240131",
        series_uid="1.2.3.4",
        segmentation_uids={f"2.25.{n}": "1.2.9" for n in (1, 2, 3)},
        result=result,
        quality=(
            QualityRow(
                study_uid="1.2.3",
                series_uid="1.2.3.4",
                check="kernel",
                outcome=QualityOutcome.WARN,
                found="B70f",
                wanted="B30f",
                detail="SENTINEL",
            ),
        ),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def follow_up() -> result_record.ResultRecord:
    """The record as one of a follow-up: a lesion matched, one that cannot be, one gone."""
    plain = record()
    why = Reason("generic_name", "the name 'Segment_1 SENTINEL' says nothing")
    changes = (
        LesionChange(
            "2.25.1", "LIVER-01", "liver", "matched", "name", 3.0, 1.5, -50.0, None, "2.25.8"
        ),
        LesionChange("2.25.2", "SENTINEL", "liver", "unmatched", "", None, 3.0, None, why),
        LesionChange("2.25.9", "SENTINEL", "lung", "vanished", "", 1, None, -100.0, None, "2.25.9"),
    )
    earlier = replace(
        plain.result.provenance,
        prior_input_digest="ee",
        prior_study_uid="1.2.3.99",
        prior_study_date="20240101",
    )
    return replace(plain, result=replace(plain.result, changes=changes, provenance=earlier))


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_lesion_rows_keep_every_lesion_and_say_why_a_value_is_missing() -> None:
    columns, rows = result_tables.lesion_rows([record()])
    assert columns == result_tables.LESION_COLUMNS + NAMES
    first, second, third = read(result_tables.to_csv(columns, rows))
    assert (first["status"], first["reason"]) == ("ok", "")
    assert float(first[NAMES[1]]) == -3.25e-17
    assert (second["status"], second[NAMES[0]]) == ("excluded", "")
    assert second["reason"] == "too_small: found 1"
    assert (third["status"], third[NAMES[1]]) == ("partial", "")
    assert third["reason"] == "1 features: failed: division by zero"
    assert second["segmentation_uid"] == "1.2.9"


def test_lesion_rows_say_where_a_tracking_uid_comes_from() -> None:
    _, rows = result_tables.lesion_rows([record()])
    assert [row["tracking"] for row in rows] == ["received", "derived", ""]


def test_change_rows_name_the_earlier_study_and_what_a_match_was_made_by() -> None:
    content = result_tables.to_csv(
        result_tables.CHANGE_COLUMNS, result_tables.change_rows([record(), follow_up()])
    )
    matched, unmatched, gone = read(content)
    assert (matched["matched_by"], matched["change_percent"]) == ("name", "-50.0")
    assert (matched["tracking_uid"], matched["previous_tracking_uid"]) == ("2.25.1", "2.25.8")
    assert unmatched["reason"].startswith("generic_name: ")
    assert (unmatched["previous_tracking_uid"], unmatched["change_percent"]) == ("", "")
    assert (gone["state"], gone["tracking_uid"], gone["current_ml"]) == ("vanished", "", "")
    for row in (matched, unmatched, gone):
        assert (row["previous_study_uid"], row["previous_study_date"]) == ("1.2.3.99", "20240101")


def test_a_record_keeps_changes_and_identities_and_those_without_them_are_read() -> None:
    kept = result_record.from_bytes(result_record.to_bytes(follow_up()))
    assert kept.result.changes == follow_up().result.changes
    assert kept.result.identities == follow_up().result.identities
    assert kept.result.provenance == follow_up().result.provenance
    data = result_record.to_bytes(follow_up())
    (length,) = struct.unpack_from("<Q", data)
    content = json.loads(data[8 : 8 + length])
    for name in ("changes", "identities"):
        del content[name]
    for name in ("prior_study_uid", "prior_study_date"):
        del content["provenance"][name]
    old = json.dumps(content).encode()
    found = result_record.from_bytes(struct.pack("<Q", len(old)) + old + data[8 + length :])
    assert (found.result.changes, found.result.identities) == ((), {})
    assert found.result.provenance.prior_input_digest == "ee"


def test_patient_rows_hold_native_measures_on_every_row_and_reasons_beside_nulls() -> None:
    columns, rows = result_tables.patient_rows([record()])
    assert columns[: len(result_tables.PATIENT_COLUMNS)] == result_tables.PATIENT_COLUMNS
    henry, mirv = read(result_tables.to_csv(columns, rows))
    assert henry["volume_total_ml"] == mirv["volume_total_ml"] == "9.0"
    assert (henry["mtd"], henry["mtd_reason"]) == ("", "n: found 2")
    assert (mirv["mirv_distance_max"], mirv["mtd"]) == ("4.5", "")
    assert (henry["n_lesions"], henry["n_lesions_used"]) == ("3", "2")
    assert henry["cv_mean_percent"] == "12.5"
    assert mirv["cv_mean_percent"] == ""


def test_records_round_trip_exactly() -> None:
    original = record()
    data = result_record.to_bytes(original)
    back = result_record.from_bytes(data)
    assert result_record.to_bytes(back) == data
    np.testing.assert_array_equal(back.result.lesions[2].values, original.result.lesions[2].values)
    assert back.result.lesions[1].excluded == Reason("too_small", "found 1")
    assert back.result.lesions[0].diagnostics == {"voxels": 101.0}
    assert back.result.measures == original.result.measures
    with pytest.raises(ValueError, match="wanted 6"):
        result_record.from_bytes(data + b"\0" * 8)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_the_csv(value: float) -> None:
    data = result_tables.to_csv(("x",), [{"x": value}])
    assert float(data.decode().splitlines()[1]) == value


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("-12", "-12"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("a\rb\nc\td\0", "a b c d "),
        ('"quoted", and more', '"quoted", and more'),
    ],
)
def test_an_outside_string_neither_breaks_a_row_nor_becomes_a_formula(text: str, cell: str) -> None:
    (row,) = read(result_tables.to_csv(("x",), [{"x": text}]))
    assert row["x"] == cell


def test_order_of_records_and_repetition_do_not_change_the_files(tmp_path: Path) -> None:
    other = record(patient_id="A", study_uid="9")
    table_files.write_tables(tmp_path / "a", [record(), other])
    table_files.write_tables(tmp_path / "b", [other, record()])
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "changes.csv",
        "lesions.csv",
        "pairs.csv",
        "patients.csv",
        "provenance.json",
        "quality.csv",
        "variation.csv",
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_parquet_holds_the_same_values_as_csv(tmp_path: Path) -> None:
    table_files.write_tables(tmp_path, [record()], table_format="parquet")
    frame = pd.read_parquet(tmp_path / "lesions.parquet")
    assert frame[NAMES[1]].tolist()[0] == -3.25e-17
    assert frame["status"].tolist() == ["ok", "excluded", "partial"]


def test_pseudonymised_tables_hold_no_identifier(tmp_path: Path) -> None:
    key = load_key(tmp_path / "key")
    assert load_key(tmp_path / "key") == key
    hidden = Pseudonymiser(key).record(follow_up())
    table_files.write_tables(tmp_path / "out", [hidden])
    everything = b"".join(path.read_bytes() for path in sorted((tmp_path / "out").iterdir()))
    for secret in (
        b"SENTINEL",
        b"LIVER-01",
        b"1.2.3",
        b"20240131",
        b"20240101",
        b"2.25.1,",
        b"B70f",
        key,
    ):
        assert secret not in everything, secret
    again = Pseudonymiser(key).record(record())
    assert again.study_uid == hidden.study_uid
    assert again.patient_id == hidden.patient_id
    assert hide_empty(key) == ""
    assert Pseudonymiser(b"other" * 7).record(record()).patient_id != hidden.patient_id


def hide_empty(key: bytes) -> str:
    """The pseudonym of a study without PatientID."""
    return Pseudonymiser(key).record(record(patient_id="")).patient_id


def test_an_earlier_study_is_linked_by_pseudonyms_only() -> None:
    plain = follow_up()
    linked = replace(
        plain.result,
        provenance=replace(
            plain.result.provenance, prior_input_digest="aa", default_issuer="HOSPITAL"
        ),
    )
    hide = Pseudonymiser(b"k" * 32)
    hidden = hide.record(replace(plain, result=linked))
    earlier = hidden.result.provenance
    assert earlier.prior_input_digest == earlier.input_digest != "aa"
    assert earlier.prior_study_uid == hide.record(record(study_uid="1.2.3.99")).study_uid
    days = pd.to_datetime([earlier.prior_study_date, hidden.study_date])
    assert (days[1] - days[0]).days == 30
    matched, _, gone = hidden.result.changes
    assert matched.tracking_uid == hidden.result.lesions[0].tracking_uid
    assert (matched.name, gone.name) == ("lesion 1", "earlier lesion")
    assert hidden.result.identities[matched.tracking_uid] == LesionIdentity(True)
    assert earlier.default_issuer == "", "it names the hospital"


def test_dates_of_one_patient_keep_their_distance() -> None:
    hide = Pseudonymiser(b"k" * 32)
    days = pd.to_datetime([hide.date("p", "20240101"), hide.date("p", "20240131")])
    assert (days[1] - days[0]).days == 30
    assert hide.date("p", "not a date") == ""
