"""The one way to read results back: the catalogue says which, the spool holds them."""

from collections.abc import Iterable, Iterator

from service import records
from service.node_folder import NodeFolder
from service.pseudonym import Pseudonymiser, load_key
from service.records import ResultRecord
from service.spool import Spool
from service.store import Catalogue, RunState


def read_result(spool: Spool, sha256: str) -> ResultRecord:
    """The result record of this content, whatever has become of its run.

    Raises
    ------
    FileNotFoundError
        The spool does not hold it.
    ValueError
        It is of another format, or damaged.
    """
    return records.from_bytes(spool.path(sha256).read_bytes())


def finished_result(catalogue: Catalogue, spool: Spool, run_id: str) -> ResultRecord | None:
    """The result of one run; None where there is no such run, or it has not finished."""
    run = catalogue.runs.get(run_id)
    if run is None or run.state != RunState.FINISHED or run.result_sha256 is None:
        return None
    return read_result(spool, run.result_sha256)


def current_results(catalogue: Catalogue, spool: Spool) -> Iterator[ResultRecord]:
    """Every result that holds, newest run first, read one at a time."""
    for sha256 in catalogue.runs.current_results():
        yield read_result(spool, sha256)


def pseudonymised(found: Iterable[ResultRecord], folder: NodeFolder) -> Iterator[ResultRecord]:
    """Results without anything that names a patient, by the key of the node.

    Raises
    ------
    BadInput
        The file of the key does not hold one.
    """
    hide = Pseudonymiser(load_key(folder.pseudonym_key))
    yield from map(hide.record, found)
