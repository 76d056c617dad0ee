"""Retrieval for the patients of a list: one after the other, source by source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mirv.analysis.errors import PeerRefused, Reason, Transient, Unsuitable
from mirv.config.errors import SettingsError
from mirv.config.settings import Settings
from mirv.config.settings.network import Source
from mirv.service.research.retrieval.candidates import Inquiry
from mirv.service.research.retrieval.listing import Listing, Row
from mirv.service.research.retrieval.patient_list import ListedPatient
from mirv.service.research.retrieval.received import Passage
from mirv.service.research.retrieval.shelf import Shelf
from mirv.service.research.retrieval.taking import Ending, take_baseline

_FAULTS = (Transient, PeerRefused, Unsuitable, OSError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a patient.

    Attributes
    ----------
    patient : ListedPatient
    has_baseline : bool
    rows : tuple of Row
        Of every source that was asked.
    """

    patient: ListedPatient
    has_baseline: bool
    rows: tuple[Row, ...]


def retrieve(
    patients: Sequence[ListedPatient], settings: Settings, shelf: Shelf, folder: Path
) -> Iterator[Outcome]:
    """Take the baseline of each patient.

    The sources are asked in their order until one has it. One that fails ends the search: were
    another's study taken instead, the baseline would depend on who was away.

    Parameters
    ----------
    patients : sequence of ListedPatient
    settings : Settings
    shelf : Shelf
        Where objects are kept.
    folder : Path
        Where they come through, on the shelf's file system.

    Yields
    ------
    Outcome
        One a patient, in their order.

    Raises
    ------
    SettingsError
        No source is set, or one that can only be asked to send to the node.
    """
    if not settings.sources:
        raise SettingsError("sources: found none, wanted one to ask")
    if moving := [one.name for one in settings.sources if one.method == "c-move"]:
        raise SettingsError(
            f"sources: found {', '.join(moving)} with c-move, which sends to the listener before "
            "anything is checked; wanted dicomweb or c-get"
        )
    for patient in patients:
        yield _outcome(patient, settings, shelf, folder)


def _outcome(patient: ListedPatient, settings: Settings, shelf: Shelf, folder: Path) -> Outcome:
    rows: list[Row] = []
    ending = Ending.NONE
    for source in settings.sources:
        listing = Listing(patient, source.name)
        try:
            with TemporaryDirectory(dir=folder) as place:
                passage = _passage(source, settings, Path(place))
                inquiry = Inquiry(patient, settings.retrieval, passage, shelf, listing)
                ending = take_baseline(inquiry)
        except _FAULTS as fault:
            listing.note(Reason("not_finished", f"{fault}; run it again"))
            ending = Ending.STOPPED
        rows += listing.rows()
        if ending is not Ending.NONE:
            break
    return Outcome(patient, ending is Ending.TAKEN, tuple(rows))


def _passage(source: Source, settings: Settings, place: Path) -> Passage:
    limit = settings.listener.max_object_mb * 1024**2
    issuer = settings.identity.issuer_of(f"retrieve:{source.name}")
    return Passage(source, settings.listener.ae_title, limit, place, issuer)
