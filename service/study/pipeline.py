"""One study from its objects to its artifacts: the composition every trigger shares.

No network and no database here: the workflow, ``mirv process`` and the demo call the same
functions, so a number cannot depend on the way in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mirv.analysis.errors import Unsuitable
from mirv.analysis.extraction.pool import Extractor
from mirv.analysis.model import StudyResult
from mirv.analysis.patient.response import with_response
from mirv.analysis.patient.study import analyse
from mirv.config.settings import Settings
from mirv.dicom_io.masks.identities import identities_of
from mirv.dicom_io.model import Predecessor, QualityRow, RenderContext, StudyInput
from mirv.dicom_io.outputs.pages.pictures import Window, write_quick_check
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import Selection
from mirv.service.study.plan import SOFTWARE_VERSION, Plan, provenance, short_list
from mirv.service.study.result_record import ResultRecord


def analyse_selection(
    selection: Selection,
    open_object: Callable[[str], Path],
    plan: Plan,
    *,
    extractor: Extractor,
    progress: Callable[[int, int], None] | None = None,
    prior: ResultRecord | None = None,
) -> tuple[StudyInput, StudyResult]:
    """Read one image with its lesion set, extract features and compute the measures.

    Parameters
    ----------
    selection : Selection
    open_object : callable
        SOP Instance UID to the path of its file.
    plan : Plan
    extractor : Extractor
    progress : callable, optional
        Called with (lesions done, lesions in all), counted over all profiles.
    prior : ResultRecord, optional
        Of the patient's earlier study: the response since then is measured too.

    Raises
    ------
    Unsuitable
        The study cannot be analysed: the reason is for users.
    """
    study = assemble(selection, open_object, plan.reading)
    if not study.lesions:
        raise Unsuitable(
            "no_lesions",
            "found no lesion in the segmentations of this image, wanted at least one",
        )
    lesions = extractor.extract(study.volume, study.lesions, plan.profiles, progress)
    origin = replace(provenance(study, plan), default_issuer=selection.default_issuer)
    if prior is not None:
        origin = replace(
            origin,
            prior_input_digest=prior.result.provenance.input_digest,
            prior_study_uid=prior.study_uid,
            prior_study_date=prior.study_date,
        )
    result = analyse(lesions, plan.profiles, plan.spaces, origin)
    result = replace(result, identities=identities_of(study))
    if prior is not None:
        result = with_response(
            result,
            prior.result,
            complete=_all_read(study.quality),
            previous_complete=_all_read(prior.quality),
        )
    return study, result


def _all_read(quality: Sequence[QualityRow]) -> bool:
    """False when a segmentation, or something drawn in one, was refused."""
    return not any(row.refused and row.object_uid for row in quality)


def render_context(
    run: str,
    plan: Plan,
    settings: Settings,
    created: datetime,
    predecessor: Mapping[str, Predecessor] | None = None,
) -> RenderContext:
    """The context of a run's outputs; predecessors are objects by role, for a revision.

    Parameters
    ----------
    run : str
        Identity of the run; outputs take their UIDs from it.
    plan : Plan
    settings : Settings
    created : datetime
        The outputs' date and time.
    predecessor : mapping, optional
        Role to the object that a revision replaces.

    Returns
    -------
    RenderContext
    """
    return RenderContext(
        run_digest=run,
        created=created,
        software_version=SOFTWARE_VERSION,
        ae_title=settings.listener.ae_title,
        sr_features=settings.outputs.sr_features,
        selected={profile.name: short_list(profile, plan) for profile in plan.profiles},
        profiles=plan.profiles,
        extras=settings.outputs.extras,
        segmentation=settings.outputs.segmentation,
        empty_frames=settings.outputs.empty_frames,
        device_uid=settings.outputs.device_uid,
        predecessor=dict(predecessor or {}),
    )


def write_pictures(study: StudyInput, folder: Path, settings: Settings) -> int:
    """Write the quick-check images (R-QI-1) into a folder of their own; how many.

    Parameters
    ----------
    study : StudyInput
    folder : Path
    settings : Settings

    Returns
    -------
    int
    """
    window = settings.outputs.quick_check_window
    return write_quick_check(study, folder, None if window is None else Window(*window))
