"""Whose studies are whose: the persons under one Patient ID, by all the node knows of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mirv.dicom_io.standard.person import Identity, compare, persons_of_studies
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Catalogue, RunRow


@dataclass(slots=True)
class Sorted:
    """Runs under the Patient ID of a selection.

    Attributes
    ----------
    same : list of RunRow
        Of the person of the selection.
    others : list of RunRow
        Of another person: something contradicts.
    unsure : list of RunRow
        Nothing contradicts, but several persons share the Patient ID, and nothing tells whose
        they are.
    differing : set of str
        Fields of `Identity` in which `others` contradict.
    """

    same: list[RunRow] = field(default_factory=list)
    others: list[RunRow] = field(default_factory=list)
    unsure: list[RunRow] = field(default_factory=list)
    differing: set[str] = field(default_factory=set)


class KnownPersons:
    """The identities the catalogue knows, and those of what is being matched.

    Parameters
    ----------
    catalogue : Catalogue
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._arriving = set[tuple[str, Identity]]()

    def expect(self, selections: Iterable[Selection]) -> None:
        """Take what is being matched into account, in place of what was before.

        Parameters
        ----------
        selections : iterable of Selection
        """
        self._arriving = {(one.study_uid, one.identity) for one in selections}

    def sort_out(self, selection: Selection, runs: Sequence[RunRow]) -> Sorted:
        """Which runs are of the person of a selection.

        Parameters
        ----------
        selection : Selection
        runs : sequence of RunRow
            Current ones under its Patient ID.

        Returns
        -------
        Sorted
        """
        result = Sorted()
        if not runs:
            return result
        keys = self._keys(selection)
        mine = keys[selection.study_uid, selection.identity]
        for run in runs:
            identity = Selection.from_json(run.selection).identity
            if differing := compare(selection.identity, identity).differing:
                result.others.append(run)
                result.differing.update(differing)
            elif mine and keys.get((run.study_uid, identity)) == mine:
                result.same.append(run)
            else:
                result.unsure.append(run)
        return result

    def _keys(self, selection: Selection) -> dict[tuple[str, Identity], str]:
        known = self._catalogue.comparisons.identities(selection.patient_id)
        studies = {(study, identity) for study, _, identity in known} | self._arriving
        studies.add((selection.study_uid, selection.identity))
        return persons_of_studies(
            one for one in studies if one[1].patient_id == selection.identity.patient_id
        )
