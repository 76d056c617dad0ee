"""Taking objects in: what the index says of one beside what it says itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirv.config.settings.network import IdentityRules
from mirv.dicom_io.files.header import InstanceHeader
from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.objects import repair
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from tests.service.wire import ct_slice, part10

RULES = IdentityRules.model_validate(
    {"issuers": [{"issuer": "HOSP", "ae_title": "CT"}], "default_issuer": "ELSE"}
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    yield opened
    opened.close()


def indexed(store: Catalogue) -> list[InstanceHeader]:
    studies = {row.study_uid for row in store.instances.all()}
    return [InstanceHeader.from_json(text) for text in store.studies.headers(studies)]


@pytest.mark.parametrize("source", ["CT@192.0.2.1", "MR@192.0.2.1"])
@pytest.mark.parametrize("carried", ["", "THEIRS"])
@pytest.mark.parametrize("patient", ["", "17"])
def test_an_object_without_issuer_has_the_one_of_its_source(
    tmp_path: Path, store: Catalogue, source: str, carried: str, patient: str
) -> None:
    """In the index; the object itself stays as it came."""
    spool = Spool(tmp_path / "spool")
    ds = ct_slice(1)
    ds.PatientID, ds.IssuerOfPatientID = patient, carried
    content = part10(ds)
    assert Intake(spool, store, issuer_of=RULES.issuer_of).take(content, source).reason is None
    (header,) = indexed(store)
    by_default = bool(patient and not carried)
    default = "HOSP" if source.startswith("CT@") else "ELSE"
    assert header.issuer == (default if by_default else carried)
    assert header.issuer_by_default == by_default
    assert spool.path(header.sha256).read_bytes() == content


def test_what_is_indexed_after_a_crash_has_the_issuer_of_its_source(
    tmp_path: Path, store: Catalogue
) -> None:
    spool = Spool(tmp_path / "spool")
    ds = ct_slice(1)
    ds.PatientID = "17"
    spool.stage((part10(ds),), source="CT@192.0.2.1").keep()
    findings = repair.check(spool, store, in_flight_s=0)
    repair.put_right(spool, store, findings, issuer_of=RULES.issuer_of)
    assert [header.issuer for header in indexed(store)] == ["HOSP"]
