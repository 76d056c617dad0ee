"""Strangers attack while a real sender is served; at full size: ``tests.bench attack``."""

import time
from pathlib import Path

import pytest

from tests.bench.attack import SMALL, attack
from tests.service.inbound.wire.test_server import p_data, store_command
from tests.service.wire import associate_request, dial, ended, serving


@pytest.mark.peers
def test_a_node_under_attack_serves_on_and_loses_nothing(tmp_path: Path) -> None:
    report = attack(tmp_path, SMALL, seed=11)
    assert report.faults == []
    assert report.counts["UIDs with path characters"] == 16 * 4 + 16
    assert report.counts["deep sequences"] == 3
    assert report.counts["decompression bombs"] == 6
    assert report.counts["huge images"] == 2
    assert sum(n for kind, n in report.counts.items() if kind.startswith("PDU")) == SMALL.pdus
    assert report.served >= len(report.rows) == 7


def test_who_is_silent_in_an_association_makes_room_for_others(tmp_path: Path) -> None:
    """All associations are taken; those that say nothing are ended for those that would."""
    with serving(tmp_path, max_associations=2, acse_timeout_s=1, network_timeout_s=60) as node:
        silent = [dial(node.port) for _ in range(2)]
        for connection in silent:
            connection.sendall(associate_request())
            assert connection.recv(4096)[0] == 2
        assert not node.echoes(), "silent for a moment only: they may be at work"
        time.sleep(1.2)
        assert node.echoes()
        assert [ended(connection, 0.2) for connection in silent].count(True) == 1
        for connection in silent:
            connection.close()


def test_a_command_without_its_fields_ends_its_association(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without Command Data Set Type pynetdicom's thread dies with a traceback."""
    command = store_command()
    at = command.index(b"\0\0\0\x08")
    with serving(tmp_path) as node:
        with dial(node.port) as connection:
            connection.sendall(associate_request())
            assert connection.recv(4096)[0] == 2
            connection.sendall(p_data(command[:at] + command[at + 10 :], command=True, last=True))
            assert ended(connection, 5)
        assert node.echoes()
    said = capfd.readouterr()
    assert "Traceback" not in said.err + said.out
