"""The one way to read results back: the catalogue says which, the spool holds them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mirv.dicom_io.standard.person import persons_of_studies
from mirv.service.catalogue import Catalogue, RunState
from mirv.service.objects.spool import Spool
from mirv.service.study import result_record
from mirv.service.study.result_record import ResultRecord


def read_result(spool: Spool, sha256: str) -> ResultRecord:
    """The result record of this content, whatever has become of its run.

    Raises
    ------
    FileNotFoundError
        The spool does not hold it.
    ValueError
        It is of another format, or damaged.
    """
    return result_record.from_bytes(spool.path(sha256).read_bytes())


def finished_result(catalogue: Catalogue, spool: Spool, run_id: str) -> ResultRecord | None:
    """The result of one run; None where there is no such run, or it has not finished.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_result`.
    """
    run = catalogue.runs.get(run_id)
    if run is None or run.state != RunState.FINISHED or run.result_sha256 is None:
        return None
    return read_result(spool, run.result_sha256)


def current_results(catalogue: Catalogue, spool: Spool) -> Iterator[ResultRecord]:
    """Every result that holds, with its person, newest run first, read one at a time.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_result`.
    """
    persons = current_persons(catalogue)
    for sha256 in catalogue.runs.current_results():
        record = read_result(spool, sha256)
        yield replace(record, person=persons.of(record))


@dataclass(frozen=True, slots=True)
class Persons:
    """Who the images of results are of.

    Attributes
    ----------
    keys : dict of (Study, Series Instance UID) to str
        Key of the person, as `persons_of_studies` gives it.
    """

    keys: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, record: ResultRecord) -> str:
        """Key of the person of a result; its own where that is not known.

        That is of one that came since, and of an image that is two persons' by its UIDs.

        Parameters
        ----------
        record : ResultRecord

        Returns
        -------
        str
            "" without a PatientID.
        """
        alone = f"{record.patient_id}~{record.study_uid}" if record.patient_id else ""
        return self.keys.get((record.study_uid, record.series_uid), alone)


def current_persons(catalogue: Catalogue) -> Persons:
    """Who the images of all current runs are of, told by all of them together.

    Parameters
    ----------
    catalogue : Catalogue

    Returns
    -------
    Persons
    """
    known = catalogue.comparisons.identities()
    keys = persons_of_studies((study, identity) for study, _, identity in known)
    found: dict[tuple[str, str], set[str]] = {}
    for study, series, identity in known:
        found.setdefault((study, series), set()).add(keys[study, identity])
    return Persons({image: of for image, (of, *more) in found.items() if not more})
