"""Tables of a cohort meet by named keys of text; who finds no partner is counted and named."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mirv.analysis.errors import Unsuitable
from mirv.analysis.tables import identifiers, read_table
from mirv.service.commands.spaces import app as space_app
from tests.service.commands.test_cohort import SHORT, VOLUME, refused, run, table, written
from tests.service.commands.test_cohort_persons import LESIONS, files, only

# --- identifiers --------------------------------------------------------------------------------


def test_identifiers_are_the_text_that_was_written(tmp_path):
    """Public trap: what looks like a number, or like no value, is converted."""
    texts = ["007", "7", "1.10", "1.1", "NA", "None", "1e3", " A ", "'=B", "nan", "0x1", "True"]
    path = tmp_path / "t.csv"
    path.write_text("patient_id,own,x\n" + "".join(f"{text},{text},1\n" for text in texts))
    found = read_table(path, ["own"])
    wanted = [*texts[:7], "A", "=B", *texts[9:]]
    assert identifiers(found, "patient_id") == identifiers(found, "own") == wanted
    found.to_parquet(tmp_path / "t.parquet")
    assert identifiers(read_table(tmp_path / "t.parquet"), "patient_id") == wanted


def test_whole_numbers_of_a_parquet_table_stay_whole_and_others_are_refused(tmp_path):
    """A time point beside an empty one would come back as 1.0."""
    path = tmp_path / "t.parquet"
    whole = pd.DataFrame({"person": ["a", "b"], "time_point": pd.array([1, None], "Int64")})
    whole.to_parquet(path)
    assert read_table(path)["time_point"].tolist() == ["1", None]
    pd.DataFrame({"patient_id": [1.0, 1.5]}).to_parquet(path)
    with pytest.raises(Unsuitable, match="column 'patient_id' holds floating-point numbers"):
        read_table(path)


# --- patients -----------------------------------------------------------------------------------


def survival(tmp_path: Path, *tables: str, more: tuple[str, ...] = ()) -> str:
    words: list[object] = ["survival", "--duration", "t", "--event", "e", "--terms", "age", *more]
    for number, text in enumerate(tables):
        path = tmp_path / f"{number}.csv"
        path.write_text(text)
        words += ["--table", path]
    return run(*words, "--out", tmp_path / "out").stderr


OUTCOME = "patient_id,t,e\n01,5,1\n02,7,1\n03,9,1\n04,3,1\n05,8,0\n06,6,1\n"


def test_a_join_of_patients_says_whom_it_left_out(tmp_path):
    """Finding R8: 01 and 1 are two patients; blanks are cut on either side."""
    said = survival(
        tmp_path, OUTCOME, "patient_id,age\n01,60\n02 ,61\n 03,55\n04,70\n05,66\n1,50\n"
    )
    assert (
        "joined on patient_id: 5 matched, 1 only in the tables before (06), 1 only in 1.csv (1)"
        in said
    )
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["cox"]["n"] == 5
    assert provenance["joins"] == [
        {
            "on": ["patient_id"],
            "tables": ["the tables before", "1.csv"],
            "matched": 5,
            "unmatched": [["06"], ["1"]],
        }
    ]
    ages = "patient_id,age\n01,60\n02,61\n03,55\n04,70\n05,66\n"
    cut = (tmp_path / "out" / "cox.csv").read_bytes()
    survival(tmp_path, OUTCOME.replace("06,6,1\n", ""), ages)
    assert (tmp_path / "out" / "cox.csv").read_bytes() == cut


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("subject,age\n01,60\n", "missing_column: 1.csv has no column patient_id"),
        (
            "patient_id,age\n01,60\n01 ,61\n",
            "1.csv: column 'patient_id': '01' stands in rows 1 and 2",
        ),
        ("patient_id,age\n01,60\n,61\n", "column 'patient_id', row 2: found no value"),
        ("patient_id,age\n1,60\n2,61\n", "no patient stands in every table"),
        ("patient_id,age,t\n01,60,6\n", "column 't' stands in another table too"),
    ],
)
def test_patients_that_cannot_be_joined_are_refused(tmp_path, second, said):
    paths = [tmp_path / "0.csv", tmp_path / "1.csv"]
    for path, text in zip(paths, (OUTCOME, second), strict=True):
        path.write_text(text)
    words = (
        "survival",
        "--table",
        paths[0],
        "--table",
        paths[1],
        "--duration",
        "t",
        "--event",
        "e",
    )
    result = run(*words, "--terms", "age", "--out", tmp_path / "out", exit_code=2)
    assert said in result.stderr.splitlines()[-1]


def test_tables_of_persons_and_of_patient_ids_meet_by_the_id_they_share(tmp_path):
    """The node's table knows persons, the clinic's only PatientIDs; a shared one is refused."""
    ages = "patient_id,person,age\n" + "".join(f"0{n},0{n}~x,{50 + n * n}\n" for n in range(1, 7))
    survival(tmp_path, OUTCOME, ages)
    assert written(tmp_path / "out")["cox"]["term"].tolist() == ["age"]
    (tmp_path / "1.csv").write_text(ages + "06,06~y,40\n")
    said = refused(
        *("survival", "--table", tmp_path / "0.csv", "--table", tmp_path / "1.csv"),
        *("--duration", "t", "--event", "e", "--terms", "age", "--out", tmp_path / "out"),
    )
    assert "patient_id '06' is of two persons, '06~x' and '06~y'" in said


def test_an_outer_join_keeps_what_only_one_table_knows(tmp_path):
    (tmp_path / "a.csv").write_text("patient_id,site,x\nA,lung,1\nB,bone,2\nC,lung,4\n")
    (tmp_path / "b.csv").write_text("patient_id,site,y\nD,bone,3\nC,lung,2\nB,bone,5\nE,bone,9\n")
    said = run(
        *("correlate", "--patient-column", "patient_id", "--columns", "x,y", "--category", "site"),
        *("--table", tmp_path / "a.csv", "--table", tmp_path / "b.csv", "--out", tmp_path / "out"),
    ).stderr
    assert "2 matched, 1 only in the tables before (A), 2 only in b.csv (D, E)" in said
    found = written(tmp_path / "out")
    assert found["spearman"]["n"].tolist() == [2]
    assert found["kruskal"].set_index("column")["n"].to_dict() == {"x": "1 / 2", "y": "3 / 1"}


# --- lesions ------------------------------------------------------------------------------------


def three(tmp_path: Path, *changed: pd.DataFrame) -> list[object]:
    words: list[object] = ["robustness", "--fewest", 3, "--out", tmp_path / "out"]
    for name, made in zip(("features", "eroded", "dilated"), changed, strict=True):
        made.to_csv(tmp_path / f"{name}.csv", index=False)
        words += [f"--{name}", tmp_path / f"{name}.csv"]
    return words


def test_lesions_are_never_joined_by_their_row(tmp_path):
    """Finding R6: without a lesion column nothing tells which lesion a row is."""
    base = table()
    bare = base.drop(columns="lesion")
    said = refused(*three(tmp_path, bare, bare.iloc[1:], bare))
    assert "missing_column: the original table has no column tracking_uid or lesion" in said
    said = refused(*three(tmp_path, base, bare, base))
    assert "the eroded table has no column" in said
    said = run(*three(tmp_path, base, base.assign(study_uid="1"), base), exit_code=2).stderr
    assert "eroded by person, study_uid, lesion: wanted the same columns" in said


def test_lesions_in_another_order_are_the_same_lesions(tmp_path):
    """Also with one row less: concordance is 1 over those that are there."""
    base = table().assign(lesion=lambda t: t["lesion"].str.replace("L", "0"))
    less = base.sample(frac=1, random_state=2).iloc[1:]
    gone = base.loc[~base.index.isin(less.index)].iloc[0]
    said = run(
        *three(tmp_path, base, less, base.assign(patient_id=base["patient_id"] + " "))
    ).stderr
    found = written(tmp_path / "out")["robustness"]
    assert (found["n_eroded"] == 35).all()
    assert (found["n_dilated"] == 36).all()
    assert np.allclose(found[["eroded", "dilated"]], 1)
    assert f"35 matched, 1 only in original ({gone.patient_id} {gone.lesion})" in said


# --- response -----------------------------------------------------------------------------------


def volumes(*rows: tuple[str, str, str, str, float]) -> pd.DataFrame:
    names = ["patient_id", "study_uid", "study_date", "lesion", "volume_ml"]
    return pd.DataFrame(rows, columns=names)


def test_response_of_a_table_with_several_studies(tmp_path):
    """Finding R2: each lesion once, first and last study; who has but one study is named."""
    both = volumes(
        ("P1", "1", "20240101", "a", 5),
        ("P1", "1", "20240101", "b", 6),
        ("P1", "3", "20240301", "a", 10),
        ("P1", "3", "20240301", "b", 3),
        ("P1", "2", "20240201", "a", 7),
        ("P2", "4", "20240101", "a", 1),
        ("P2", "4", "20240101", "b", 2),
    )
    both.to_csv(tmp_path / "both.csv", index=False)
    words = ("response", "--previous", tmp_path / "both.csv", "--current", tmp_path / "both.csv")
    said = run(*words, "--out", tmp_path / "out").stderr
    found = written(tmp_path / "out")
    assert found["patients"]["baseline_total"].tolist() == [11]
    assert found["lesions"].set_index("name")["change_percent"].to_dict() == {"a": 100, "b": -50}
    row = found["lesions"].iloc[0]
    assert (row["previous_study_uid"], row["current_study_uid"]) == (1, 3)
    assert (row["previous_time_point"], row["current_time_point"]) == (1, 3)
    assert "1 person(s) have no study later than the previous one, left out (P2)" in said
    run(*words, "--previous-time-point", "latest", "--out", tmp_path / "o", exit_code=2)
    later = volumes(("P1", "9", "20230101", "a", 1), ("P3", "5", "20240101", "a", 1))
    later.to_csv(tmp_path / "later.csv", index=False)
    words = ("response", "--previous", tmp_path / "both.csv", "--current", tmp_path / "later.csv")
    result = run(*words, "--out", tmp_path / "o", exit_code=2)
    assert "left out (P1)" in result.stderr
    assert "1 matched, 1 only in previous (P2), 1 only in current (P3)" in result.stderr
    assert "no person has an earlier and a later study" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("side", ["previous", "current"])
def test_a_response_is_between_two_studies(tmp_path, side):
    made = volumes(("P1", "1", "20240101", "a", 5), ("P1", "2", "20240201", "a", 6))
    made.to_csv(tmp_path / "v.csv", index=False)
    words = ("response", "--previous", tmp_path / "v.csv", "--current", tmp_path / "v.csv")
    result = run(*words, f"--{side}-time-point", "all", "--out", tmp_path / "o", exit_code=2)
    assert "study_is_no_person" in result.stderr
    made.drop(columns="study_date").to_csv(tmp_path / "v.csv", index=False)
    result = run(*words, "--out", tmp_path / "o", exit_code=2)
    assert "several_studies: v.csv: person 'P1'" in result.stderr


def test_namesakes_have_a_response_each(tmp_path):
    """One PatientID, two persons, the same lesion names."""
    before = volumes(("P", "1", "20240101", "a", 4), ("P", "2", "20240101", "a", 9))
    after = volumes(("P", "3", "20240601", "a", 2), ("P", "4", "20240601", "a", 27))
    words: list[object] = ["response", "--min-lesions", 1, "--out", tmp_path / "out"]
    for name, made in (("previous", before), ("current", after)):
        made.assign(person=["P~1", "P~2"]).to_csv(tmp_path / f"{name}.csv", index=False)
        words += [f"--{name}", tmp_path / f"{name}.csv"]
    run(*words)
    found = written(tmp_path / "out")["lesions"].set_index("person")["change_percent"]
    assert found.to_dict() == {"P~1": -50, "P~2": 200}


def test_volumes_in_one_row_are_of_one_study_each(tmp_path):
    rows = [
        ("A", "1", "20240101", 4, 2),
        ("A", "2", "20240601", 2, 1),
        ("B", "3", "20240101", 1, 1),
    ]
    names = ["patient_id", "study_uid", "study_date", "VOLUME_PRE", "VOLUME_POST"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "v.csv", index=False)
    words = ("response", "--volumes", tmp_path / "v.csv", "--min-lesions", 1)
    run(*words, "--out", tmp_path / "out")
    found = written(tmp_path / "out")["patients"].set_index("person")
    assert found["baseline_total"].to_dict() == {"A": 4, "B": 1}


# --- cohorts ------------------------------------------------------------------------------------


def crowd() -> pd.DataFrame:
    """Persons with 60, 9, 50, 12, 3 and 5 lesions at the first study, others later."""
    random = np.random.default_rng(7)
    rows = []
    for person, counts in {
        "A": (60, 3),
        "B": (9,),
        "C": (50,),
        "D": (12,),
        "E": (3, 20),
        "F": (5,),
    }.items():
        for point, n in enumerate(counts, 1):
            rows += [
                (person, f"1.{point}", f"2024010{point}", f"2.{lesion}", *random.lognormal(size=2))
                for lesion in range(n)
            ]
    names = ["person", "study_uid", "study_date", "tracking_uid", VOLUME, SHORT[0]]
    return pd.DataFrame(rows, columns=names)


def test_cohorts_of_henry_2022_as_a_column_and_a_filter(tmp_path):
    """SPEC 1.2: L ends at a hundred lesions; counted at the study that counts."""
    path = tmp_path / "lesions.csv"
    crowd().to_csv(path, index=False)
    (tmp_path / "mine.txt").write_text("B\n F\nX\n\n")

    def cohorts(*words: object) -> dict[str, str]:
        run("variation", "--features", path, *words, "--out", tmp_path / "out")
        found = written(tmp_path / "out")["patients"].fillna({"cohort": ""})
        return found.set_index("person")["cohort"].to_dict()

    assert cohorts() == {
        "A": "L;M-multi", "B": "", "C": "L;M-multi", "D": "", "E": "M-oligo", "F": "M-oligo"
    }  # fmt: skip
    assert cohorts("--time-point", "latest") == {
        "A": "M-oligo", "B": "", "C": "L;M-multi", "D": "L", "E": "L;M-multi", "F": "M-oligo"
    }  # fmt: skip
    assert cohorts("--cohort", "L") == {"A": "L", "C": "L"}
    groups = ("--cohort", "M-oligo", "--cohort", "M-multi")
    assert cohorts(*groups, "--group-column", "cohort") == {
        "A": "M-multi", "C": "M-multi", "E": "M-oligo", "F": "M-oligo"
    }  # fmt: skip
    tests = written(tmp_path / "out")["features"]
    assert tests["rank_sum_groups"].unique().tolist() == ["M-multi / M-oligo"]
    assert cohorts("--cohort", tmp_path / "mine.txt") == {"B": "mine", "F": "mine"}
    assert cohorts("--cohort", tmp_path / "mine.txt", "--cohort", "M-oligo") == {
        "B": "mine", "E": "M-oligo", "F": "mine;M-oligo"
    }  # fmt: skip


def test_cohorts_of_a_column_of_one_s_own_and_of_counts(tmp_path):
    random = np.random.default_rng(9)
    patients = pd.DataFrame(
        {"patient_id": list("ABCDEFGH"), "n_lesions": [2, 3, 4, 5, 6, 15, 16, 1]}
    )
    patients = patients.assign(x=random.normal(size=8), y=random.normal(size=8))
    patients.to_csv(tmp_path / "p.csv", index=False)
    words = (
        "correlate",
        "--patient-column",
        "patient_id",
        "--columns",
        "x,y",
        "--table",
        tmp_path / "p.csv",
    )
    for cohort, n in (("M-oligo", 4), ("M-multi", 2)):
        run(*words, "--cohort", cohort, "--out", tmp_path / "out")
        assert written(tmp_path / "out")["spearman"]["n"].tolist() == [n]
    patients.drop(columns="n_lesions").assign(cohort=list("ttttthhh")).to_csv(
        tmp_path / "p.csv", index=False
    )
    run(*words, "--cohort", "t", "--out", tmp_path / "out")
    assert written(tmp_path / "out")["spearman"]["n"].tolist() == [5]
    assert "--cohort L: no table has a column n_lesions" in refused(
        *words, "--cohort", "L", "--out", tmp_path
    )
    run(*words, "--cohort", tmp_path / "absent.txt", "--out", tmp_path / "out", exit_code=2)


# --- spaces -------------------------------------------------------------------------------------


def test_a_space_is_fitted_on_one_study_a_person(tmp_path):
    """Finding N7: follow-ups entered the fitted scaling."""
    both, alone = (
        files(tmp_path / name, change) for name, change in (("b", lambda t: t), ("a", only(1)))
    )
    made = []
    for paths in (both, alone):
        words = ["fit", "--features", str(paths[LESIONS]), "--name", "own", "--out", str(tmp_path)]
        found = CliRunner().invoke(
            space_app, [*words, "--short-list-of", "henry2022", "--profile", "henry2022"]
        )
        assert found.exit_code == 0, found.output
        content = json.loads((tmp_path / "own.json").read_text())
        made.append(
            {name: content[name] for name in ("centre", "scale", "names")}
            | {"n": content["fitted_on"]["n_lesions"]}
        )
    assert made[0] == made[1]
    refusal = CliRunner().invoke(space_app, [*words, "--time-point", "all"])
    assert refusal.exit_code == 2
    assert "study_is_no_person" in refusal.stderr
