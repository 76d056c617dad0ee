"""The page of corrections: what differs is shown as text, and only who saw it decides."""

import re
import warnings
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from mirv.config.settings import Settings
from mirv.config.settings.network import Http
from mirv.service.catalogue import EventKind
from mirv.service.http.app import create_app
from tests.service.objects.test_corrections import CORRECTED, STUDY, Desk, slices

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.send(*slices())
    yield made
    made.store.close()


def client(desk: Desk, **http: object) -> TestClient:
    app = create_app(desk.store, desk.spool, Settings(http=Http(**http)))  # type: ignore[arg-type]
    return TestClient(app, base_url="http://localhost")


def form(page: str) -> dict[str, str]:
    """The fields that a browser would post."""
    return {
        name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', page)
    }


def test_it_is_shown_and_accepted(desk: Desk) -> None:
    web = client(desk)
    assert "/corrections" not in web.get("/").text
    assert "None wait" in web.get("/corrections").text
    desk.send(*slices(**CORRECTED))
    assert 'href="/corrections"' in web.get("/").text
    page = web.get("/corrections").text
    for shown in (
        STUDY,
        "4 of 4 objects were sent again",
        "SENTINEL^NAME",
        "Right^Name",
        "RIGHT-ID",
        "SENDER",
    ):
        assert shown in page, shown
    done = web.post("/corrections/accept", data=form(page))
    assert done.status_code == 200
    assert "None wait" in done.text
    assert str(desk.stored().PatientID) == "RIGHT-ID"
    assert {one["by"] for one in desk.events(EventKind.CORRECTED)} == {"page"}


def test_it_is_refused(desk: Desk) -> None:
    desk.send(*slices(**CORRECTED))
    web = client(desk)
    done = web.post("/corrections/refuse", data=form(web.get("/corrections").text))
    assert "None wait" in done.text
    assert str(desk.stored().PatientID) == "SENTINEL-ID"


def test_what_cannot_be_accepted_says_why(desk: Desk) -> None:
    desk.send(*slices(3, **CORRECTED))
    web = client(desk)
    page = web.get("/corrections").text
    assert "3 of 4 images of series 1.2.3.0 were sent again" in page
    assert "Accept</button>" in page and "disabled" in page
    done = web.post("/corrections/accept", data=form(page))
    assert done.status_code == 409
    assert "Nothing was changed" in done.text
    assert str(desk.stored().PatientID) == "SENTINEL-ID"


@pytest.mark.parametrize("wrong", ["", "x", "ü"])
def test_a_foreign_page_decides_nothing(desk: Desk, wrong: str) -> None:
    desk.send(*slices(**CORRECTED))
    web = client(desk)
    told = form(web.get("/corrections").text) | {"token": wrong}
    for way in ("accept", "refuse"):
        assert web.post(f"/corrections/{way}", data=told).status_code == 403
        assert web.get(f"/corrections/{way}").status_code == 405
        assert web.post(f"/corrections/{way}", content=b"a=" * 9999).status_code == 413
        assert web.post(f"/corrections/{way}", content=b"a=1&" * 99).status_code == 400
    assert len(desk.look().rows) == 4
    assert "frame-ancestors 'none'" in web.get("/corrections").headers["Content-Security-Policy"]


def test_what_came_after_the_page_was_shown_is_not_accepted_by_it(desk: Desk) -> None:
    desk.send(*slices(**CORRECTED))
    web = client(desk)
    told = form(web.get("/corrections").text)
    desk.send(*slices(1, PatientID="LATER"))
    assert web.post("/corrections/accept", data=told).status_code == 409
    assert str(desk.stored(2).PatientID) == "SENTINEL-ID"


def test_strangers_see_nothing_and_who_decided_is_noted(desk: Desk) -> None:
    desk.send(*slices(**CORRECTED))
    web = client(desk, password=SecretStr("secret"))
    assert web.get("/corrections").status_code == 401
    assert web.post("/corrections/accept", data={}).status_code == 401
    web.auth = (HOSTILE + "n" * 99, "secret")
    web.post("/corrections/accept", data=form(web.get("/corrections").text))
    (by,) = {one["by"] for one in desk.events(EventKind.CORRECTED)}
    assert by == f"page {HOSTILE + 'n' * 99}"[: len("page ") + 64]


def test_what_a_sender_says_stays_text_and_does_not_fill_the_page(desk: Desk) -> None:
    names = [f"{HOSTILE}{number}" for number in range(30)]
    desk.send(*slices(30))
    hostile = slices(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that no one should send
        for one, name in zip(hostile, names, strict=True):
            one.PatientName = name
        hostile[0].PatientID = "x" * 5000
        desk.send(*hostile)
    page = client(desk).get("/corrections").text
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page.count("&lt;script&gt;") == 20
    assert "x" * 300 not in page
