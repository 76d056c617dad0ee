"""The one way to read results back: the catalogue says which, the spool holds them."""

from collections.abc import Iterator

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
    """Every result that holds, newest run first, read one at a time.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_result`.
    """
    for sha256 in catalogue.runs.current_results():
        yield read_result(spool, sha256)
