"""One study from its objects to its artifacts: the composition every trigger shares.

No network and no database here: the workflow, ``mirv process`` and the demo call the same
functions, so a number cannot depend on the way in.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from analysis import study as study_analysis
from analysis.errors import Unsuitable
from analysis.extraction import Extractor, Limits, extract
from analysis.feature_space import FeatureSpace, load_space
from analysis.model import LesionResult, Provenance, StudyResult
from analysis.response import with_response
from config.errors import ProfileError
from config.profiles import ExtractionProfile, load_profile
from config.settings import Reading, Settings
from dicom_io.assemble import assemble
from dicom_io.matching import Selection
from dicom_io.model import Artifact, Predecessor, QualityRow, RenderContext, StudyInput
from dicom_io.outputs import check_extras, render
from dicom_io.outputs.pictures import Window, write_quick_check
from service.records import ResultRecord

SOFTWARE_VERSION = version("mirv-node")
_RECORDED = (
    "mirv-node",
    "pyradiomics-bhklab",
    "numpy",
    "scipy",
    "SimpleITK",
    "PyWavelets",
    "pydicom",
    "highdicom",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is computed, and by which rules: everything beside the input that changes a result.

    Attributes
    ----------
    profiles : tuple of ExtractionProfile
    spaces : tuple of FeatureSpace
    reading : Reading
    """

    profiles: tuple[ExtractionProfile, ...]
    spaces: tuple[FeatureSpace, ...]
    reading: Reading

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of profiles, spaces and reading rules, and the version."""
        parts = {
            "profiles": [profile.digest() for profile in self.profiles],
            "spaces": [space.digest for space in self.spaces],
            "reading": self.reading.model_dump(mode="json"),
            "version": SOFTWARE_VERSION,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def plan_from(settings: Settings, profiles: Sequence[str] = ()) -> Plan:
    """Load what the settings name; `profiles` overrides the profiles.

    A space whose profile is not extracted is left out.

    Raises
    ------
    ProfileError, SpaceError
        A profile or space that does not exist, or two profiles of one name.
    SettingsError
        An extra output that does not exist.
    """
    check_extras(settings.outputs.extras)
    loaded = tuple(load_profile(name) for name in (profiles or settings.profiles))
    names = [profile.name for profile in loaded]
    if len(set(names)) != len(names):
        raise ProfileError(f"profiles must have different names, found {', '.join(names)}")
    spaces = tuple(load_space(name) for name in settings.spaces)
    return Plan(
        profiles=loaded,
        spaces=tuple(space for space in spaces if space.profile in names),
        reading=settings.reading,
    )


def extractor_from(settings: Settings) -> Extractor:
    """A pool of extraction processes as the settings want it; close it when done."""
    wanted = settings.extraction
    limits = Limits(wanted.lesion_timeout_s, wanted.lesion_memory_mb)
    return Extractor(wanted.workers, limits, wanted.arithmetic)


def run_digest(input_digest: str, plan: Plan, prior: str = "") -> str:
    """Identity of one run: SHA-256 over what goes in and the rules applied to it.

    Parameters
    ----------
    prior : str
        Identity of the earlier study's run that the response is measured since, "" for none.
    """
    return hashlib.sha256(f"{input_digest}:{plan.digest}:{prior}".encode()).hexdigest()


def analyse_selection(
    selection: Selection,
    open_object: Callable[[str], Path],
    plan: Plan,
    *,
    extractor: Extractor | None = None,
    workers: int = 0,
    limits: Limits | None = None,
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
    extractor : Extractor, optional
        A warm pool of processes; none: one is made for this call.
    workers : int
        Processes for that pool, 0: one a core.
    limits : Limits, optional
        What a lesion may use.
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
    lesions = _features(study, plan, extractor, workers, limits, progress)
    origin = provenance(study, plan)
    if prior is not None:
        origin = replace(origin, prior_input_digest=prior.result.provenance.input_digest)
    result = study_analysis.analyse(lesions, plan.profiles, plan.spaces, origin)
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


def _features(
    study: StudyInput,
    plan: Plan,
    extractor: Extractor | None,
    workers: int,
    limits: Limits | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[LesionResult, ...]:
    if extractor is not None:
        return extractor.extract(study.volume, study.lesions, plan.profiles, progress=progress)
    return extract(
        study.volume,
        study.lesions,
        plan.profiles,
        workers=workers,
        limits=limits or Limits(),
        progress=progress,
    )


def provenance(study: StudyInput, plan: Plan) -> Provenance:
    """What the numbers of this study were computed from and with."""
    versions = {name: version(name) for name in _RECORDED}
    versions["python"] = platform.python_version()
    return Provenance(
        input_digest=study.input_digest,
        profile_digests={profile.name: profile.digest() for profile in plan.profiles},
        space_digests={space.name: space.digest for space in plan.spaces},
        versions=versions,
    )


def render_context(
    run: str,
    plan: Plan,
    settings: Settings,
    created: datetime,
    predecessor: Mapping[str, Predecessor] | None = None,
) -> RenderContext:
    """The context of a run's outputs; predecessors are objects by role, for a revision."""
    return RenderContext(
        run_digest=run,
        created=created,
        software_version=SOFTWARE_VERSION,
        ae_title=settings.listener.ae_title,
        sr_features=settings.outputs.sr_features,
        selected={profile.name: _short_list(profile, plan) for profile in plan.profiles},
        profiles=plan.profiles,
        extras=settings.outputs.extras,
        segmentation=settings.outputs.segmentation,
        empty_frames=settings.outputs.empty_frames,
        device_uid=settings.outputs.device_uid,
        predecessor=dict(predecessor or {}),
    )


def _short_list(profile: ExtractionProfile, plan: Plan) -> tuple[str, ...]:
    """What patient-level indices are made of: the profile's own list, then those of its spaces."""
    of_spaces = (
        name for space in plan.spaces if space.profile == profile.name for name in space.names
    )
    return tuple(dict.fromkeys((*profile.selected, *of_spaces)))


def render_outputs(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Make every configured output of one result."""
    return render(study, result, context)


def write_pictures(study: StudyInput, folder: Path, settings: Settings) -> int:
    """Write the quick-check images (R-QI-1) into a folder of their own; how many."""
    window = settings.outputs.quick_check_window
    return write_quick_check(study, folder, None if window is None else Window(*window))
