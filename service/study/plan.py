"""What a run is to compute: profiles, spaces and rules, and the digest that is its identity."""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from mirv.analysis.extraction.job import LesionLimits
from mirv.analysis.extraction.pool import Extractor
from mirv.analysis.model import Provenance
from mirv.analysis.spaces.files import load_space
from mirv.analysis.spaces.space import FeatureSpace
from mirv.config.errors import ProfileError
from mirv.config.profiles import ExtractionProfile, load_profile
from mirv.config.settings import Settings
from mirv.config.settings.processing import Reading
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import check_extras

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
    """A pool of extraction processes as the settings want it; close it when done.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    Extractor
    """
    extraction = settings.extraction
    limits = LesionLimits(extraction.lesion_timeout_s, extraction.lesion_memory_mb)
    return Extractor(extraction.workers, limits, extraction.arithmetic)


def run_digest(input_digest: str, plan: Plan, prior: str = "") -> str:
    """Identity of one run: SHA-256 over what goes in and the rules applied to it.

    Parameters
    ----------
    prior : str
        Identity of the earlier study's run that the response is measured since, "" for none.
    """
    return hashlib.sha256(f"{input_digest}:{plan.digest}:{prior}".encode()).hexdigest()


def run_digest_again(digest: str, times: int) -> str:
    """Identity of a run whose inputs and rules are again those of one that was replaced since.

    Parameters
    ----------
    digest : str
        Of the run that was replaced, as of `run_digest`.
    times : int
        How often it has come back, from 1.

    Returns
    -------
    str
        Its outputs are documents of their own, which can name what they replace.
    """
    return hashlib.sha256(f"{digest}:again:{times}".encode()).hexdigest()


def provenance(study: StudyInput, plan: Plan) -> Provenance:
    """What the numbers of this study were computed from and with.

    Parameters
    ----------
    study : StudyInput
    plan : Plan

    Returns
    -------
    Provenance
    """
    return Provenance(
        input_digest=study.input_digest,
        profile_digests={profile.name: profile.digest() for profile in plan.profiles},
        space_digests={space.name: space.digest for space in plan.spaces},
        versions=dict(_versions()),
    )


@cache
def _versions() -> dict[str, str]:
    """Of what the numbers were computed with: nothing is installed anew under a process."""
    return {**{name: version(name) for name in _RECORDED}, "python": platform.python_version()}


def short_list(profile: ExtractionProfile, plan: Plan) -> tuple[str, ...]:
    """What patient-level indices are made of: the profile's own list, then those of its spaces.

    Parameters
    ----------
    profile : ExtractionProfile
    plan : Plan
        Its spaces of this profile count.

    Returns
    -------
    tuple of str
        Features, each once.
    """
    of_spaces = (
        name for space in plan.spaces if space.profile == profile.name for name in space.names
    )
    return tuple(dict.fromkeys((*profile.selected, *of_spaces)))
