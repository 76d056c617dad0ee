"""Sources that answer oddly: nothing they say is believed unread, and all of it is told safely."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mirv.analysis.errors import Unsuitable
from mirv.config.settings.network import Source
from mirv.dicom_io.standard.person import Identity
from mirv.service.commands.main import app
from mirv.service.peers.sources.query import FoundStudy, studies_of
from mirv.service.research.retrieval.persons import SEVERAL, of_the_person
from mirv.service.research.retrieval.received import is_usable
from tests.service.http_peer import archive

TAGS = {
    "patient": "00100020", "study": "0020000D", "series": "0020000E", "date": "00080020",
    "modality": "00080060", "says": "0008103E",
}  # fmt: skip


def answer(*found: dict[str, str]) -> bytes:
    """A QIDO-RS answer."""
    return json.dumps(
        [{TAGS[name]: {"Value": [value]} for name, value in one.items()} for one in found]
    ).encode()


def test_what_a_source_calls_things_reaches_no_address_and_no_formula(tmp_path: Path) -> None:
    there = {"patient": "P1", "study": "1.2.3", "date": "20210301"}
    with archive() as server:
        server.body_of["/studies"] = answer(
            {**there, "study": ".."},
            {**there, "study": "1.2.3/../../x"},
            {**there, "study": "=cmd()"},
            {**there, "study": "1.2.4", "patient": "P10"},
            {**there, "study": "1.2.5", "date": "20210101\n"},
            there,
        )
        server.body_of["/studies/1.2.3/series"] = answer(
            {"study": "1.2.3", "series": "..", "modality": "CT"},
            {"study": "1.2.3", "series": "1.2.3.*", "modality": "SEG"},
            {"study": "1.2.9", "series": "1.2.3.1", "modality": "CT"},
            {"study": "1.2.3", "series": "1.2.3.2", "modality": "=CT"},
        )
        url = f"http://127.0.0.1:{server.server_port}"
        config = tmp_path / "mirv.yaml"
        config.write_text(
            yaml.safe_dump({"sources": [{"name": "pacs", "method": "dicomweb", "url": url}]})
        )
        patients = tmp_path / "patients.csv"
        patients.write_text("patient_id,index_date\nP1,20210301\n")
        done = CliRunner().invoke(
            app,
            ["retrieve", "--patients", str(patients), "--dry-run", "--list",
             str(tmp_path / "list.csv"), "--config", str(config)],
            catch_exceptions=False,
        )  # fmt: skip
        asked = {path.partition("?")[0] for path, _ in server.heard}
    assert done.exit_code == 2
    assert asked == {"/studies", "/studies/1.2.3/series"}
    with (tmp_path / "list.csv").open(newline="", encoding="utf-8") as file:
        found = [
            (row["study_uid"], row["series_uid"], row["reason"].partition(":")[0])
            for row in csv.DictReader(file)
        ]
    assert sorted(found) == sorted(
        [
            ("..", "", "uid_malformed"),
            ("1.2.3/../../x", "", "uid_malformed"),
            ("'=cmd()", "", "uid_malformed"),
            ("1.2.4", "", "other_person"),
            ("1.2.5", "", "study_without_date"),
            ("1.2.3", "", "in_window"),
            ("1.2.3", "..", "uid_malformed"),
            ("1.2.3", "1.2.3.*", "uid_malformed"),
            ("1.2.3", "1.2.3.1", "uid_malformed"),
            ("1.2.3", "1.2.3.2", "other_modality"),
        ]
    )


@pytest.mark.parametrize(
    ("uid", "usable"),
    [("1.2.3", True), ("01.2..3.", True), ("..", False), (".", False), ("", False), ("1*", False),
     ("1/2", False), ("1\\2", False), ("1" * 65, False)],
)  # fmt: skip
def test_which_uids_are_asked_for(uid: str, usable: bool) -> None:
    assert is_usable(uid) is usable


# --- persons --------------------------------------------------------------------------------


def study(uid: str, **said: str) -> FoundStudy:
    usual = {"patient_id": "P1", "issuer": "", "birth_date": "", "study_date": "20210301"}
    return FoundStudy(uid, **{**usual, "study_time": "", "description": "", **said})


BORN, LATER = {"birth_date": "19500101"}, {"birth_date": "1970.01.01"}


@pytest.mark.parametrize(
    ("wanted", "found", "kept"),
    [
        (Identity("P1"), [study("1"), study("2")], ["1", "2"]),
        (Identity("P1"), [study("1", **BORN), study("2", **LATER)], []),
        (Identity("P1"), [study("1", sex="F"), study("2", sex="m")], []),
        (Identity("P1"), [study("1", name="Doe^Ann"), study("2", name="Roe^Eve")], []),
        (Identity("P1", "", "19700101"), [study("1", **BORN), study("2", **LATER)], ["2"]),
        (Identity("P1", "A"), [study("1", issuer="B"), study("2", issuer="A "), study("3")],
         ["2", "3"]),
        # What says too little for the list contradicts the one that is surely meant.
        (Identity("P1", "", "19500101"), [study("1", **BORN, sex="F"), study("2", sex="M")], ["1"]),
        # A third that is like both tells nothing.
        (Identity("P1"), [study("1", **BORN), study("2", **LATER), study("3")], []),
        (Identity("P1"), [study("1", patient_id=" P1 "), study("2", patient_id="p1")], ["1"]),
        (Identity("P1"), [study("1", patient_id=""), study("2")], ["2"]),
    ],
)  # fmt: skip
def test_only_studies_of_the_listed_person_are_kept(
    wanted: Identity, found: list[FoundStudy], kept: list[str]
) -> None:
    for some in (found, found[::-1]):
        left, refused = of_the_person(wanted, some)
        assert sorted(one.study_uid for one in left) == kept
        assert {one.study_uid for one in found} == set(kept) | set(refused)
        assert all("1950" not in str(reason) for reason in refused.values())


def test_more_identities_than_can_be_compared_are_of_several() -> None:
    many = [study(f"1.{number}", name="A" * number) for number in range(1, 1000)]
    left, refused = of_the_person(Identity("P1"), many)
    assert left == []
    assert set(refused.values()) == {SEVERAL}


def test_a_query_without_end_is_no_answer() -> None:
    """See also the one by C-FIND in `tests/service/peers/test_association.py`."""
    with archive() as server:
        server.body = answer(*({"study": f"1.{number}"} for number in range(1001)))
        source = Source(
            name="pacs", method="dicomweb", url=f"http://127.0.0.1:{server.server_port}"
        )
        with pytest.raises(Unsuitable, match="found more than 1000 answers"):
            studies_of(source, "P1", "", "", "MIRV")
