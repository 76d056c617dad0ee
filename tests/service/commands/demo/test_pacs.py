"""The demo's peers: what is sent arrives as it is, what is refused is said."""

from pathlib import Path

import pytest

from mirv.analysis.errors import PeerRefused
from mirv.service.commands.demo.pacs import ReceivingPacs, send_files
from mirv.service.peers.association import NoAssociation
from mirv.service.peers.statuses import DUPLICATE_INSTANCE
from tests.peers import free_port
from tests.service.wire import ct_slice, part10, serving, three_slices


def test_the_modality_sends_and_the_pacs_keeps(tmp_path: Path) -> None:
    files = [one.path for one in three_slices(tmp_path)]
    receiving = ReceivingPacs(tmp_path / "received", free_port())
    receiving.start()
    try:
        send_files(files, receiving._port, "DEMOPACS")
    finally:
        receiving.stop()
    assert [path.read_bytes()[-512:] for path in receiving.received] == [
        path.read_bytes()[-512:] for path in files
    ]


def test_what_is_not_stored_or_not_reached_is_said(tmp_path: Path) -> None:
    (first, *_) = [one.path for one in three_slices(tmp_path)]
    with serving(tmp_path / "node") as node:
        send_files([first], node.port, "MIRV")
        first.write_bytes(part10(ct_slice(PixelData=bytes(range(256)) * 2)))
        with pytest.raises(PeerRefused, match="C-STORE to MIRV") as refused:
            send_files([first], node.port, "MIRV")
        assert refused.value.status == DUPLICATE_INSTANCE
        with pytest.raises(NoAssociation, match="rejected"):
            send_files([first], node.port, "OTHER")
