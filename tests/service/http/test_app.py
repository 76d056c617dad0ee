"""The status page: what is there is shown, outside strings stay text, strangers stay out."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from mirv.analysis.errors import Reason
from mirv.analysis.model import Pair, Variation
from mirv.config.settings import Settings
from mirv.config.settings.network import Http
from mirv.service.catalogue import Catalogue, EventKind, NewInstance, sqlite_url
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.http.app import create_app
from mirv.service.http.pictures import KINDS, draw
from mirv.service.objects.spool import Spool
from mirv.service.runtime.state import Following, NodeState
from mirv.service.study import result_record
from tests.service.study.test_result_tables import follow_up, record

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Catalogue]:
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    yield store
    store.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def new_run(run_id: str, series_uid: str = "1.2.3.4") -> NewRun:
    return NewRun(
        run_id=run_id,
        study_uid="1.2.3",
        series_uid=series_uid,
        patient_id=HOSTILE,
        study_date="20240131",
        input_digest="a",
        plan_digest="b",
        selection="{}",
    )


def client(store: Catalogue, spool: Spool, **http: object) -> TestClient:
    app = create_app(store, spool, Settings(http=Http(**http)))  # type: ignore[arg-type]
    return TestClient(app, base_url="http://localhost")


def test_the_overview_shows_runs_with_their_reasons_and_escapes_what_came_from_outside(
    store: Catalogue, spool: Spool
) -> None:
    store.runs.queue(new_run("r" * 64), 1000)
    store.runs.refuse("r" * 64, Reason("missing_slice", "found 50, wanted 51"), 1001)
    page = client(store, spool).get("/").text
    assert "missing_slice" in page
    assert "found 50, wanted 51" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_a_finished_run_shows_its_measures_and_gives_its_tables(
    store: Catalogue, spool: Spool
) -> None:
    run_id = "f" * 64
    stored = spool.put([result_record.to_bytes(record())])
    store.runs.queue(new_run(run_id), 1000)
    store.runs.start(run_id, 1000)
    store.runs.note_result(run_id, stored.sha256)
    store.runs.finish(run_id, [], [], 1, 1002)
    web = client(store, spool)
    page = web.get(f"/runs/{run_id}").text
    assert "mirv_distance_max" in page
    assert 'title="Inter-lesion distance, maximum"' in page
    assert "4.5" in page
    assert "found 2" in page
    lesions = web.get(f"/runs/{run_id}/lesions.csv").text.splitlines()
    assert len(lesions) == 4
    assert web.get(f"/runs/{run_id}/secrets.csv").status_code == 404
    assert web.get("/runs/none").status_code == 404
    assert web.get("/api/runs").json()[0]["state"] == "finished"
    space = {"profile": "henry2022", "space": "patient-minmax"}
    assert f"/runs/{run_id}/dissimilarity.png" in page
    drawn = web.get(f"/runs/{run_id}/dissimilarity.png", params=space)
    assert drawn.content.startswith(b"\x89PNG")
    for kind, asked in (
        ("dissimilarity", {**space, "space": "none"}),  # no such space
        ("recovery", space),  # two lesions: nothing to sample
        ("variation", space),  # no feature has a defined CV
        ("secrets", space),
    ):
        assert web.get(f"/runs/{run_id}/{kind}.png", params=asked).status_code == 404, kind


def test_the_page_of_a_follow_up_names_the_earlier_study_and_every_match(
    store: Catalogue, spool: Spool
) -> None:
    compared = follow_up()
    hostile = replace(compared.result.changes[0], name=HOSTILE)
    result = replace(compared.result, changes=(hostile, *compared.result.changes[1:]))
    stored = spool.put([result_record.to_bytes(replace(compared, result=result))])
    first, run_id = "e" * 64, "f" * 64
    store.runs.queue(new_run(first), 1000)
    store.runs.queue(replace(new_run(run_id, "1.2.3.5"), prior=first), 1000)
    store.runs.start(run_id, 1001)
    store.runs.note_result(run_id, stored.sha256)
    store.runs.finish(run_id, [], [], 1, 1002)
    page = client(store, spool).get(f"/runs/{run_id}").text
    assert HOSTILE not in page
    for said in ("study 1.2.3.99 of 20240101", "Since the study of 20240101", "vanished",
                 "generic_name: ", "changes.csv"):  # fmt: skip
        assert said in page, said
    assert "<td>matched</td>\n<td>name</td>" in page
    table = client(store, spool).get(f"/runs/{run_id}/changes.csv").text
    assert table.count("1.2.3.99") == 3


def test_every_picture_is_drawn_for_a_patient_with_lesions_enough() -> None:
    plain = record()
    uids = ["2.25.1", "2.25.2", "2.25.3", "2.25.4"]
    pairs = tuple(
        Pair("henry2022", "s", a, b, 0.1 * (n + 1), 1.0)
        for n, (a, b) in enumerate(itertools.combinations(uids, 2))
    )
    varied = tuple(
        Variation("henry2022", name, "", 4, 10.0 + n, 0.1, sign_change=False)
        for n, name in enumerate(("original_shape_Sphericity", "original_glcm_Imc1"))
    )
    full = replace(plain, result=replace(plain.result, pairs=pairs, variation=varied))
    for kind in KINDS:
        picture = draw(full, kind, "henry2022", "s")
        assert picture is not None, kind
        assert picture.startswith(b"\x89PNG")


def test_what_the_node_does_now_is_shown_and_measured(store: Catalogue, spool: Spool) -> None:
    run_id = "d" * 64
    store.runs.queue(new_run(run_id), 1000)
    store.runs.start(run_id, 1000)
    store.runs.note_progress(run_id, 7, 24)
    state = NodeState(
        backlog=9, paused="backlog of 9", following={"pacs": Following(41, 42, 1e9, 5, HOSTILE, 3)}
    )
    app = create_app(store, spool, Settings(), state)
    web = TestClient(app, base_url="http://localhost")
    page = web.get("/").text
    for shown in ("7 of 24", "backlog of 9", "pacs", "2001-09-09 01:46:40 UTC"):
        assert shown in page, shown
    assert HOSTILE not in page
    assert "7 of 24" in web.get(f"/runs/{run_id}").text
    why = f"no_prior: found 2 {HOSTILE}"
    store.events.add(1000, EventKind.PRIOR_MISSING, study_uid="1.2.3", why=why)
    page = web.get(f"/runs/{run_id}").text
    assert "no_prior: found 2" in page
    assert HOSTILE not in page
    text = web.get("/metrics").text
    for line in (
        'mirv_run_lesions_done{run="dddddddddddd"} 7.0',
        'mirv_run_lesions{run="dddddddddddd"} 24.0',
        "mirv_backlog 9.0",
        "mirv_fetching_paused 1.0",
        'mirv_follow_position{source="pacs"} 41.0',
        'mirv_follow_last{source="pacs"} 42.0',
        'mirv_follow_postponed{source="pacs"} 3.0',
    ):
        assert line in text, line
    assert "script" not in text
    store.runs.fail(run_id, Reason("x", "y"), 1001)
    assert "7 of 24" not in web.get("/").text
    assert "mirv_run_lesions_done{" not in web.get("/metrics").text


def test_metrics_count_and_hold_no_identifier(store: Catalogue, spool: Spool) -> None:
    store.runs.queue(new_run("r" * 64), 1000)
    store.arrivals.add(
        NewInstance(
            sop_instance_uid="9.8.7",
            sop_class_uid="1.2",
            study_uid="1.2.3",
            series_uid="1.2.3.4",
            sha256="ab",
            size=3,
            source="SENTINEL",
            own_output=False,
            header="{}",
        ),
        1000,
    )
    text = client(store, spool).get("/metrics").text
    assert 'mirv_runs{state="queued"} 1.0' in text
    for secret in ("SENTINEL", "script", "1.2.3", "9.8.7"):
        assert secret not in text


def test_foreign_host_names_and_readers_without_password_are_turned_away(
    store: Catalogue, spool: Spool
) -> None:
    web = client(store, spool)
    assert web.get("/", headers={"Host": "evil.example"}).status_code == 400
    with pytest.raises(ValueError, match=r"http\.password"):
        create_app(store, spool, Settings(http=Http(bind="0.0.0.0")))  # noqa: S104 - never bound
    locked = client(store, spool, password=SecretStr("secret"))
    assert locked.get("/").status_code == 401
    assert locked.get("/api/runs").status_code == 401
    assert locked.get("/health").status_code == 200
    assert locked.get("/", auth=("anyone", "wrong")).status_code == 401
    assert locked.get("/", auth=("anyone", "secret")).status_code == 200
