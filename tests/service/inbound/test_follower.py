"""Orthanc is followed: all that is new comes once, whatever is stopped, killed or set up anew."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from pydantic import SecretStr

from mirv.analysis.errors import Transient
from mirv.config.settings.network import Followed
from mirv.dicom_io.phantom import patient
from mirv.dicom_io.standard.identity import MANUFACTURER
from mirv.service.catalogue import Catalogue, Change, Event, EventKind, Position, sqlite_url
from mirv.service.inbound.follower import Follower, Surroundings
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from mirv.service.peers.sources import orthanc as orthanc_module
from mirv.service.peers.sources.orthanc import OrthancSource, _patience
from tests.peers import Orthanc, free_port, orthanc, wait_until
from tests.service.http_peer import Archive, archive
from tests.service.wire import CT, ct_slice, part10

MB = 1024**2


class Following:
    """A catalogue and spool, and followers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.store = Catalogue(sqlite_url(folder / "catalogue.sqlite"))
        self.intake = Intake(Spool(folder / "spool"), self.store)

    def follower(self, url: str, **more: Any) -> Follower:
        keys = ("paused", "clock", "steady", "stopping")
        mine = {key: more.pop(key) for key in keys if key in more}
        wanted = Followed(name="pacs", url=url, user="tester", password=SecretStr("tester"), **more)
        return Follower(wanted, self.intake, self.store, MB, Surroundings(**mine))

    def uids(self) -> list[str]:
        """What is in the index, in order of arrival."""
        return [row.sop_instance_uid for row in self.store.instances.all()]


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Following]:
    made = Following(tmp_path)
    yield made
    made.store.close()


def files(folder: Path, *numbers: int, **tags: Any) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in numbers:
        path = folder / f"{number}.dcm"
        path.write_bytes(part10(ct_slice(number, **tags)))
        paths.append(path)
    return paths


def follow_until(follower: Follower, condition: Callable[[], bool], what: str) -> None:
    def turned() -> bool:
        while follower.turn():
            pass
        return condition()

    wait_until(turned, 20, f"{what}; {follower.state}")


@pytest.mark.peers
def test_what_is_new_comes_once_and_a_new_follower_goes_on(
    following: Following, tmp_path: Path
) -> None:
    made = patient.write_study(tmp_path / "study", n_lesions=1, shape=(10, 64, 64))
    assert made.seg is not None
    own = ct_slice(
        50, Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", SeriesInstanceUID="1.2.50",
        Manufacturer=MANUFACTURER,
    )  # fmt: skip
    chart = ct_slice(
        60, SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
        SeriesInstanceUID="1.2.60", StudyInstanceUID="1.2.60",
    )  # fmt: skip
    folder = tmp_path / "files"
    old, late = files(folder, 1, 2), files(folder, 3)
    for number, odd in ((50, own), (60, chart)):
        (folder / f"{number}.dcm").write_bytes(part10(odd))
    with orthanc(tmp_path / "orthanc") as peer:
        peer.upload(old)
        wait_until(lambda: _stable(peer, 1), 20, "the old study is stable")
        with closing(following.follower(peer.url)) as follower:
            assert not follower.turn()  # the first contact: from now on
            peer.upload([*made.ct, made.seg, folder / "50.dcm", folder / "60.dcm"])
            new = len(made.ct) + 1
            follow_until(follower, lambda: _stable(peer, 4) and _even(follower), "it comes")
            # With the late object the old study is stable again: all of it is new to us.
            assert len(following.uids()) == new + 2
        with closing(following.follower(peer.url)) as follower:
            assert not follower.turn()
            assert follower.state.objects == 0
            peer.upload(late)
            follow_until(follower, lambda: "1.2.3.3" in following.uids(), "the late object comes")
            assert follower.state.objects == 1
        assert len(following.uids()) == new + 3
        assert not any(row.own_output for row in following.store.instances.all())
        assert not following.store.quarantine.all()
        assert {row.source for row in following.store.instances.all()} == {"follow:pacs"}


def _stable(peer: Orthanc, number: int) -> bool:
    changes = peer.http.get("/changes", params={"limit": 1000}).json()["Changes"]
    return sum(one["ChangeType"] == "StableStudy" for one in changes) >= number


def _even(follower: Follower) -> bool:
    return follower.state.position == follower.state.last


@pytest.mark.peers
def test_a_killed_follower_repeats_a_little_and_loses_nothing(
    following: Following, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with orthanc(tmp_path / "orthanc") as peer:
        peer.upload(files(tmp_path / "files", *range(1, 9)))
        take = following.intake.take
        for kept in (2, 3):  # killed before and after the third is durable
            calls = itertools.count(len(following.uids()) + 1)

            def killed(content: bytes, source: str, kept: int = kept, calls: Any = calls) -> Any:
                if next(calls) <= kept:
                    verdict = take(content, source)
                    if len(following.uids()) < 3:
                        return verdict
                raise KeyboardInterrupt

            with (
                closing(
                    following.follower(peer.url, on="new_instance", begin="beginning")
                ) as begun,
                monkeypatch.context() as patch,
            ):
                patch.setattr(following.intake, "take", killed)
                with pytest.raises(KeyboardInterrupt):
                    while begun.turn():
                        pass
            assert len(following.uids()) == kept
        ending = following.follower(
            peer.url, on="new_instance", stopping=lambda: len(following.uids()) == 5
        )
        assert not ending.turn()
        assert len(following.uids()) == 5, "a node that ends does not wait for the rest"
        ending.close()
        with closing(following.follower(peer.url, on="new_instance")) as again:
            follow_until(again, lambda: len(following.uids()) == 8, "the others come")
            assert again.state.objects == 3, "what was durable is not fetched again"


@pytest.mark.peers
def test_an_orthanc_that_stops_or_begins_anew_is_followed_on(
    following: Following, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    with orthanc(tmp_path / "orthanc") as peer:
        port = int(peer.url.rpartition(":")[2])
        follower = following.follower(peer.url, on="new_instance", begin="beginning")
        peer.upload(files(folder, *range(1, 6)))
        follow_until(follower, lambda: len(following.uids()) == 5, "all come")
        # Deleting takes changes out of the log: that is no new beginning.
        last = peer.find("Instance", SOPInstanceUID="1.2.3.5")
        peer.http.delete(f"/instances/{last[0]}")
        follow_until(follower, lambda: True, "nothing happens")
    assert not follower.turn()
    assert follower.state.fault == "ConnectError"
    with orthanc(tmp_path / "orthanc", HttpPort=port) as peer:
        peer.upload(files(folder, 6))
        follow_until(follower, lambda: "1.2.3.6" in following.uids(), "it comes after a restart")
    assert not following.store.events.all(kind=EventKind.FOLLOW_RESET)
    with orthanc(tmp_path / "new", HttpPort=port) as peer:
        peer.upload(files(folder, 7))
        follow_until(follower, lambda: "1.2.3.7" in following.uids(), "it comes from the new log")
    assert len(following.store.events.all(kind=EventKind.FOLLOW_RESET)) == 1
    follower.close()


class Scripted:
    """Orthanc's interface as a page of changes and what is at each path."""

    def __init__(self, server: Archive) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{server.server_port}"

    def changes(
        self, *numbers: int, last: int | None = None, date: str = "20260101T000000"
    ) -> None:
        found = [
            {"Seq": one, "ChangeType": "StableStudy", "ID": f"{one:08x}", "Date": date}
            for one in numbers
        ]
        page = {"Changes": found, "Done": True, "Last": max(numbers)}
        self.server.body = json.dumps(page).encode()


@pytest.fixture
def script() -> Iterator[Scripted]:
    with archive() as server:
        yield Scripted(server)


def test_another_log_of_the_same_length_is_noticed(following: Following, script: Scripted) -> None:
    following.store.positions.put("pacs", Position(7, "20260101T000000 StableStudy 00000007"), 0)
    script.changes(7)
    follower = following.follower(script.url)
    assert not follower.turn()
    assert not following.store.events.all(kind=EventKind.FOLLOW_RESET)
    script.changes(7, date="20260202T000000")
    assert follower.turn()
    assert following.store.positions.get("pacs") == Position(0, "")
    assert following.store.events.all(kind=EventKind.FOLLOW_RESET)
    follower.close()


@pytest.fixture
def now() -> list[float]:
    """What the clocks of `begun` show."""
    return [1000.0]


@pytest.fixture
def begun(following: Following, script: Scripted, now: list[float]) -> Iterator[Follower]:
    """Follows from the beginning, where change 5 tells of a study."""
    script.changes(5)
    follower = following.follower(
        script.url, begin="beginning", clock=lambda: now[0], steady=lambda: now[0]
    )
    assert follower.turn()
    yield follower
    follower.close()


def _put_off(following: Following, begun: Follower, now: list[float]) -> Event:
    """A quarter of an hour of faults; the event that says it is put off."""
    for at in (1000.0, 1500.0, 1899.0):
        now[0] = at
        assert not begun.turn()
        assert begun.state.fault
        assert following.store.positions.get("pacs") == Position(0, "")
        assert not following.store.events.all(kind=EventKind.FOLLOW_POSTPONED)
    now[0] = 1900.0
    assert not begun.turn()
    assert begun.state.fault == ""
    assert begun.state.postponed == 1
    position = following.store.positions.get("pacs")
    (event,) = following.store.events.all(kind=EventKind.FOLLOW_POSTPONED)
    assert position is not None
    assert position.number == event.detail["change"]
    return event


def test_what_cannot_be_had_is_asked_for_again_and_then_put_off(
    following: Following, script: Scripted, begun: Follower, now: list[float]
) -> None:
    """The study's address answers with a fault for a quarter of an hour, and is gone in the end."""
    script.server.status_of, script.server.status = {"/changes": 200}, 500
    assert _put_off(following, begun, now).detail["why"] == "HTTP 500"
    script.server.status = 404
    now[0] += 900
    assert not begun.turn()
    assert begun.state.postponed == 0
    assert len(following.store.events.all(kind=EventKind.FOLLOW_CAUGHT_UP)) == 1


def _with_a_study(script: Scripted, *instances: bytes) -> list[str]:
    """Change 1 tells of a study of these files; their addresses."""
    series = [{"ID": "5e", "MainDicomTags": {"Modality": "CT"}}]
    listed = [
        {"ID": f"{n:x}", "MainDicomTags": {"SOPInstanceUID": f"1.2.3.{n}"}}
        for n in range(1, len(instances) + 1)
    ]
    script.changes(1)
    found = {
        "/changes": script.server.body,
        "/studies/00000001/series": json.dumps(series).encode(),
        "/series/5e/instances": json.dumps(listed).encode(),
    }
    for number, content in enumerate(instances, 1):
        found[f"/instances/{number:x}/metadata/SopClassUid"] = CT.encode()
        found[f"/instances/{number:x}/file"] = content
    script.server.body_of = found
    return [f"/instances/{number:x}/file" for number in range(1, len(instances) + 1)]


def test_an_object_that_cannot_be_had_comes_when_it_can_and_the_others_before(
    following: Following, script: Scripted, begun: Follower, now: list[float]
) -> None:
    _, second, *_ = _with_a_study(script, *(part10(ct_slice(n)) for n in range(1, 5)))
    script.server.status_of[second] = 500
    _put_off(following, begun, now)
    assert following.uids() == ["1.2.3.1", "1.2.3.3", "1.2.3.4"]

    def asked(follower: Follower) -> int:
        script.server.heard.clear()
        assert not follower.turn()
        return [path for path, _ in script.server.heard].count(second)

    with closing(following.follower(script.url, steady=lambda: now[0])) as again:
        assert [asked(again), asked(again)] == [1, 0], "at the start, and then rarely"
        assert again.state.postponed == 1
        script.server.status_of.clear()
        now[0] += 899
        assert asked(again) == 0
        now[0] += 1
        assert asked(again) == 1
        assert again.state.postponed == 0
        assert following.uids()[3:] == ["1.2.3.2"]
        now[0] += 900
        assert asked(again) == 0
    assert len(following.store.events.all(kind=EventKind.FOLLOW_POSTPONED)) == 1
    assert len(following.store.events.all(kind=EventKind.FOLLOW_CAUGHT_UP)) == 1


def test_many_that_cannot_be_had_do_not_hide_the_others(
    following: Following, script: Scripted, begun: Follower
) -> None:
    """A server in trouble is not asked for all at once, but for others the next time."""
    *bad, _ = _with_a_study(script, *(part10(ct_slice(n)) for n in range(1, 7)))
    script.server.status_of.update(dict.fromkeys(bad, 500))
    assert not begun.turn()
    assert [path for path, _ in script.server.heard if path in bad] == bad[:3]
    assert not begun.turn()
    assert following.uids() == ["1.2.3.6"]


def _only_put_off(following: Following, script: Scripted, begun: Follower, now: list[float]) -> str:
    """Path of the only instance there is, which is put off."""
    (only,) = _with_a_study(script, part10(ct_slice(1)))
    script.server.status_of[only] = 500
    _put_off(following, begun, now)
    return only


def test_what_is_put_off_waits_while_no_one_is_there(
    following: Following, script: Scripted, begun: Follower, now: list[float]
) -> None:
    only = _only_put_off(following, script, begun, now)
    script.server.status_of[only] = 401
    now[0] += 900
    assert not begun.turn()
    assert begun.state.fault == "HTTP 401"
    script.server.status_of.clear()
    assert not begun.turn()
    assert following.uids() == ["1.2.3.1"]


def test_an_object_too_large_is_left_out_at_once_and_the_others_come(
    following: Following, script: Scripted, begun: Follower
) -> None:
    """The others cannot be had at first, so that the study is gone through more than once."""
    large = part10(ct_slice(1, Rows=1024, Columns=1024, PixelData=bytes(2 * MB)))
    _, second = _with_a_study(script, large, part10(ct_slice(2)))
    script.server.status_of[second] = 500
    for _ in range(3):
        begun.turn()
    script.server.status_of.clear()
    assert not begun.turn()
    assert begun.state.fault == ""
    assert following.uids() == ["1.2.3.2"]
    (skipped,) = following.store.events.all(kind=EventKind.FOLLOW_SKIPPED)
    assert (skipped.detail["resource"], skipped.detail["change"]) == ("1", 1)
    assert "more than" in skipped.detail["why"]
    position = following.store.positions.get("pacs")
    assert position is not None
    assert position.number == 1


@pytest.mark.parametrize("fault", ["odd", "breaks off", "slow"])
def test_an_object_that_never_comes_whole_does_not_hold_up_the_others_for_ever(
    following: Following,
    script: Scripted,
    begun: Follower,
    now: list[float],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _with_a_study(script, part10(ct_slice(1)))
    series = "/studies/00000001/series"
    if fault == "odd":
        script.server.body_of[series] = b"<html>"
    elif fault == "breaks off":
        script.server.cut.add(series)
    else:
        usual = orthanc_module.body

        def slow(answer: httpx.Response, *limits: float) -> bytes:
            if answer.url.path == series:
                raise Transient("found an answer that takes more than 120 s")
            return usual(answer, *limits)  # type: ignore[arg-type]

        monkeypatch.setattr(orthanc_module, "body", slow)
    _put_off(following, begun, now)


def test_time_away_is_no_time_an_object_could_not_be_had(
    following: Following, script: Scripted, begun: Follower, now: list[float]
) -> None:
    """Nor is the time before it forgotten."""
    script.server.status_of, script.server.status = {"/changes": 200}, 500
    assert not begun.turn()
    now[0] = 1800.0
    away = httpx.ConnectError("refused")
    with patch.object(OrthancSource, "changes", side_effect=away):
        assert not begun.turn()
        now[0] = 8000.0
        assert not begun.turn()
    now[0] = 9000.0
    assert not begun.turn()
    now[0] = 9099.0
    assert not begun.turn()
    assert not following.store.events.all(kind=EventKind.FOLLOW_POSTPONED)
    now[0] = 9100.0
    assert not begun.turn()
    assert following.store.events.all(kind=EventKind.FOLLOW_POSTPONED)


def test_objects_that_make_orthanc_crash_are_put_off(
    following: Following,
    script: Scripted,
    begun: Follower,
    now: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Orthanc comes back each time, much sooner than a quarter of an hour."""
    *bad, _ = _with_a_study(script, *(part10(ct_slice(n)) for n in range(1, 4)))
    usual, crashes, down = OrthancSource._get, list[str](), False

    def crashing(self: OrthancSource, path: str, *more: Any) -> bytes | None:
        nonlocal down
        if down:
            raise httpx.ConnectError("refused")
        if path in bad:
            crashes.append(path)
            down = True
            raise httpx.RemoteProtocolError("server disconnected")
        return usual(self, path, *more)

    monkeypatch.setattr(OrthancSource, "_get", crashing)

    def turns(number: int) -> None:
        nonlocal down
        for _ in range(number):
            begun.turn()
            if down:
                begun.turn()
                assert begun.state.fault == "ConnectError"
            down = False
            now[0] += 10

    turns(20)
    assert len(following.store.events.all(kind=EventKind.FOLLOW_POSTPONED)) == 1
    assert begun.state.position == 1
    assert following.uids() == ["1.2.3.3"]
    assert len(crashes) == 6
    now[0] += 900
    turns(20)
    assert len(crashes) == 7, "it is asked again as rarely as others"


def test_a_clock_set_back_holds_nothing_up(
    following: Following, script: Scripted, now: list[float]
) -> None:
    script.changes(5)
    with closing(
        following.follower(
            script.url, begin="beginning", clock=lambda: 5000 - now[0], steady=lambda: now[0]
        )
    ) as follower:
        assert follower.turn()
        script.server.status_of, script.server.status = {"/changes": 200}, 500
        _put_off(following, follower, now)
        script.server.status = 404
        now[0] += 900
        assert not follower.turn()
        assert follower.state.postponed == 0


def test_catching_up_starves_nothing_that_is_new_and_each_gets_its_turn(
    following: Following,
    script: Scripted,
    begun: Follower,
    now: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forty studies are put off, and each hangs for a minute when it is asked for."""
    hanging = [f"{number:08x}" for number in range(100, 140)]
    for study in hanging:
        change = Change("pacs", "StableStudy", study, 1)
        following.store.positions.postpone(change, "HTTP 500", 0)
    _with_a_study(script, part10(ct_slice(1)))
    usual, asked = OrthancSource._get, list[str]()

    def slow(self: OrthancSource, path: str, *more: Any) -> bytes | None:
        if path.split("/")[2:3] and (study := path.split("/")[2]) in hanging:
            assert following.uids() == ["1.2.3.1"], "what is new goes first"
            asked.append(study)
            now[0] += 60
            raise httpx.ReadTimeout("slow")
        return usual(self, path, *more)

    monkeypatch.setattr(OrthancSource, "_get", slow)
    for number in range(80):
        assert not begun.turn()
        assert now[0] == 1000 + 60 * (number + 1), "a turn is a short one"
    assert asked == hanging * 2
    assert begun.state.postponed == 40
    assert begun.state.fault == ""


def test_what_is_put_off_comes_while_a_change_holds_up_the_log(
    following: Following, script: Scripted, begun: Follower, now: list[float]
) -> None:
    _only_put_off(following, script, begun, now)
    script.server.status_of = {"/studies/00000002/series": 500}
    script.changes(2)
    script.server.body_of["/changes"] = script.server.body
    now[0] += 900
    assert not begun.turn()
    assert begun.state.fault == "HTTP 500"
    assert following.uids() == ["1.2.3.1"]


def test_an_objects_time_grows_with_its_size() -> None:
    assert _patience(0) == 120
    assert _patience(512 * MB) > 120 + 512
    assert _patience(1 << 50) == 3600


def test_the_log_is_read_as_it_is_and_no_further_than_a_limit(
    following: Following, script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that was compressed unasked may be a thousand times as long as it looks."""
    following.store.positions.put("pacs", Position(3, "mark"), 0)
    script.changes(4)
    page = script.server.body
    script.server.headers["Content-Encoding"] = "gzip"
    script.server.body = gzip.compress(page)
    follower = following.follower(script.url)
    assert not follower.turn()
    assert follower.state.fault.startswith("found no answer of Orthanc's")
    script.server.headers.clear()
    script.server.body = page
    monkeypatch.setattr(orthanc_module, "_LIST_BYTES", len(page) - 1)
    assert not follower.turn()
    assert follower.state.fault.startswith("found an answer of more than")
    assert following.store.positions.get("pacs") == Position(3, "mark")
    follower.close()


def test_who_is_not_let_in_puts_nothing_off(
    following: Following, script: Scripted, begun: Follower, now: list[float]
) -> None:
    script.server.status_of, script.server.status = {"/changes": 200}, 401
    for at in (1000.0, 1e6):
        now[0] = at
        assert not begun.turn()
    assert following.store.positions.get("pacs") == Position(0, "")
    assert not following.store.events.all(kind=EventKind.FOLLOW_POSTPONED)


def test_while_paused_nothing_is_asked(following: Following, script: Scripted) -> None:
    follower = following.follower(script.url, paused=lambda: True)
    assert not follower.turn()
    assert script.server.heard == []
    follower.close()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"Changes": 7}',
        b"[" * 100_000,
        b'{"Changes": [{"Seq": 1, "ChangeType": "StableStudy", "Date": "", "ID": "../../x"}],'
        b' "Done": true, "Last": 1}',
    ],
)
def test_an_answer_that_is_not_orthancs_moves_nothing(
    following: Following, script: Scripted, body: bytes
) -> None:
    following.store.positions.put("pacs", Position(3, "mark"), 0)
    script.server.body = body
    follower = following.follower(script.url)
    assert not follower.turn()
    assert follower.state.fault.startswith("found no answer of Orthanc's")
    assert following.store.positions.get("pacs") == Position(3, "mark")
    follower.close()


def test_nobody_there_is_a_fault_that_is_shown(following: Following) -> None:
    follower = following.follower(f"http://127.0.0.1:{free_port()}")
    assert not follower.turn()
    assert follower.state.fault == "ConnectError"
    follower.close()
