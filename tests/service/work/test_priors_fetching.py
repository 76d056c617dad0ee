"""An earlier study is fetched when it is surely of the patient, in the window, and described."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from mirv.analysis.errors import Reason, Transient
from mirv.config.settings.processing import Priors
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.service.peers.sources.query import FoundSeries, FoundStudy, series_of, studies_of
from mirv.service.work.schedule.prior_rule import (
    Candidate,
    Patient,
    choose,
    is_same_patient,
    window,
    worth_looking_into,
)
from tests.peers import Orthanc, free_port, orthanc
from tests.service.http_peer import archive
from tests.service.peers.sources.test_fetch import source

OURS = Patient("P1", "HOSPITAL", "19600101", "1.2.9", "20240401", "CT")


def study(uid: str = "1.2.1", day: str = "20240301", **fields: str) -> FoundStudy:
    known = {"patient_id": "P1", "issuer": "", "birth_date": "19600101", "study_time": "120000"}
    known |= {"description": "CT portal venous", **fields}
    return FoundStudy(study_uid=uid, study_date=day, **known)


def candidate(
    uid: str = "1.2.1", day: str = "20240301", kinds: str = "CT SEG", **fields: str
) -> Candidate:
    series = tuple(FoundSeries(uid, f"{uid}.{n}", kind, "") for n, kind in enumerate(kinds.split()))
    return Candidate(study(uid, day, **fields), series)


def test_the_window_is_that_of_the_settings() -> None:
    assert window(OURS, Priors()) == ("20231231", "20240408")
    assert window(OURS, Priors(from_days=-1, to_days=-1)) == ("20240331", "20240331")


@pytest.mark.parametrize(
    ("patient", "code"),
    [
        (Patient("", "H", "1960", "1.2", "20240401", "CT"), "patient_not_sure"),
        (Patient("P*", "H", "1960", "1.2", "20240401", "CT"), "patient_not_sure"),
        (Patient("P?", "H", "1960", "1.2", "20240401", "CT"), "patient_not_sure"),
        (Patient("P\\Q", "H", "1960", "1.2", "20240401", "CT"), "patient_not_sure"),
        (Patient("P", "", "", "1.2", "20240401", "CT"), "patient_not_sure"),
        (Patient("P", "H", "", "1.2", "", "CT"), "study_without_date"),
        (Patient("P", "H", "", "1.2", "20249999", "CT"), "study_without_date"),
        (Patient("P", "H", "", "1.2", "00010101", "CT"), "study_without_date"),
    ],
)
def test_without_a_sure_patient_or_a_date_no_one_is_asked(patient: Patient, code: str) -> None:
    found = window(patient, Priors())
    assert isinstance(found, Reason)
    assert found.code == code
    assert patient.patient_id == "" or patient.patient_id not in found.detail.split()


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({}, True),
        ({"birth_date": "", "issuer": "HOSPITAL"}, True),
        ({"issuer": "HOSPITAL"}, True),
        ({"birth_date": "19610101"}, False),
        ({"issuer": "OTHER"}, False),
        ({"birth_date": ""}, False),  # nothing but the PatientID agrees
        ({"patient_id": "P10"}, False),
        ({"patient_id": "p1"}, False),
    ],
)
def test_who_is_the_same_patient(fields: dict[str, str], same: bool) -> None:
    assert is_same_patient(OURS, study(**fields)) is same


def test_the_own_study_and_others_of_its_day_are_left_out() -> None:
    found = [study("1.2.9"), study("1.2.8", "20240401"), study("1.2.7", ""), study("1.2.6")]
    assert [one.study_uid for one in worth_looking_into(OURS, found)] == ["1.2.6"]


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([candidate("1.2.1", "20240201"), candidate("1.2.2", "20240301")], "1.2.2"),
        ([candidate("1.2.1", "20240404"), candidate("1.2.2", "20240101")], "1.2.2"),
        ([candidate("1.2.1", "20240404"), candidate("1.2.2", "20240403")], "1.2.2"),
        ([candidate("1.2.1", study_time="0800"), candidate("1.2.2", study_time="0900")], "1.2.2"),
        ([candidate("1.2.2"), candidate("1.2.1")], "1.2.1"),
        ([candidate("1.2.1", kinds="CT"), candidate("1.2.2", "20240102")], "1.2.2"),
        ([candidate("1.2.1", kinds="MR SEG"), candidate("1.2.2", "20240102")], "1.2.2"),
        ([candidate("1.2.1", kinds="CT RTSTRUCT")], "1.2.1"),
        ([candidate("1.2.1", description="native"), candidate("1.2.2", "20240102")], "1.2.2"),
    ],
)
def test_one_is_chosen_by_the_rule_in_any_order(candidates: list[Candidate], chosen: str) -> None:
    for some in (candidates, candidates[::-1]):
        found = choose(OURS, some, Priors())
        assert isinstance(found, Candidate)
        assert found.study.study_uid == chosen


def test_none_that_fits_has_its_reason() -> None:
    found = choose(OURS, [candidate(description="native"), candidate(kinds="CT")], Priors())
    assert isinstance(found, Reason)
    assert found.detail == (
        "found 2 other studies in the window, 1 of them with CT and a segmentation, "
        "wanted one described by portal or venous"
    )
    assert isinstance(choose(OURS, [candidate(description="")], Priors(words=())), Candidate)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("peer")
    with orthanc(folder / "orthanc", {"NODE": ("MIRV", free_port())}) as peer:
        for time_point, patient in ((0, "P1"), (1, "P1"), (0, "P10")):
            peer.upload(born(patient, time_point, folder / f"{patient}{time_point}").files)
        yield peer


def born(patient_id: str, time_point: int, folder: Path) -> Phantom:
    """A study whose every object knows the patient's birth date."""
    made = write_study(
        folder, n_lesions=1, shape=(10, 64, 64), patient_id=patient_id, time_point=time_point,
        ct_tags={"PatientBirthDate": "19600101", "SeriesDescription": "Portal-venous"},
    )  # fmt: skip
    assert made.seg is not None
    ds = dcmread(made.seg)
    ds.PatientBirthDate = "19600101"
    ds.save_as(made.seg)
    return made


@pytest.mark.peers
@pytest.mark.parametrize("method", ["dicomweb", "c-get"])
def test_orthanc_says_the_same_either_way(peer: Orthanc, method: str) -> None:
    asked = source(peer, method)
    (found,) = studies_of(asked, "P1", "20200101", "20200301", "MIRV")
    assert (found.patient_id, found.birth_date, found.study_date, found.study_time) == (
        "P1", "19600101", "20200115", "120000",
    )  # fmt: skip
    assert len(studies_of(asked, "P1", "20200101", "20201231", "MIRV")) == 2
    assert studies_of(asked, "P2", "20200101", "20201231", "MIRV") == []
    series = series_of(asked, found.study_uid, "MIRV")
    assert sorted((one.modality, one.description) for one in series)[0] == ("CT", "Portal-venous")
    assert {one.modality for one in series} == {"CT", "SEG"}
    assert {one.study_uid for one in series} == {found.study_uid}


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[" * 100_000])
def test_an_odd_answer_to_a_query_may_pass(body: bytes) -> None:
    with archive() as server:
        server.body = body
        nobody = Orthanc(f"http://127.0.0.1:{server.server_port}", 1, "ORTHANC")
        nobody.http.close()
        with pytest.raises(Transient, match="query"):
            studies_of(source(nobody, "dicomweb"), "P1", "20200101", "20200301", "MIRV")


def test_odd_values_in_an_answer_are_no_studies() -> None:
    with archive() as server:
        server.body = b'[7, {"0020000D": 7}, {"0020000D": {"Value": [[]]}}, null]'
        nobody = Orthanc(f"http://127.0.0.1:{server.server_port}", 1, "ORTHANC")
        nobody.http.close()
        found = studies_of(source(nobody, "dicomweb"), "P1", "20200101", "20200301", "MIRV")
    assert worth_looking_into(OURS, found) == []
