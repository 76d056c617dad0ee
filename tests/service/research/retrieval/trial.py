"""The archive of `trial_table`: its objects, its list of patients, and the rows it must give."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread

from mirv.analysis.model import Geometry, Mask
from mirv.dicom_io.phantom.writers import (
    DrawnLesion,
    Identity,
    write_ct,
    write_rtstruct,
    write_seg,
)
from mirv.dicom_io.standard.identity import MANUFACTURER
from tests.service.research.retrieval.trial_table import IN_WORDS, LISTED, TABLE

MR_STORAGE, SC_STORAGE = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"
METHODS = ("dicomweb", "c-get")
INDEX = date(2021, 6, 1)
USUAL = {"born": "19600101", "issuer": "", "sex": "O"}


@dataclass
class Series:
    """A line of the table."""

    kind: str
    but: dict[str, str]
    taken: str
    reason: str


@dataclass
class Study:
    """A study of the table: its line, and those below it."""

    patient: str
    number: int
    day: str
    line: Series
    series: list[Series] = field(default_factory=list)

    @property
    def uid(self) -> str:
        digits = "".join(str(ord(sign)) for sign in self.patient)
        return f"1.2.826.0.1.{digits}.{self.number}" if self.day else ""

    @property
    def date(self) -> str:
        return "" if self.day in ("", "none") else _text(_index(self.patient), int(self.day))


def _index(patient: str) -> date:
    return INDEX + timedelta(days=sum(map(ord, patient)) % 50)


def _text(day: date, offset: int = 0) -> str:
    return (day + timedelta(days=offset)).strftime("%Y%m%d")


def studies(method: str) -> list[Study]:
    """The studies of the table, in its order, as they are told by this method."""
    found: list[Study] = []
    patient = ""
    lines = [line for line in TABLE.splitlines() if "|" in line and not line.startswith("#")]
    for line in lines[1:]:
        who, day, kind, but, taken, reason = (cell.strip() for cell in line.split("|"))
        patient = who or patient
        for short, words in IN_WORDS.items():
            reason = re.sub(short, words, reason)
        said = dict(one.split("=", 1) for one in but.split(";") if one)
        made = Series(kind, said, taken, reason)
        if kind in ("study", ""):
            told = (None, said.get("by"))
            number = 1 + sum(
                one.patient == patient and one.line.but.get("by") in told for one in found
            )
            found.append(Study(patient, number, day, made))
        else:
            found[-1].series.append(made)
    return [one for one in found if one.line.but.get("by", method) == method]


def rows(method: str) -> Iterator[tuple[str, ...]]:
    """Patient, index date, study, its date, series, taken, reason: what the table says."""
    for study in studies(method):
        head = (study.patient, _text(_index(study.patient)), study.uid, study.date)
        yield (*head, "", study.line.taken, study.line.reason)
        for number, one in enumerate(study.series, start=1):
            yield (*head, f"{study.uid}.{number}", one.taken, one.reason)


def write_list(path: Path) -> Path:
    """The list of patients, with blanks around and dates of both kinds."""
    lines = ["patient_id,index_date,issuer,birth_date"]
    for number, patient in enumerate(dict.fromkeys(one.patient for one in studies("c-get"))):
        listed = {"birth_date": "19600101", "issuer": "", **LISTED.get(patient, {})}
        index = _index(patient).isoformat() if number % 2 else _text(_index(patient))
        lines.append(f" {patient} ,{index},{listed['issuer']},{listed['birth_date']}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


# --- objects --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Named(Identity):
    """UIDs by the order of the table."""

    study: str = ""
    day: str = ""

    @property
    def study_date(self) -> str:
        return self.day

    def uid(self, *parts: str) -> str:
        if parts == ("study",):
            return self.study
        if parts[0] == "series":
            return f"{self.study}.{parts[1]}"
        if parts[1:] == ("object",):
            return f"{self.study}.{parts[0]}.1"
        if parts[1:2] and parts[1].startswith("slice "):
            return f"{self.study}.{parts[0]}.{int(parts[1][6:]) + 1}"
        return super().uid(self.study, *parts)


def write_objects(folder: Path) -> list[Path]:
    """Every object of the archive."""
    return [path for study in studies("c-get") if study.uid for path in _study(folder, study)]


def _study(folder: Path, study: Study) -> Iterator[Path]:
    who = _Named(study.patient, "Made^Up", study=study.uid, day=study.date)
    for number, one in enumerate(study.series or [Series("CT", {}, "", "")], start=1):
        place = folder / study.uid / str(number)
        place.mkdir(parents=True)
        for path in _series(place, who, str(number), one):
            said = {**USUAL, **study.line.but, **one.but}
            ds = dcmread(path)
            ds.StudyDescription = study.line.but.get("says", "CT Thorax Abdomen Pelvis")
            ds.PatientBirthDate, ds.IssuerOfPatientID = said["born"], said["issuer"]
            ds.PatientSex = said["sex"]
            ds.save_as(path)
            yield path


def _series(place: Path, who: _Named, number: str, one: Series) -> list[Path]:
    n_slices = int(one.but.get("slices", "3"))
    affine = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
    geometry = Geometry((n_slices, 16, 16), affine)
    if one.kind in ("CT", "MR"):
        return _images(place, who, number, one, geometry)
    mask = Mask.from_full(np.indices(geometry.shape).sum(axis=0) % 16 < 5)
    lesion = DrawnLesion("Lesion 1", "1", who.uid("tracking", one.kind), None, mask)
    write = write_seg if one.kind == "SEG" else write_rtstruct
    on = one.but.get("on", "1")
    path = write(place / "object.dcm", [lesion], geometry, who, series=on, name=number)
    if one.but.get("own"):
        _set(path, Manufacturer=MANUFACTURER)
    if one.but.get("more") != "own":
        return [path]
    other = write(place / "own.dcm", [lesion], geometry, who, series=on, name=number)
    _set(other, Manufacturer=MANUFACTURER, SOPInstanceUID=f"{who.study}.{number}.2")
    return [path, other]


def _images(place: Path, who: _Named, number: str, one: Series, geometry: Geometry) -> list[Path]:
    tags: dict[str, Any] = {
        "SeriesDescription": one.but.get("says", "portal venous"),
        "BodyPartExamined": one.but.get("body", ""),
        "SliceThickness": one.but.get("mm", "3").replace("none", ""),
        "Modality": one.kind,
    }
    if one.kind == "MR":
        tags["SOPClassUID"] = MR_STORAGE
    if one.but.get("capture"):
        tags["SOPClassUID"] = SC_STORAGE
    if one.but.get("scout"):
        tags["ImageType"] = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    chance = np.random.default_rng(sum(map(ord, who.study)))
    values = chance.integers(-100, 200, geometry.shape)
    paths = write_ct(place, values, geometry, who, series=number, **tags)
    if last := one.but.get("last_mm"):
        _set(paths[-1], SliceThickness=last)
    return paths


def _set(path: Path, **values: str) -> None:
    ds: Dataset = dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path)
