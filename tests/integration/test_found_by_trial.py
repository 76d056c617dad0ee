"""Inputs on which an earlier version joined numbers to the wrong person, image or lesion.

What is right stands beside them in their ``truth.csv``, worked out from the arrays they were
written from; nothing of it is written down here.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from mirv.config.settings import Settings
from mirv.service.study.folder import process_folder
from tests.service.commands.test_cohort import refused, run

pytestmark = pytest.mark.shared

Tables = dict[str, pd.DataFrame]
MEAN = "original_firstorder_Mean"
HU = 5e-6  # the truth has six decimals
WHO_IS_WHO = {
    "D06-roi-of-another-frame": ["other_frame_of_reference"],
    "D06-roi-of-another-series": ["other_images"],
    "D07-seg-of-another-patient": ["other_patient"],
    "D07-two-patients-in-one-series": ["several_patients"],
    "D14-two-frames-of-reference": ["several_frames_of_reference"],
    "D15-two-acquisitions-interleaved": ["interleaved_acquisitions"],
    "M01-edited-seg-without-tracking": ["version"],
    "M02-deleted-lesion": ["version", "lesion_gone"],
    "H01-two-people-one-patient-id": ["other_person"],
    "H02-series-uid-of-another-patient": [],
}
"""Folders, and the checks that have to say why."""


@pytest.fixture(scope="session")
def trial(shared: Path) -> Path:
    return shared.parent / "findings"


@pytest.fixture(scope="module")
def processed(trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tables]:
    """The tables that `mirv process` makes of a folder."""
    profile = trial / "profiles" / "plain.yaml"

    @cache
    def tables(case: str) -> Tables:
        out = tmp_path_factory.mktemp(case)
        process_folder([trial / "dicom" / case], out, Settings(), [str(profile)])
        return {path.stem: pd.read_csv(path, dtype=str) for path in out.glob("*.csv")}

    return tables


@pytest.mark.parametrize("case", WHO_IS_WHO)
def test_every_lesion_is_the_one_of_the_truth(
    trial: Path, processed: Callable[[str], Tables], case: str
) -> None:
    """D6, D7, D14, D15, H1, H2, M1 and M2: nothing lost, nothing more, and said why."""
    truth = pd.read_csv(trial / "dicom" / "truth.csv")
    truth = truth[truth["case"].str.split("/").str[0] == case]
    assert len(truth)
    found = processed(case)
    left = list(found["lesions"].itertuples())
    for one in truth.itertuples():
        own = [
            row
            for row in left
            if row.lesion == one.lesion
            and float(getattr(row, MEAN)) == pytest.approx(one.mean_hu, abs=HU)
            and float(row.volume_ml) == pytest.approx(one.volume_ml, abs=HU)
        ]
        must = one.outcome.startswith("processed") and "refused" not in one.outcome
        assert len(own) == 1 or not must, one
        left = [row for row in left if row not in own]
    assert left == [], "numbers of no lesion of the truth"
    assert set(WHO_IS_WHO[case]) <= set(found["quality"]["check"])


def test_two_persons_of_one_patient_id_are_not_compared(processed: Callable[[str], Tables]) -> None:
    found = processed("H01-two-people-one-patient-id")
    assert found["lesions"]["person"].nunique() == found["lesions"]["study_uid"].nunique() == 2
    assert found["changes"].empty
    assert "n_matched" not in found["patients"], "columns of a comparison"


def test_a_series_uid_in_two_studies_is_two_series(processed: Callable[[str], Tables]) -> None:
    lesions = processed("H02-series-uid-of-another-patient")["lesions"]
    assert lesions["series_uid"].nunique() == 1
    assert lesions.groupby("study_uid")["patient_id"].nunique().tolist() == [1, 1]
    assert lesions["person"].nunique() == 2


def test_generic_names_match_nothing(processed: Callable[[str], Tables]) -> None:
    """X9: nothing changed, yet 0.53 ml became 7 ml and 7 ml became 0.53."""
    changes = processed("X10-generic-names-redrawn")["changes"]
    assert Counter(changes["state"]) == {"unmatched": 4}
    assert changes["change_percent"].isna().all()
    assert changes["reason"].str.startswith("generic_name: ").all()


# --- tables -------------------------------------------------------------------------------------


def number(text: str, before: str) -> float:
    """The number that stands before some words of the truth."""
    return float(text.partition(before)[0].split()[-1])


@pytest.fixture
def right(trial: Path) -> dict[str, list[str]]:
    """What is right of each table, by its number."""
    rows = pd.read_csv(trial / "tables" / "truth.csv", dtype=str)
    return rows.groupby("id")["right"].apply(list).to_dict()


def lesions_of(out: Path) -> dict[str, tuple[str, float | None]]:
    rows = pd.read_csv(out / "lesions.csv", dtype={"tracking_uid": str}).itertuples()
    return {row.tracking_uid: (row.state, row.change_percent) for row in rows}


@pytest.mark.parametrize("current", ["R02-later.csv", "R02-two-studies.csv"])
def test_two_studies_of_a_patient_are_not_pooled(trial: Path, tmp_path: Path, current: str) -> None:
    """R2: "refused (two studies of P1 in one table)"; nothing tells which came first."""
    tables = trial / "tables"
    words = ("--previous", tables / "R02-two-studies.csv", "--current", tables / current)
    assert "several_studies: " in refused("response", *words, "--out", tmp_path / "out")


@pytest.mark.parametrize("pair", ["a", "b"])
def test_identifiers_of_lesions_are_text(
    trial: Path, tmp_path: Path, right: dict[str, list[str]], pair: str
) -> None:
    """R3: 1.10 is not 1.1, and 001 is 001 though another identifier is no number."""
    tables = trial / "tables"
    words = ("--previous", tables / f"R03-{pair}1.csv", "--current", tables / f"R03-{pair}2.csv")
    run("response", *words, "--out", tmp_path)
    told = [part.split() for part in right["R03"]["ab".index(pair)].split("; ")]
    wanted = {part[0]: part[1:] for part in told if part[0] != "no"}
    found = lesions_of(tmp_path)
    assert {uid: state for uid, (state, _) in found.items()} == {
        uid: part[0] for uid, part in wanted.items()
    }
    for uid, part in wanted.items():
        if part[0] == "matched":
            assert found[uid][1] == pytest.approx(float(part[1]))


def test_lesions_whose_names_look_like_one_number_are_each_one(
    trial: Path, tmp_path: Path, right: dict[str, list[str]]
) -> None:
    """R3: ten lesions 1.1 to 1.10."""
    run("variation", "--features", trial / "tables" / "R03-c.csv", "--out", tmp_path)
    found = pd.read_csv(tmp_path / "patients.csv").iloc[0]
    assert found["n_lesions"] == number(right["R03"][2], "lesions,")
    assert found["cv_mean_percent"] == pytest.approx(number(right["R03"][2], "% (ddof 1)"))


def test_lesions_are_not_joined_by_row(trial: Path, tmp_path: Path) -> None:
    """R6: "cannot be known without a lesion column: refused"."""
    tables = trial / "tables"
    words = ["--features", tables / "R06-original.csv", "--dilated", tables / "R06-original.csv"]
    words += ["--eroded", tables / "R06-eroded-one-row-less.csv", "--out", tmp_path / "out"]
    assert "missing_column: " in refused("robustness", *words)


def test_whom_a_join_leaves_out_is_said(
    trial: Path, tmp_path: Path, right: dict[str, list[str]]
) -> None:
    """R8: five joined once blanks are cut, and the others named."""
    tables = trial / "tables"
    words = ["--table", tables / "R08-outcome.csv", "--table", tables / "R08-age.csv"]
    words += ["--duration", "t", "--event", "e", "--terms", "age", "--out", tmp_path]
    said = run("survival", *words).stderr
    cox = pd.read_csv(tmp_path / "cox.csv").set_index("term").loc["age"]
    assert cox["coefficient"] == pytest.approx(number(right["R08"][0], "(se"), abs=1e-7)
    assert "(F" in said


def test_a_study_is_no_patient(trial: Path, tmp_path: Path, right: dict[str, list[str]]) -> None:
    """N7: "or refused": nothing tells which study comes first; with dates the first one counts."""
    table = trial / "tables" / "N07-two-studies.csv"
    words = ["--group-column", "grp", "--out", tmp_path / "out"]
    assert "several_studies: " in refused("variation", "--features", table, *words)
    rows = pd.read_csv(table, dtype=str)
    first = rows["study_uid"].map(lambda uid: uid == rows["study_uid"].min())
    rows["study_date"] = first.map({True: "20250101", False: "20250401"})
    dated = tmp_path / "dated.csv"
    rows.to_csv(dated, index=False)
    run("variation", "--features", dated, *words)
    found = pd.read_csv(tmp_path / "out" / "features.csv").iloc[0]
    truth = right["N07"][0]
    assert found["n_patients"] == number(truth, ": t")
    assert found["t"] == pytest.approx(number(truth, "p 0.0002"), abs=1e-6)
    assert found["rank_sum_u"] == number(truth, "p 0.003")
