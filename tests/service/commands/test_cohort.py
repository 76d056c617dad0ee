"""``mirv cohort`` and ``mirv space`` as users run them: on tables, good and bad."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from mirv.config.profiles import load_profile
from mirv.dicom_io.phantom.patient import write_study
from mirv.service.commands.cohort.lesions import app
from mirv.service.commands.spaces import app as space_app
from mirv.service.research.cohort.perturbed import MASKS

SHORT = load_profile("henry2022").selected
VOLUME = "original_shape_VoxelVolume"


def run(*words: object, exit_code: int = 0) -> Result:
    """Run ``mirv cohort ...`` and check how it ends."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == exit_code, result.output + str(result.exception)
    return result


def refused(*words: object) -> str:
    """What is said when the input is refused."""
    said = run(*words, exit_code=2).stderr
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    return said


def table(n_patients: int = 8, seed: int = 0) -> pd.DataFrame:
    """Lesions with the eight features: patient 1 has one lesion, the others two to nine."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(1, n_patients + 1):
        for lesion in range(1, patient + 1 if patient < 10 else 4):
            values = random.lognormal(size=len(SHORT)) + 0.1
            rows.append(
                {
                    "patient_id": f"P{patient:02d}",
                    "lesion": f"L{lesion}",
                    "site": ["lung", "bone", "liver"][lesion % 3],
                    "arm": "a" if patient % 2 else "b",
                    **dict(zip(SHORT, values, strict=True)),
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    path = tmp_path / "lesions.csv"
    table().to_csv(path, index=False)
    return path


def written(folder: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}


# --- the published cohort -----------------------------------------------------------------------


@pytest.mark.shared
def test_published_patients_within_5e10(shared, tmp_path):
    """SPEC section 5: 16 features and 85 patients of the published run."""
    sarc = shared / "sarc021"
    run(
        "mirv",
        "--features",
        sarc / "lung_baseline_features.csv.gz",
        "--patient-column",
        "USUBJID",
        "--mode",
        "published_compat",
        "--out",
        tmp_path,
    )
    found = written(tmp_path)
    published = pd.read_csv(sarc / "expected_features_as_published.csv")
    assert found["features"]["feature"].tolist() == published["feature"].tolist()
    expected = pd.read_csv(sarc / "expected_mirv_as_published.csv")
    both = expected.merge(found["patients"], on="USUBJID", suffixes=("_published", ""))
    assert len(both) == 85
    for name in ("mirv_dissimilarity_max", "mirv_distance_max"):
        assert (both[name] - both[f"{name}_published"]).abs().max() <= 5e-10
    alone = found["patients"][found["patients"]["mirv_distance_max"].isna()]
    assert len(alone) == 50
    assert alone["mirv_distance_max_reason"].str.startswith("too_few_lesions").all()


@pytest.mark.shared
def test_published_response_and_correlation(shared, tmp_path):
    """SPEC section 5 and D10: TSRC counts; rho -0.32 and -0.28 with a missing lesion counted 0."""
    volumes = shared / "sarc021" / "lung_volumes.csv"
    counts = {}
    for missing in ("unknown", "vanished", "as_published"):
        run(
            *("response", "--volumes", volumes, "--patient-column", "USUBJID"),
            *("--missing", missing, "--out", tmp_path / missing),
        )
        found = written(tmp_path / missing)["counts"].set_index("definition")
        counts[missing] = found["complete"].to_dict()
        assert (found["n_patients"] == 85).all()
        assert found.loc["methods", "unknown"] == (2 if missing == "unknown" else 0)
    assert counts["unknown"] == {"methods": 43, "reduction": 6, "absolute": 12, "table2": 10}
    assert counts["vanished"]["methods"] == 45
    assert counts["as_published"] == counts["unknown"]
    mirv = tmp_path / "mirv.csv"
    expected = pd.read_csv(shared / "sarc021" / "expected_mirv_as_published.csv")
    expected.to_csv(mirv, index=False)
    names = "mirv_dissimilarity_max,mirv_distance_max,tsrc_methods,volume_change_range_percent"
    run(
        *("correlate", "--table", mirv, "--table", tmp_path / "as_published" / "patients.csv"),
        *("--patient-column", "USUBJID", "--columns", names, "--out", tmp_path / "rho"),
    )
    found = written(tmp_path / "rho")["spearman"].set_index(["a", "b"])
    assert len(found) == 6
    assert sorted(found.loc["tsrc_methods", "rho"].round(2)) == [-0.32, -0.28]
    assert (found.loc["tsrc_methods", "n"] == 85).all()


# --- each command on a made cohort --------------------------------------------------------------


def test_variation(lesions, tmp_path):
    out = tmp_path / "out"
    run("variation", "--features", lesions, "--group-column", "arm", "--out", out)
    found = written(out)
    rows = found["variation"]
    own = table().query("patient_id == 'P03'")[VOLUME]
    picked = rows[(rows.patient_id == "P03") & (rows.feature == VOLUME) & rows.site.isna()]
    assert picked["cv_percent"].item() == pytest.approx(100 * own.std() / own.mean())
    assert found["patients"]["cv_mean_percent"].isna().tolist() == [True] + [False] * 7
    assert found["features"]["rank_sum_groups"].unique().tolist() == ["a / b"]
    assert (found["features"]["rank_sum_n"] == "3 / 4").all()
    assert set(found["sites"]["site"].dropna()) == {"lung", "bone", "liver"}
    assert (out / "variation_by_class.png").stat().st_size > 10_000


def test_henry_pairs_explanation_and_maps(lesions, tmp_path):
    run("henry", "--features", lesions, "--out", tmp_path, "--maps")
    found = written(tmp_path)
    patients = found["patients"].set_index("patient_id")
    pairs = found["pairs"]
    assert patients.loc["P05", "mtd"] == pytest.approx(
        pairs.loc[pairs.patient_id == "P05", "cosine"].max()
    )
    assert patients.loc["P05", "n_lesions"] == 5
    why = found["explanation"].query("patient_id == 'P05' and distance == 'cosine'")
    assert why["share"].sum() == pytest.approx(1)
    assert 1 - why["term"].sum() == pytest.approx(patients.loc["P05", "mtd"])
    assert len(found["maps"]) == 6
    assert all((tmp_path / name).is_file() for name in found["maps"]["file"])


@pytest.mark.parametrize("scaling", ["patient_minmax", "reference_zscore", "none"])
def test_henry_scalings(lesions, tmp_path, scaling):
    run("henry", "--features", lesions, "--scaling", scaling, "--out", tmp_path)
    patients = written(tmp_path)["patients"].set_index("patient_id")
    assert patients["mtd"].notna().sum() == (4 if scaling == "patient_minmax" else 7)
    assert patients["mtd_reason"].notna().tolist() == patients["mtd"].isna().tolist()


def test_sampling_is_repeatable(lesions, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        run(
            *("sampling", "--features", lesions, "--min-lesions", 5, "--draws", 50),
            *("--seed", 7, "--out", folder),
        )
    for name in ("recovery", "pooled", "curve", "needed", "not_sampled"):
        first, second = ((folder / f"{name}.csv").read_bytes() for folder in folders)
        assert first == second
    found = written(folders[0])
    exact = found["pooled"].query("strategy == 'random_2' and index == 'ath_pairs'")
    assert exact["expected_percent"].item() == pytest.approx(100)
    assert len(found["not_sampled"]) == 4
    assert "too_few_lesions" in found["not_sampled"]["reason"].iloc[0]


def test_robustness_keeps_at_08_and_counts_absent_masks(tmp_path):
    base = table()
    paths = []
    for name in ("original", "eroded", "dilated"):
        made = base.copy()
        if name == "eroded":
            made[SHORT[0]] = made[SHORT[0]].sample(frac=1, random_state=1).to_numpy()
            made = made.iloc[3:]
        path = tmp_path / f"{name}.csv"
        made.to_csv(path, index=False)
        paths.append(path)
    out = tmp_path / "out"
    result = run(
        "robustness", "--features", paths[0], "--eroded", paths[1], "--dilated", paths[2],
        "--out", out,
    )  # fmt: skip
    rows = written(out)["robustness"].set_index("feature")
    assert not rows.loc[SHORT[0], "kept"]
    assert rows["kept"].sum() == 7
    assert (rows["n_eroded"] == len(base) - 3).all()
    assert "3 of 36 lesion(s) have no eroded mask" in result.stderr
    assert (out / "kept.txt").read_text().splitlines() == list(SHORT[1:])


def test_robustness_from_dicom(tmp_path):
    """The node perturbs the masks itself: a millimetre less is a smaller lesion."""
    write_study(tmp_path / "dicom", n_lesions=3, seed=1)
    run(
        *("robustness", "--dicom", tmp_path / "dicom", "--profile", "henry2022"),
        *("--fewest", 2, "--out", tmp_path / "out"),
    )
    found = written(tmp_path / "out")
    volumes = [found[name].set_index("tracking_uid")[VOLUME] for name in MASKS]
    assert len(volumes[0]) == 3
    both = volumes[1].dropna().index
    assert (volumes[1][both] < volumes[0][both]).all()
    assert (volumes[2] > volumes[0]).all()
    rows = found["robustness"].set_index("feature")
    assert len(rows) == 107
    assert (rows["n_dilated"] == 3).all()


def test_reduce_and_clusters(lesions, tmp_path):
    run("reduce", "--features", lesions, "--mode", "code_fixed", "--out", tmp_path / "mirv")
    kept = (tmp_path / "mirv" / "kept.txt").read_text().splitlines()
    features = written(tmp_path / "mirv")["features"].set_index("feature")
    assert features.index[features["kept"] == 1].tolist() == kept
    run("reduce", "--features", lesions, "--clusters", 3, "--out", tmp_path / "clusters")
    found = written(tmp_path / "clusters")["clusters"]
    assert found["cluster"].nunique() == 3
    assert found["representative"].sum() == 3


def test_response_of_two_time_points(tmp_path):
    """Matched by tracking UID, then by name; one vanished, one new."""
    columns = ["patient_id", "tracking_uid", "lesion", "site", "volume_ml"]
    before = [
        ("p", "1", "A", "liver", 4.0),
        ("p", "2", "B", "lung", 2.0),
        ("p", "3", "C", "bone", 1),
    ]
    after = [
        ("p", "1", "A", "liver", 2.0),
        ("p", "9", "B", "lung", 3.0),
        ("p", "5", "D", "bone", 1),
    ]
    paths = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for path, rows in zip(paths, (before, after), strict=True):
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    run("response", "--previous", paths[0], "--current", paths[1], "--out", tmp_path / "out")
    found = written(tmp_path / "out")
    states = (
        found["lesions"].set_index("name")[["state", "matched_by"]].fillna("").T.to_dict("list")
    )
    assert states == {
        "A": ["matched", "tracking_uid"],
        "B": ["matched", "name"],
        "C": ["vanished", ""],
        "D": ["new", ""],
    }
    patient = found["patients"].iloc[0]
    assert (patient["n_matched"], patient["n_vanished"], patient["n_new"]) == (2, 1, 1)
    assert patient["volume_change_range_percent"] == 200
    assert patient["tsrc_methods"] == 0
    assert "recist" not in found


@pytest.mark.parametrize(
    ("received", "states"), [(True, {"new", "vanished"}), (False, {"unmatched"})]
)
def test_derived_uids_of_the_nodes_own_tables_tell_nothing(tmp_path, received, states):
    """`tracking` says where a UID comes from; A is found again by its own, the others are not."""
    columns = ["patient_id", "tracking_uid", "tracking", "lesion", "site", "volume_ml"]
    columns.append("original_shape_Maximum2DDiameterSlice")
    other = "received" if received else "derived"
    before = [
        ("p", "1", "received", "A", "lung", 4.0, 30.0),
        ("p", "2", other, "Segment_2", "lung", 2.0, 20.0),
    ]
    after = [
        ("p", "1", "received", "A", "lung", 2.0, 30.0),
        ("p", "9", other, "Segment_2", "lung", 3.0, 25.0),
    ]
    paths = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for path, rows in zip(paths, (before, after), strict=True):
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    run("response", "--previous", paths[0], "--current", paths[1], "--out", tmp_path / "out")
    found = written(tmp_path / "out")
    lesions = found["lesions"].set_index("name")
    assert set(lesions.loc["Segment_2", "state"]) == states
    patient, recist = found["patients"].iloc[0], found["recist"].iloc[0]
    assert patient["volume_total_change_percent"] == pytest.approx(-100 / 6)
    if received:
        assert (patient["n_vanished"], patient["n_new"], recist["response"]) == (1, 1, "PD")
    else:
        assert patient["n_vanished_reason"].startswith("lesions_not_matched")
        assert patient["n_lesions"] == 2
        assert recist["response"] == "NE"
        assert recist["reason"].startswith("lesions_not_matched")


def test_recist_of_two_time_points(tmp_path):
    """B is matched by name; a new lesion in q makes its response PD."""
    long_axis = "original_shape_Maximum2DDiameterSlice"
    columns = ["patient_id", "tracking_uid", "lesion", "site", "volume_ml", long_axis]
    before = [
        ("p", "1", "A", "liver", 4, 30),
        ("p", "2", "B", "lung", 2, 20),
        ("q", "3", "C", "lung", 1, 9),
    ]
    after = [
        ("p", "1", "A", "liver", 2, 15),
        ("p", "9", "B", "lung", 1, 10),
        ("q", "4", "D", "lung", 1, 9),
    ]
    paths = [tmp_path / "before.csv", tmp_path / "after.csv"]
    for path, rows in zip(paths, (before, after), strict=True):
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    run("response", "--previous", paths[0], "--current", paths[1], "--out", tmp_path / "out")
    found = written(tmp_path / "out")["recist"].set_index("patient_id")
    assert found.loc["p", ["baseline_mm", "current_mm", "change_percent"]].tolist() == [50, 25, -50]
    assert found["response"].to_dict() == {"p": "PR", "q": "PD"}


def test_survival_with_categories_split_and_subgroup(tmp_path):
    random = np.random.default_rng(1)
    n = 90
    made = pd.DataFrame(
        {
            "patient_id": [f"P{i}" for i in range(n)],
            "x": random.normal(size=n),
            "age": random.integers(40, 90, n),
            "kind": random.choice(["A", "B"], n),
            "event": (random.random(n) < 0.8).astype(int),
        }
    )
    made["time"] = random.exponential(np.exp(-made["x"]))
    path = tmp_path / "p.csv"
    made.to_csv(path, index=False)
    run(
        *("survival", "--table", path, "--duration", "time", "--event", "event"),
        *("--terms", "x,old,kind", "--category", "kind=B", "--derive", "old=age>=65"),
        *("--interaction", "kind:x", "--split", "x", "--subgroup", "kind", "--out", tmp_path / "o"),
    )
    found = written(tmp_path / "o")
    assert found["cox"]["term"].tolist() == ["x", "old", "kind[A]", "kind[A]:x"]
    assert found["cox"].loc[0, "hazard_ratio"] > 1.5
    assert found["logrank"]["subgroup"].fillna("").tolist() == ["", "A", "B"]
    assert (tmp_path / "o" / "forest.png").is_file()
    provenance = json.loads((tmp_path / "o" / "provenance.json").read_text())
    assert provenance["cox"]["n_events"] == made["event"].sum()
    assert provenance["inputs"][0]["n_rows"] == n
    assert len(provenance["inputs"][0]["sha256"]) == 64
    assert "Research use" in provenance["notice"]


def test_explore_by_patient(lesions, tmp_path):
    run(
        *("explore", "--features", lesions, "--outcome", "arm", "--aggregate", "max"),
        *("--volume-column", VOLUME, "--bootstrap", 50, "--out", tmp_path),
    )
    found = written(tmp_path)["features"].set_index("feature")
    assert (found["n"] == 8).all()
    assert found.loc[VOLUME, "volume_surrogate"] == 1
    assert found["auc"].between(0.5, 1).all()


def test_correlate_row_by_row_with_category(lesions, tmp_path):
    run("correlate", "--table", lesions, "--category", "site", "--out", tmp_path)
    found = written(tmp_path)
    assert len(found["spearman"]) == 28
    assert (found["kruskal"]["groups"] == "bone / liver / lung").all()


def test_parquet_in_and_out(lesions, tmp_path):
    source = tmp_path / "lesions.parquet"
    pd.read_csv(lesions, float_precision="round_trip").to_parquet(source)
    for path, kind in ((source, "parquet"), (lesions, "csv")):
        run("henry", "--features", path, "--format", kind, "--out", tmp_path / kind)
    columnar = pd.read_parquet(tmp_path / "parquet" / "pairs.parquet")
    plain = pd.read_csv(tmp_path / "csv" / "pairs.csv", float_precision="round_trip")
    assert columnar["reason"].isna().all()
    columns = plain.columns.drop(["reason", "cohort"])
    assert columnar["cohort"].isna().tolist() == plain["cohort"].isna().tolist()
    pd.testing.assert_frame_equal(columnar[columns], plain[columns], check_exact=True)


def test_the_node_s_own_tables(tmp_path):
    """Profile, status and several studies as ``mirv export`` writes them."""
    made = table().assign(profile="henry2022", status="ok", reason="", study_uid="1")
    made = made[made["patient_id"] == "P06"].assign(person="P06")
    other = made.assign(profile="mirv2025")
    made.loc[made["lesion"] == "L6", SHORT] = np.nan
    made.loc[made["lesion"] == "L6", ["status", "reason"]] = ["excluded", "timeout: 600 s"]
    later = made.assign(study_uid="2")
    path = tmp_path / "lesions.csv"
    pd.concat([made, other, later]).to_csv(path, index=False)
    assert "choose one with --profile" in refused("henry", "--features", path, "--out", tmp_path)
    words = ("henry", "--features", path, "--profile", "henry2022")
    assert "studies '1' and '2'" in refused(*words, "--out", tmp_path / "o")
    assert "study_is_no_person" in refused(*words, "--time-point", "all", "--out", tmp_path)
    run(*words, *("--time-point", "all", "--scaling", "patient_minmax"), "--out", tmp_path / "o")
    found = written(tmp_path / "o")
    assert found["patients"]["study_uid"].tolist() == [1, 2]
    assert (found["patients"]["n_lesions"] == 5).all()
    assert found["left_out"]["reason"].tolist() == ["excluded: timeout: 600 s"] * 2
    said = refused(
        *("mirv", "--features", path, "--profile", "henry2022"),
        *("--space", "sarc021-lung-paper", "--time-point", "all", "--out", tmp_path / "p"),
    )
    assert "other_profile" in said


# --- bad tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="patient_id"), "no column patient_id"),
        (lambda t: t.drop(columns=SHORT[2]), SHORT[2]),
        (lambda t: t.drop(columns=list(SHORT)), "named like a feature"),
        (
            lambda t: t.assign(**{SHORT[1]: ["x"] * len(t)}),
            f"column '{SHORT[1]}', row 1: found 'x'",
        ),
        (lambda t: t.assign(**{SHORT[1]: [np.inf] + [1.0] * 35}), f"'{SHORT[1]}', row 1"),
        (lambda t: t.assign(**{SHORT[3]: 7.0}), f"column '{SHORT[3]}' is the same"),
        (lambda t: t.assign(patient_id=[None, *t["patient_id"][1:]]), "'patient_id', row 1"),
        (lambda t: t.assign(lesion="L1"), "rows 2 and 3 are the same lesion"),
        (lambda t: pd.concat([t, t.tail(1).assign(lesion="L99")]), "row 37 repeats every feature"),
    ],
)
def test_bad_tables_are_refused_by_column_and_row(tmp_path, change, said):
    path = tmp_path / "bad.csv"
    change(table()).to_csv(path, index=False)
    assert said in refused("henry", "--features", path, "--out", tmp_path / "o")


def test_a_missing_feature_is_refused_for_fitting_and_left_out_in_a_frozen_space(tmp_path):
    made = table()
    made.loc[10, SHORT[0]] = np.nan
    path = tmp_path / "hole.csv"
    made.to_csv(path, index=False)
    said = refused("henry", "--features", path, "--out", tmp_path / "o")
    assert f"column '{SHORT[0]}', row 11: found no value" in said
    for words in (("--space", "sarc021-lung-henry8-minmax"), ("--incomplete", "leave-out")):
        result = run("henry", "--features", path, *words, "--out", tmp_path / "p")
        assert written(tmp_path / "p")["left_out"]["row"].tolist() == [11]
        assert "1 lesion(s) did not take part" in result.stderr


def test_one_patient_with_one_lesion_is_null_with_a_reason(tmp_path):
    path = tmp_path / "one.csv"
    table(1).to_csv(path, index=False)
    run("henry", "--features", path, "--scaling", "none", "--out", tmp_path / "o")
    row = written(tmp_path / "o")["patients"].iloc[0]
    assert np.isnan(row["mtd"])
    assert written(tmp_path / "o")["pairs"].empty
    assert row["mtd_reason"].startswith("too_few_lesions")
    assert "wanted at least 3" in refused("henry", "--features", path, "--out", tmp_path / "p")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("henry", "--features", "nowhere.csv"), "nowhere.csv"),
        (("correlate", "--table", "nowhere.csv"), "nowhere.csv"),
        (("robustness", "--features", "{lesions}"), "or --dicom"),
        (("response",), "--volumes, or --previous and --current"),
        (("henry", "--features", "{lesions}", "--space", "nowhere"), "no feature space 'nowhere'"),
        (("henry", "--features", "{lesions}", "--short-list-of", "mirv2025"), "no short list"),
        (("correlate", "--table", "{lesions}", "--columns", "site,arm"), "found 'bone'"),
        (
            ("correlate", "--table", "{lesions}", "--patient-column", "patient_id"),
            "'P02' stands in rows 2 and 3",
        ),
        (("correlate", "--table", "{lesions}", "--where", "site"), "--where"),
        (("correlate", "--table", "{lesions}", "--derive", "x>3"), "name=column>=number"),
        (("explore", "--features", "{lesions}", "--outcome", "site"), "choose a pair"),
        (
            ("survival", "--table", "{lesions}", "--duration", "x", "--event", "y"),
            "stands in rows",
        ),
    ],
)
def test_bad_requests_say_what_is_wrong(lesions, tmp_path, words, said):
    filled = [word.replace("{lesions}", str(lesions)) for word in words]
    assert said in refused(*filled, "--out", tmp_path / "o")


def test_volumes_of_nothing_are_refused(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("patient_id,VOLUME_PRE,VOLUME_POST\np,5,1\np,0,3\n")
    said = refused("response", "--volumes", path, "--out", tmp_path / "o")
    assert "column 'VOLUME_PRE', row 2: found 0" in said


# --- spaces -------------------------------------------------------------------------------------


def test_space_list_show_and_fit(lesions, tmp_path):
    listed = CliRunner().invoke(space_app, ["list"])
    assert [line.split("\t")[0] for line in listed.output.splitlines()] == [
        "sarc021-lung-henry8-minmax",
        "sarc021-lung-paper",
        "sarc021-lung-published-compat",
    ]
    words = ["fit", "--features", str(lesions), "--name", "own", "--out", str(tmp_path)]
    words += ["--short-list-of", "henry2022", "--profile", "henry2022"]
    fitted = CliRunner().invoke(space_app, words)
    assert fitted.exit_code == 0, fitted.output
    digest = re.search(r"digest (\w{64})", fitted.output)
    assert digest is not None
    shown = CliRunner().invoke(space_app, ["show", str(tmp_path / "own.json")])
    content = json.loads(shown.output)
    assert content["digest"] == digest[1]
    assert content["fitted_on"]["n_lesions"] == 36
    assert content["fitted_on"]["file"] == "lesions.csv"
    assert CliRunner().invoke(space_app, ["show", "nowhere"]).exit_code == 2
