"""Run in a copy of the tree by ``tests/test_extending.py``: one study, its results and its page.

``python -m tests.extending_probe STUDY OUT``
"""

import sys
from pathlib import Path

from fastapi.testclient import TestClient

from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.http.app import create_app
from mirv.service.objects.spool import Spool
from mirv.service.study import result_record
from mirv.service.study.folder import process_folder


def main(study: Path, out: Path) -> None:
    """Write what ``mirv process`` writes and, as ``page.html``, the run's page."""
    settings = Settings(folder=out / "node", profiles=("henry2022",))
    (record,) = process_folder([study], out, settings).records
    catalogue, spool = Catalogue(sqlite_url(out / "catalogue.sqlite")), Spool(out / "spool")
    run_id = "f" * 64
    stored = spool.put([result_record.to_bytes(record)])
    run = NewRun(run_id, record.study_uid, record.series_uid, "P", "20240131", "a", "b", "{}")
    catalogue.runs.queue(run, 1000)
    catalogue.runs.start(run_id, 1000)
    catalogue.runs.note_result(run_id, stored.sha256)
    catalogue.runs.finish(run_id, [], [], 1, 1002)
    with TestClient(create_app(catalogue, spool, settings), base_url="http://localhost") as web:
        (out / "page.html").write_text(web.get(f"/runs/{run_id}").text, encoding="utf-8")
    catalogue.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
