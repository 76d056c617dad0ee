"""Every cohort command counts persons: one study each, by a rule that is said."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.service.commands.test_cohort import SHORT, VOLUME, refused, run, written

LONG_AXIS = "original_shape_Maximum2DDiameterSlice"
FIRST_DAY = date(2024, 1, 1)
LESIONS, PATIENTS = "lesions", "patients"
LESION_COMMANDS = {
    "variation": ("variation", "--group-column", "arm", "--features", LESIONS),
    "reduce": ("reduce", "--mode", "code_fixed", "--features", LESIONS),
    "clusters": ("reduce", "--clusters", 3, "--features", LESIONS),
    "mirv": ("mirv", "--mode", "code_fixed", "--features", LESIONS),
    "henry": ("henry", "--features", LESIONS),
    "sampling": ("sampling", "--draws", 20, "--features", LESIONS),
    "aggregate": ("explore", "--aggregate", "max", "--features", LESIONS),
}
BY_ROW_COMMANDS = {
    "frozen": ("henry", "--space", "sarc021-lung-henry8-minmax", "--features", LESIONS),
    "patient": ("henry", "--scaling", "patient_minmax", "--features", LESIONS),
    "explore": ("explore", "--features", LESIONS),
    "correlate": ("correlate", "--columns", f"{SHORT[0]},{VOLUME}", "--table", LESIONS),
    "robustness": ("robustness", "--features", LESIONS, "--eroded", LESIONS, "--dilated", LESIONS),
}
PATIENT_COMMANDS = {
    "survival": (
        "survival",
        "--duration",
        "t",
        "--event",
        "e",
        "--terms",
        "x",
        "--table",
        PATIENTS,
    ),
    "by_patient": (
        "correlate",
        "--patient-column",
        "person",
        "--columns",
        "x,t",
        "--table",
        PATIENTS,
    ),
    "by_row": ("correlate", "--columns", "x,t", "--table", PATIENTS),
    "category": (*("correlate", "--columns", "x,t", "--category", "arm", "--table", PATIENTS),),
}
OVER_PERSONS = LESION_COMMANDS | PATIENT_COMMANDS
EVERY = OVER_PERSONS | BY_ROW_COMMANDS


def studies(n_persons: int = 10, seed: int = 3) -> dict[str, pd.DataFrame]:
    """Lesions and patients at two time points; P02 is two persons; P09 has one study.

    Neither the order of rows nor that of UIDs is that of dates.
    """
    random = np.random.default_rng(seed)
    lesions, patients = [], []
    for person in range(n_persons):
        patient = "P02" if person == 3 else f"P{person:02d}"
        for point in (2, 1)[1 if person == 9 else 0 :]:
            key = {
                "patient_id": patient,
                "person": f"{patient}~{person}",
                "study_uid": f"1.{person}.{10 - point}",
                "study_date": (FIRST_DAY + timedelta(days=90 * point)).strftime("%Y%m%d"),
                "time_point": point,
            }
            own = {"arm": "ab"[person % 2]}
            patients.append(
                {**key, **own, "x": random.normal(), "t": random.exponential(), "e": person % 3 > 0}
            )
            for lesion in range(2 + person % 4):
                values = random.lognormal(size=len(SHORT)) + 0.1
                site = ["lung", "bone"][lesion % 2]
                lesions.append(
                    {**key, **own, "tracking_uid": f"2.{lesion}", "site": site}
                    | dict(zip(SHORT, values, strict=True))
                )
    made = {LESIONS: pd.DataFrame(lesions), PATIENTS: pd.DataFrame(patients)}
    made[PATIENTS]["e"] = made[PATIENTS]["e"].astype(int)
    return made


def files(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, Path]:
    folder.mkdir()
    paths = {}
    for name, table in studies().items():
        paths[name] = folder / f"{name}.csv"
        change(table).to_csv(paths[name], index=False)
    return paths


def filled(words: tuple[Any, ...], paths: dict[str, Path]) -> list[Any]:
    return [paths.get(word, word) for word in words]


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")} | {
        path.name: path.read_bytes() for path in folder.glob("kept.txt")
    }


def only(point: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """One study of each person, by hand."""

    def choose(table: pd.DataFrame) -> pd.DataFrame:
        last = table.groupby("person")["time_point"].transform("max")
        wanted = np.minimum(last, point)
        return table[table["time_point"] == wanted]

    return choose


@pytest.mark.parametrize("name", EVERY)
def test_one_study_a_person_counts(name, tmp_path):
    """Findings N7 and M7: as if the table held that study alone, chosen by its date."""
    both = files(tmp_path / "both", lambda table: table)
    for rule, point, more in (("baseline", 1, ()), ("latest", 2, ("--time-point", "latest"))):
        alone = files(tmp_path / rule, only(point))
        run(*filled(EVERY[name], alone), "--out", tmp_path / f"{rule}-alone")
        said = run(*filled(EVERY[name], both), *more, "--out", tmp_path / f"{rule}-both").stderr
        assert f"one study a person ({rule}): 9 of 10 person(s) have several" in said
        made = tables(tmp_path / f"{rule}-both")
        assert made == tables(tmp_path / f"{rule}-alone")
        assert made
    notes = json.loads((tmp_path / "latest-both" / "provenance.json").read_text())["notes"]
    assert any("one study a person (latest)" in note for note in notes)


@pytest.mark.parametrize("name", EVERY)
def test_a_study_is_no_person(name, tmp_path):
    """All studies count only where nothing is over persons."""
    both = files(tmp_path / "both", lambda table: table)
    words = [*filled(EVERY[name], both), "--time-point", "all", "--out", tmp_path / "out"]
    if name in OVER_PERSONS:
        assert "study_is_no_person: --time-point all: " in refused(*words)
        return
    run(*words)
    found = written(tmp_path / "out")
    if name in ("frozen", "patient"):
        assert len(found["patients"]) == 19
        assert found["patients"].groupby("person")["time_point"].max().tolist() == [2] * 9 + [1]


@pytest.mark.parametrize("name", EVERY)
def test_studies_that_nothing_puts_in_order_are_refused(name, tmp_path):
    paths = files(tmp_path / "x", lambda t: t.drop(columns=["study_date", "time_point"]))
    said = refused(*filled(EVERY[name], paths), "--out", tmp_path / "out")
    assert "several_studies" in said
    assert "has the studies '1.0.8' and '1.0.9', and neither study_date (YYYY" in said
    assert "nor time_point tells which comes first" in said


@pytest.mark.parametrize("text", ["9" * 5000, "-1", "1.5", "first"])
def test_a_time_point_that_is_no_number_orders_nothing(text, tmp_path):
    def change(table):
        return table.drop(columns="study_date").assign(time_point=text)

    name = next(iter(EVERY))
    words = filled(EVERY[name], files(tmp_path / "x", change))
    assert "nor time_point tells which comes first" in refused(*words, "--out", tmp_path / "out")


def test_two_persons_of_one_patient_id_are_two(tmp_path):
    both = files(tmp_path / "both", lambda table: table)
    run("henry", "--features", both[LESIONS], "--out", tmp_path / "out")
    found = written(tmp_path / "out")["patients"]
    assert (found["patient_id"] == "P02").sum() == 2
    assert found["person"].is_unique
    words = ("--patient-column", "patient_id", "--out", tmp_path / "o")
    said = refused("henry", "--features", both[LESIONS], *words)
    assert "several_persons" in said
    assert "'P02' is of two persons, 'P02~2' and 'P02~3'" in said


def test_a_table_of_an_earlier_version_has_patients_for_persons(tmp_path):
    paths = files(
        tmp_path / "x", lambda t: t[t["person"] != "P02~3"].drop(columns=["person", "time_point"])
    )
    said = run("henry", "--features", paths[LESIONS], "--out", tmp_path / "out").stderr
    assert "no column person: patient_id is taken for the person" in said
    assert "9 of" not in said
    found = written(tmp_path / "out")["patients"]
    assert found["person"].tolist() == found["patient_id"].tolist()
    assert set(found["time_point"]) == {1}
    assert len(found) == 9


def test_an_undated_study_beside_dated_ones_is_not_taken_and_named(tmp_path):
    def undated(table: pd.DataFrame) -> pd.DataFrame:
        gone = (table["person"] == "P04~4") & (table["time_point"] == 1)
        gone |= table["person"] == "P09~9"
        return table.astype({"study_date": object, "time_point": object}).mask(
            pd.DataFrame({name: gone & (name in ("study_date", "time_point")) for name in table})
        )

    paths = files(tmp_path / "x", undated)
    said = run("henry", "--features", paths[LESIONS], "--out", tmp_path / "out").stderr
    assert (
        "1 study(ies) without a date beside dated ones of their person, not taken (P04~4 1.4.9)"
        in said
    )
    found = written(tmp_path / "out")["patients"].set_index("person")
    assert len(found) == 10
    assert found.loc["P04~4", "study_uid"] == "1.4.8"


# --- index dates --------------------------------------------------------------------------------


def dated(days: dict[str, list[int]]) -> pd.DataFrame:
    """Two lesions in each of a person's studies, so many days from 2024-06-01."""
    rows = []
    for person, own in days.items():
        for number, offset in enumerate(own):
            day = date(2024, 6, 1) + timedelta(days=offset)
            for lesion in ("a", "b"):
                value = 1 + number + (lesion == "b")
                rows.append((person, f"{person}.{number}", day.isoformat(), lesion, value))
    names = ["patient_id", "study_uid", "study_date", "lesion", VOLUME]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize(
    ("offsets", "baseline", "latest"),
    [
        ([-93, 8], None, None),
        ([-93, -92], 1, 1),
        ([7, 8], 0, 0),
        ([-92, -1, 7], 1, 2),
        ([-92, 0, 1], 1, 2),
        ([1, 2, 9], 0, 1),
        ([-3, 2], 1, 1),
        ([-3, 3], 0, 1),
    ],
)
def test_the_window_around_the_index_date(tmp_path, offsets, baseline, latest):
    """R-RET-1, ends included; the baseline is the nearest, before rather than after."""
    table = dated({"p": offsets, "q": [0], "r": [0]})
    table.to_csv(tmp_path / "lesions.csv", index=False)
    (tmp_path / "days.csv").write_text(
        "patient_id,index_date\np,2024-06-01\nq ,20240601\nx,20240601\n"
    )
    for rule, wanted in (("baseline", baseline), ("latest", latest)):
        said = run(
            *("variation", "--features", tmp_path / "lesions.csv", "--time-point", rule),
            *("--index-date", tmp_path / "days.csv", "--out", tmp_path / rule),
        ).stderr
        found = written(tmp_path / rule)["patients"].set_index("person")["study_uid"].to_dict()
        assert found == {"q": "q.0"} | ({} if wanted is None else {"p": f"p.{wanted}"})
        assert "2 matched, 1 only in table (r), 1 only in days.csv (x)" in said
        outside = "1 person(s) have no study -92 to +7 days from the index date, left out (p)"
        assert (outside in said) == (wanted is None)
    provenance = json.loads((tmp_path / "latest" / "provenance.json").read_text())
    assert [one["name"] for one in provenance["inputs"]] == ["days.csv", "lesions.csv"]
    assert provenance["joins"][0]["unmatched"] == [["r"], ["x"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "patient_id,index_date\np,1.6.2024\n",
            "days.csv: column 'index_date', row 1: found '1.6.2024'",
        ),
        ("patient_id,index_date\np,\n", "days.csv: column 'index_date', row 1: found ''"),
        ("patient_id,index_date\n,20240601\n", "days.csv: column 'patient_id', row 1: found no"),
        (
            "patient_id,index_date\n0p,20240601\n",
            "joined on patient_id: 0 matched, 2 only in table (p, q), 1 only in days.csv (0p)",
        ),
        ("patient_id,day\np,20240601\n", "no column index_date"),
        ("subject,index_date\np,20240601\n", "days.csv has no column patient_id"),
        ("patient_id,index_date\np,20240601\np ,20240602\n", "'p' stands in rows 1 and 2"),
    ],
)
def test_bad_index_dates_are_refused_by_column_and_row(tmp_path, text, said):
    dated({"p": [0], "q": [0]}).to_csv(tmp_path / "lesions.csv", index=False)
    (tmp_path / "days.csv").write_text(text)
    words = ("variation", "--features", tmp_path / "lesions.csv", "--index-date")
    assert said in refused(*words, tmp_path / "days.csv", "--out", tmp_path / "out")


def test_a_list_as_a_spreadsheet_writes_it_names_the_same_persons(tmp_path):
    """A byte-order mark is no letter of the first identifier, a semicolon none of a date."""
    lesions = dated({"p": [0], "q": [0]})
    lesions.to_csv(tmp_path / "lesions.csv", index=False)
    (tmp_path / "days.csv").write_text("\ufeffpatient_id;index_date\r\np;20240601\r\n")
    (tmp_path / "list.txt").write_text("\ufeffp\r\n")
    for words in (("--index-date", tmp_path / "days.csv"), ("--cohort", tmp_path / "list.txt")):
        words = ("--features", tmp_path / "lesions.csv", *words, "--out", tmp_path / "out")
        assert "1 matched, 1 only in table (q)" in run("variation", *words).stderr


def test_a_cohort_that_is_neither_label_nor_file_says_what_labels_there_are(tmp_path):
    dated({"p": [0]}).to_csv(tmp_path / "lesions.csv", index=False)
    words = ("--features", tmp_path / "lesions.csv", "--cohort", "m-oligo")
    said = refused("henry", *words, "--out", tmp_path / "out")
    assert "--cohort m-oligo: found no label (known: L, M-oligo, M-multi)" in said


def test_a_date_of_a_study_that_is_none_is_told(tmp_path):
    lesions = dated({"p": [0], "q": [0]})
    lesions["study_date"] = ["2024-13-41", *lesions["study_date"][1:]]
    lesions.to_csv(tmp_path / "lesions.csv", index=False)
    words = ("--features", tmp_path / "lesions.csv", "--out", tmp_path / "out")
    assert (
        "lesions.csv: column 'study_date': 1 row(s) hold no date, first row 1: found '2024-13-41'"
        in run("variation", *words).stderr
    )


def test_an_index_date_needs_dates_of_studies(tmp_path):
    (tmp_path / "days.csv").write_text("person,index_date\nP00~0,20240601\n")
    paths = files(tmp_path / "x", lambda t: only(1)(t).drop(columns="study_date"))
    for name in ("henry", "survival"):
        words = (*filled(EVERY[name], paths), "--index-date", tmp_path / "days.csv")
        said = refused(*words, "--out", tmp_path / "out")
        assert "study_date" in said
        assert "missing_column" in said


def test_patients_within_the_window_are_joined_with_their_outcome(tmp_path):
    """The outcome has no studies; the index date chooses those of the other table."""
    random = np.random.default_rng(5)
    names = [f"p{n}" for n in range(8)]
    table = (
        dated({name: [-200, -30, 60] for name in names})
        .query("lesion == 'a'")
        .drop(columns="lesion")
    )
    table["x"] = random.normal(size=len(table))
    table.to_csv(tmp_path / "patients.csv", index=False)
    days = pd.DataFrame({"patient_id": names, "index_date": "2024-06-01"})
    days.to_csv(tmp_path / "days.csv", index=False)
    outcome = pd.DataFrame({"patient_id": names, "t": random.exponential(size=8), "e": 1})
    outcome.to_csv(tmp_path / "outcome.csv", index=False)
    for name, more in (("in", ["--index-date", tmp_path / "days.csv"]), ("first", [])):
        run(
            *(
                "survival",
                "--table",
                tmp_path / "patients.csv",
                "--table",
                tmp_path / "outcome.csv",
            ),
            *("--duration", "t", "--event", "e", "--split", "x", *more, "--out", tmp_path / name),
        )
    middle = table[table["study_uid"].str.endswith(".1")]
    middle.merge(outcome, on="patient_id").to_csv(tmp_path / "one.csv", index=False)
    run(
        *("survival", "--table", tmp_path / "one.csv", "--duration", "t", "--event", "e"),
        *("--split", "x", "--out", tmp_path / "one"),
    )
    assert tables(tmp_path / "in") == tables(tmp_path / "one")
    assert tables(tmp_path / "in") != tables(tmp_path / "first")
