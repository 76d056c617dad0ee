"""Lesions of DICOM folders, from their own masks and from smaller and larger ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mirv.analysis.errors import Unsuitable
from mirv.analysis.extraction.job import LesionLimits
from mirv.analysis.extraction.pool import Extractor
from mirv.analysis.model import LesionResult, StudyResult
from mirv.config.profiles import ExtractionProfile
from mirv.config.settings import Settings
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match
from mirv.service.research.cohort.persons import ANY, Choice
from mirv.service.research.cohort.sink import Sink
from mirv.service.research.cohort.source import Cohort, Columns, cohort_of
from mirv.service.study import result_tables
from mirv.service.study.plan import Plan, provenance
from mirv.service.study.result_record import ResultRecord, record_of

MASKS = ("original", "eroded", "dilated")


def extract_perturbed(
    paths: Sequence[Path],
    settings: Settings,
    profile: ExtractionProfile,
    sink: Sink,
    choice: Choice = ANY,
) -> tuple[Cohort, Cohort, Cohort]:
    """Read folders as ``mirv process`` does and extract each lesion from three masks (R-CCC-2).

    Writes one feature table a mask into the sink: ``original``, ``eroded``, ``dilated``.

    Raises
    ------
    Unsuitable
        No study of the folders can be analysed.
    """
    found = headers_of_folder(paths)
    matched = match([h for h in found.headers if not h.own], settings.reading)
    plan = Plan(profiles=(profile,), spaces=(), reading=settings.reading)
    limits = LesionLimits(
        settings.extraction.lesion_timeout_s, settings.extraction.lesion_memory_mb
    )
    by_mask: dict[str, list[ResultRecord]] = {mask: [] for mask in MASKS}
    with Extractor(workers=settings.extraction.workers, limits=limits) as extractor:
        for selection in sink.watch(matched.selections, "studies"):
            try:
                study = assemble(selection, lambda uid: found.paths[uid], plan.reading)
            except Unsuitable as error:
                sink.note(f"study {selection.study_uid} refused: {error.reason}")
                continue
            origin = provenance(study, plan)
            lesions = extractor.extract_perturbed(study.volume, study.lesions, [profile])
            for mask in MASKS:
                own: tuple[LesionResult, ...] = tuple(getattr(one, mask) for one in lesions)
                result = StudyResult(own, (), (), (), origin)
                by_mask[mask].append(record_of(study, result, selection.identity))
    if not by_mask["original"]:
        raise Unsuitable("no_lesions", "found no study with a lesion set that can be analysed")
    cohorts = []
    for mask, records in by_mask.items():
        names, rows = result_tables.lesion_rows(result_tables.in_order(records))
        table = pd.DataFrame(rows, columns=list(names))
        sink.table(mask, table)
        table["time_point"] = [str(row["time_point"] or "") for row in rows]
        # Lesions that vanish do not change the cohort.
        which = choice if mask == "original" else replace(choice, cohorts=())
        cohorts.append(cohort_of(table, Columns(), [], which))
        sink.report(cohorts[-1].report)
    return cohorts[0], cohorts[1], cohorts[2]
