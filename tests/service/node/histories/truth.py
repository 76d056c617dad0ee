"""What must hold at the end of every history."""

import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from difflib import unified_diff
from pathlib import Path
from pprint import pformat
from typing import Any, Protocol

import pydicom
import pytest

from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue, RunRow, RunState
from mirv.service.catalogue.states import CORRECTED
from mirv.service.objects.results import read_result
from mirv.service.objects.spool import Spool
from mirv.service.study import folder as folder_mode
from mirv.service.study import result_record
from mirv.service.study.result_record import ResultRecord
from tests.service.node.histories import world
from tests.service.node.histories.history import Received
from tests.service.node.histories.model import lesions_found, lesions_wanted
from tests.service.node.histories.rig import Rig, aside


class Node(Protocol):
    """What is looked into: a rig, or what a node's process has left."""

    store: Catalogue
    spool: Spool
    settings: Settings


Results = dict[str, ResultRecord]
"""By the identity of their run, which names input, rules and the run compared with."""


def expect_all(rig: Rig, received: Received, folder: Path) -> None:
    """The node is at rest and says what `mirv process` says of what is valid."""
    rig.idle()
    expect_nothing_lost(rig, received)
    expect_the_lesions_drawn(rig, received)
    expect_the_folder(rig, received, folder)
    expect_current_sent_last(rig)
    expect_persons_apart(rig, received)
    expect_rest(rig)


def expect_the_lesions_drawn(node: Node, received: Received) -> None:
    """Each study's result holds what its first reader drew last."""
    wanted = lesions_wanted(received)
    found = lesions_found(node.store, node.spool)
    _expect_alike({name: found[name] for name in wanted}, wanted)


def expect_the_folder(node: Node, received: Received, folder: Path) -> None:
    """Current results are those of the folder: same images, runs, lesions, numbers, priors."""
    failed = node.store.runs.all(states=(RunState.FAILED,))
    assert not failed, failed[0].reason_detail
    wanted = results_of_folder(received, node.settings, folder)
    found = {
        run.run_id: read_result(node.spool, run.result_sha256)
        for run in node.store.runs.all(states=(RunState.FINISHED,), current=True)
        if run.result_sha256 is not None
    }
    _expect_alike(_told(found), _told(wanted))
    for run_id, record in wanted.items():
        one, other = _bare(found[run_id]), _bare(record)
        if result_record.to_bytes(one) != result_record.to_bytes(other):
            _expect_alike(asdict(one), asdict(other))
            raise AssertionError(f"run {run_id}: other bytes")


def _expect_alike(found: object, wanted: object) -> None:
    """Say which lines differ, written out."""
    lines = (pformat(one, width=160).splitlines() for one in (wanted, found))
    said = "\n".join(unified_diff(*lines, "wanted", "found", lineterm="", n=1))
    assert not said, said


def _told(results: Results) -> list[dict[str, Any]]:
    """Results as a failing test shows them best."""
    return [_in_short(run_id, results[run_id]) for run_id in sorted(results)]


def _in_short(run_id: str, record: ResultRecord) -> dict[str, Any]:
    names = {one.identity.study_uid: name for name, one in world.STUDIES.items()}
    return {
        "run": run_id[:12],
        "study": names.get(record.study_uid, record.study_uid),
        "series": record.series_uid[-6:],
        "prior": (record.result.provenance.prior_input_digest or "")[:12],
        "lesions": {
            one.tracking_uid[-6:]: (one.label, one.site, one.volume_ml, *one.values)
            for one in record.result.lesions
        },
        "drawn in": {
            lesion[-6:]: uid[-6:] for lesion, uid in sorted(record.segmentation_uids.items())
        },
    }


def _bare(record: ResultRecord) -> ResultRecord:
    """Without what a revision says of its predecessor, which a folder has not."""
    quality = tuple(row for row in record.quality if row.check != "revision")
    return replace(record, quality=quality)


def results_of_folder(received: Received, settings: Settings, folder: Path) -> Results:
    """What `mirv process` makes of the valid objects and the outputs that came back."""
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "valid"
    source.mkdir(parents=True)
    for number, content in enumerate((*received.valid.values(), *received.own.values())):
        (source / f"{number}.dcm").write_bytes(content)
    with _runs_named() as runs:
        found = folder_mode.process_folder([source], folder / "out", settings)
    assert not found.faults
    return dict(zip(runs, found.records, strict=True))


@contextmanager
def _runs_named() -> Iterator[list[str]]:
    """The identities of the folder's runs; it renders nothing meanwhile, which has other tests."""
    named: list[str] = []

    def render(*given: Any) -> tuple[()]:
        named.append(given[2].run_digest)
        return ()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_mode, "render", render)
        yield named


def expect_nothing_lost(node: Node, received: Received) -> None:
    """The valid content under a UID is kept and indexed; any other is put aside."""
    for uid, content in received.valid.items():
        assert _same(kept(node, uid), content), uid
    put_aside = list(aside(node.spool, node.store).values())
    assert len(put_aside) == len(received.others)
    for content in received.others:
        uid = world.uid_of(content)
        assert any(_same(one, content) for one in put_aside if world.uid_of(one) == uid), uid


def kept(node: Node, sop_instance_uid: str) -> bytes:
    """The file that the node keeps of an object."""
    row = node.store.instances.find(sop_instance_uid)
    assert row is not None, sop_instance_uid
    return node.spool.path(row.sha256).read_bytes()


def _same(one: bytes, other: bytes) -> bool:
    """One object, whatever its file meta information says of the way it came."""
    return one == other or pydicom.dcmread(io.BytesIO(one)) == pydicom.dcmread(io.BytesIO(other))


def expect_current_sent_last(rig: Rig) -> None:
    """What reached the destination last of an image is its current result, all of it, once."""
    last: dict[tuple[str, str], str] = {}
    runs = {run.run_id: run for run in rig.store.runs.all()}
    for one in rig.sent:
        last[runs[one.run_id].study_uid, runs[one.run_id].series_uid] = one.run_id
    current = {
        (run.study_uid, run.series_uid): run.run_id
        for run in rig.store.runs.all(states=(RunState.FINISHED,), current=True)
    }
    withdrawn = {
        image
        for image, run_id in last.items()
        if image not in current and _ends_refused(runs, run_id)
    }
    _expect_alike({image: last[image] for image in last.keys() - withdrawn}, current)
    uids = [one.sop_instance_uid for one in rig.sent]
    assert len(uids) == len(set(uids)), "sent twice"
    for run_id in current.values():
        made = {one.sop_instance_uid for one in rig.store.runs.artifacts(run_id)}
        assert made <= set(uids)


def _ends_refused(runs: Mapping[str, RunRow], run_id: str) -> bool:
    """Whether a result was withdrawn: by a correction, or what superseded it last was refused."""
    while (by := runs[run_id].superseded_by) is not None:
        if by == CORRECTED:
            return True
        run_id = by
    return runs[run_id].state == RunState.REFUSED


def expect_persons_apart(node: Node, received: Received) -> None:
    """No output for one person holds a UID, a birth date or a name of the other."""
    telling: dict[str, set[bytes]] = {letter: set() for letter in world.PERSONS}
    for content in (*received.valid.values(), *received.others):
        telling[world.owner_of(content)] |= world.telling(content)
    owners = {one.identity.study_uid: one.owner for one in world.STUDIES.values()}
    for run in node.store.runs.all():
        if run.study_uid not in owners:  # of another history on the same node
            continue
        mine = owners[run.study_uid]
        forbidden = {
            text
            for letter, texts in telling.items()
            if letter != mine
            for text in texts - telling[mine]
        }
        for artifact in node.store.runs.artifacts(run.run_id):
            content = node.spool.path(artifact.sha256).read_bytes()
            named = [text for text in forbidden if text in content]
            assert not named, (artifact.role, mine, named)


def expect_rest(rig: Rig) -> None:
    """Nothing more comes of a start; that nothing comes of looking again ended the last rest."""
    before = _state(rig)
    rig.restart()
    rig.idle()
    _expect_alike(_state(rig), before)


def _state(rig: Rig) -> tuple[object, ...]:
    runs = sorted(
        (run.run_id, str(run.state), run.superseded_by or "") for run in rig.store.runs.all()
    )
    waiting = sorted((row.object_uid, row.waits_for) for row in rig.store.studies.waiting())
    return runs, waiting, len(rig.sent), len(rig.worked)
