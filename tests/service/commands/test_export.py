"""``mirv export``: whose the rows are, and who is asked for."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from mirv.config.settings import Settings
from mirv.dicom_io.standard.person import Identity, persons
from mirv.service.catalogue import Catalogue
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.commands.export import app
from mirv.service.objects.spool import Spool
from mirv.service.research.pseudonym import Pseudonymiser
from mirv.service.runtime.node_folder import NodeFolder, catalogue_url
from mirv.service.study import result_record
from tests.service.study.test_result_tables import record

HER = Identity("17", "HOSP", "19500102", "F", "Müller^Anna")
OTHERS = {
    "issuer": replace(HER, issuer="ELSEWHERE"),
    "birth date": replace(HER, birth_date="19500103"),
    "sex": replace(HER, sex="M"),
    "name": replace(HER, name="Schmidt^Bert"),
}
ALONE = Identity("18", sex="F")


def node(folder: Path, identities: list[Identity]) -> Path:
    """Settings of a node with one finished study of each."""
    settings = Settings(folder=folder)
    folder.mkdir()
    catalogue, spool = Catalogue(catalogue_url(settings)), Spool(folder / "spool")
    for number, identity in enumerate(identities):
        study, patient = f"1.{number}", identity.patient_id
        made = record(patient_id=patient, study_uid=study, series_uid="1.8")
        selection = json.dumps({"identity": asdict(identity)})
        new = NewRun(study, study, "1.8", patient, made.study_date, "i", "p", selection)
        catalogue.runs.queue(new, 0)
        catalogue.runs.start(study, 1)
        content = spool.put([result_record.to_bytes(made)])
        catalogue.runs.note_result(study, content.sha256)
        catalogue.runs.finish(study, [], [], 1, 2)
    catalogue.close()
    config = folder.parent / "mirv.yaml"
    config.write_text(f"folder: {folder}\n")
    return config


def exported(config: Path, *words: str) -> tuple[pd.DataFrame, str]:
    """The patients' table and what the command said."""
    out = config.parent / "out"
    result = CliRunner().invoke(app, ["--config", str(config), "--out", str(out), *words])
    assert result.exit_code == 0, result.output
    return pd.read_csv(out / "patients.csv", dtype=str), result.output


@pytest.mark.parametrize("differing", OTHERS)
def test_each_person_has_one_pseudonym(tmp_path: Path, differing: str) -> None:
    """Two who share a Patient ID had one; who does not share it keeps theirs."""
    same = replace(HER, name="Mueller^A")
    config = node(tmp_path / "node", [HER, OTHERS[differing], same, ALONE])
    table, said = exported(config)
    of = dict(zip(table["study_uid"], table["patient_id"], strict=True))
    key = NodeFolder(tmp_path / "node").pseudonym_key.read_bytes()
    hide = Pseudonymiser(key)
    hers, his, hers_again, alone = (of[hide.uid(f"1.{number}")] for number in range(4))
    assert hers == hers_again
    assert len({hers, his, alone, hide.patient("17")}) == 4
    assert alone == hide.patient("18")
    assert "17" not in said


def test_the_pseudonym_of_a_shared_patient_id_is_no_other_patient_id_s() -> None:
    hide = Pseudonymiser(b"k" * 32)
    key = persons([HER, OTHERS["sex"]])[HER]
    assert hide.patient("17", key) != hide.patient(key)
    assert hide.patient("17", "17") == hide.patient("17")


def test_a_patient_id_that_several_share_says_so_and_a_person_is_asked_for_alone(
    tmp_path: Path,
) -> None:
    config = node(tmp_path / "node", [HER, OTHERS["sex"], ALONE])
    keys = persons([HER, OTHERS["sex"]])
    table, said = exported(config, "--patient", "17", "--identified")
    assert set(table["study_uid"]) == {"1.0", "1.1"}
    plain = "".join(said.split())
    assert all(key in plain for key in keys.values())
    table, said = exported(config, "--patient", keys[HER], "--identified")
    assert set(table["study_uid"]) == {"1.0"}
    assert "share" not in said
    listed = tmp_path / "cohort.txt"
    listed.write_text(f"18\n{keys[OTHERS['sex']]}\n")
    table, said = exported(config, "--cohort", str(listed), "--identified")
    assert set(table["study_uid"]) == {"1.1", "1.2"}
    assert "share" not in said
