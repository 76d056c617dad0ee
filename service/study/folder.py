"""``mirv process``: the same pipeline on folders of DICOM, without network or database."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from mirv.analysis.errors import Unsuitable
from mirv.analysis.extraction.pool import Extractor
from mirv.config.errors import opening
from mirv.config.settings import Settings
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.files.header import read_header
from mirv.dicom_io.model import Artifact, QualityOutcome, QualityRow
from mirv.dicom_io.outputs import render
from mirv.dicom_io.standard.person import Identity, compare, in_words, persons_of_studies
from mirv.dicom_io.study.matching import Selection, Waiting, match, unmatched
from mirv.service.study import pipeline
from mirv.service.study.comparison import as_compared
from mirv.service.study.plan import Plan, extractor_from, plan_from, run_digest
from mirv.service.study.result_record import ResultRecord, record_of
from mirv.service.study.table_files import write_tables

log = logging.getLogger(__name__)


@dataclass(slots=True)
class FolderResult:
    """What became of a folder.

    Attributes
    ----------
    records : list of ResultRecord
        One a selection that was analysed.
    artifacts : list of Path
        DICOM files written.
    pictures : list of Path
        Folders of quick-check images, where they are set.
    tables : list of Path
    refused : list of QualityRow
        Why the rest gave no result.
    faults : int
        Selections that failed by a bug, each logged with its traceback.
    """

    records: list[ResultRecord] = field(default_factory=list)
    artifacts: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    refused: list[QualityRow] = field(default_factory=list)
    faults: int = 0

    @property
    def exit_code(self) -> int:
        """0 all done, 2 some input refused, 1 a fault."""
        if self.faults:
            return 1
        return 2 if any(row.refused for row in self.refused) else 0


def process_folder(
    paths: Sequence[Path],
    out: Path,
    settings: Settings,
    profiles: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    created: datetime | None = None,
) -> FolderResult:
    """Analyse every image that has a lesion set and write everything to `out`.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders; folders are read to the bottom.
    out : Path
    settings : Settings
    profiles : sequence of str
        Names or paths; empty: those of the settings.
    progress : callable, optional
        Called with (lesions done, lesions in all) for the image in work.
    created : datetime, optional
        Date and time the outputs carry; none: now.
    """
    plan = plan_from(settings, profiles)
    result = FolderResult()
    found = headers_of_folder(paths)
    result.refused.extend(found.quality)
    issuer = settings.identity.issuer_of_folder()
    headers = [header.issued_by(issuer) for header in found.headers if not header.own]
    matched = match(headers, settings.reading)
    result.refused.extend(matched.quality)
    result.refused.extend(
        _unmatched(waiting, alone=not matched.selections) for waiting in matched.waiting
    )
    with opening():
        out.mkdir(parents=True, exist_ok=True)
    dates = {header.sop_instance_uid: header.study_date for header in found.headers}
    with extractor_from(settings) as extractor:
        persons = persons_of_studies((one.study_uid, one.identity) for one in matched.selections)
        folder_run = _FolderRun(
            found.paths, out, settings, plan, extractor, persons, progress, created
        )
        # Earlier studies first: a later one of the same patient is compared with them.
        for selection in sorted(
            matched.selections, key=lambda one: (dates[one.images[0]], one.series_uid)
        ):
            try:
                result.artifacts.extend(folder_run.process(selection))
            except Unsuitable as error:
                result.refused.append(_refusal(selection, error))
            except Exception:  # one faulty study never stops the others
                log.exception("study failed", extra={"selection": selection.input_digest})
                result.faults += 1
                result.refused.append(_fault(selection))
    result.records = [record for _, record in folder_run.done]
    result.pictures = folder_run.pictures
    result.refused.extend(folder_run.quality)
    result.tables = write_tables(
        out,
        result.records,
        result.refused,
        profiles={profile.name: asdict(profile) for profile in plan.profiles},
    )
    return result


@dataclass(slots=True)
class _FolderRun:
    """The pipeline on one call's folders; remembers results for later studies of a patient."""

    paths: Mapping[str, Path]
    out: Path
    settings: Settings
    plan: Plan
    extractor: Extractor
    persons: Mapping[tuple[str, Identity], str]
    progress: Callable[[int, int], None] | None
    created: datetime | None
    done: list[tuple[str, ResultRecord]] = field(default_factory=list)
    selections: dict[str, Selection] = field(default_factory=dict)
    quality: list[QualityRow] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    def process(self, selection: Selection) -> list[Path]:
        """Analyse one selection; the DICOM files written."""
        first = read_header(self.paths[selection.images[0]])
        prior = self._prior(selection, first.study_date)
        study, result = pipeline.analyse_selection(
            selection,
            self.paths.__getitem__,
            self.plan,
            extractor=self.extractor,
            progress=self.progress,
            prior=prior[1] if prior else None,
        )
        study = as_compared(study, result)
        run = run_digest(study.input_digest, self.plan, prior[0] if prior else "")
        created = self.created or datetime.now(UTC)
        context = pipeline.render_context(run, self.plan, self.settings, created)
        artifacts = render(study, result, context)
        if self.settings.outputs.quick_check:
            pictures = self.out / f"quick-check-{run[:12]}"
            pipeline.write_pictures(study, pictures, self.settings)
            self.pictures.append(pictures)
        record = record_of(study, result, selection.identity)
        self.done.append((run, replace(record, person=self._person(selection))))
        self.selections[run] = selection
        return _write(self.out, run, artifacts)

    def _prior(self, selection: Selection, study_date: str) -> tuple[str, ResultRecord] | None:
        """The one result of the patient's latest earlier study; none where several may be meant."""
        if not (self.settings.compare_with_prior and selection.patient_id and study_date):
            return None
        earlier = [
            (run, record)
            for run, record in self.done
            if record.patient_id == selection.patient_id
            and "" < record.study_date < study_date
            and self.selections[run].modality == selection.modality
        ]
        earlier = [one for one in earlier if self._is_of_the_person(selection, one[0])]
        latest = max((record.study_date for _, record in earlier), default="")
        found = [one for one in earlier if one[1].study_date == latest]
        return found[0] if len(found) == 1 else None

    def _is_of_the_person(self, selection: Selection, run: str) -> bool:
        """False, and said, where an earlier study of the same Patient ID is not of the person."""
        other = self.selections[run]
        if self._person(selection) == self._person(other):
            return True
        differing = compare(selection.identity, other.identity).differing
        self.quality.append(
            QualityRow(
                study_uid=selection.study_uid,
                series_uid=selection.series_uid,
                check="other_person" if differing else "unsure_person",
                outcome=QualityOutcome.WARN,
                found=f"another {in_words(differing)}"
                if differing
                else "several persons under one Patient ID",
                wanted="the same person",
                detail=f"not compared with the earlier study {other.study_uid}: "
                + (
                    "it is of another person under the same Patient ID"
                    if differing
                    else "nothing tells which of them each of the two studies is of"
                ),
            )
        )
        return False

    def _person(self, selection: Selection) -> str:
        return self.persons[selection.study_uid, selection.identity]


def _write(out: Path, run: str, artifacts: Sequence[Artifact]) -> list[Path]:
    """File names are made of our own words: no outside string reaches a path."""
    written = []
    for artifact in artifacts:
        path = out / f"{artifact.role}-{run[:12]}.dcm"
        path.write_bytes(artifact.content)
        written.append(path)
    return written


def _unmatched(waiting: Waiting, *, alone: bool) -> QualityRow:
    """An image without lesions beside others is worth a word; alone, or a lesion set, a refusal."""
    refuses = alone or bool(waiting.object_uid)
    return unmatched(waiting, QualityOutcome.REFUSED if refuses else QualityOutcome.WARN)


def _refusal(selection: Selection, error: Unsuitable) -> QualityRow:
    return _row(selection, error.reason.code, error.reason.detail)


def _fault(selection: Selection) -> QualityRow:
    return _row(selection, "fault", "the software failed; the log holds the traceback")


def _row(selection: Selection, check: str, detail: str) -> QualityRow:
    return QualityRow(
        study_uid=selection.study_uid,
        series_uid=selection.series_uid,
        check=check,
        outcome=QualityOutcome.REFUSED,
        detail=detail,
    )
