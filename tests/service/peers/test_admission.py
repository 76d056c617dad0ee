"""Who may call: whatever a peer is or says is answered with yes or no."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.config.settings.network import Listener
from mirv.service.peers.admission import Admission, is_loopback
from tests.service.wire import associate, dial, ended, serving

RULES = Listener.model_validate(
    {
        "bind": "0.0.0.0",  # noqa: S104 - the rules are what is tested
        "allow": [
            {"ae_title": "NEAR", "address": "10.1.0.0/16"},
            {"ae_title": "ONE", "address": "192.0.2.7"},
            {"ae_title": "SIX", "address": "2001:db8::/32"},
        ],
    }
)


@pytest.mark.parametrize(
    ("title", "address", "connects", "associates"),
    [
        ("NEAR", "10.1.200.3", True, True),
        ("NEAR", "10.2.0.1", False, False),
        ("NEAR", "192.0.2.7", True, False),
        ("ONE", "192.0.2.7", True, True),
        ("ONE", "192.0.2.8", False, False),
        ("ONE", "::ffff:192.0.2.7", True, True),
        ("SIX", "2001:db8::1", True, True),
        ("SIX", "2001:db9::1", False, False),
        ("", "10.1.0.1", True, False),
        ("NEAR", "pacs.example.org", False, False),
        ("NEAR", "", False, False),
    ],
)
def test_a_rule_holds_for_its_title_and_its_network(
    title: str, address: str, connects: bool, associates: bool
) -> None:
    admission = Admission(RULES)
    assert admission.may_connect(address) is connects
    assert admission.may_associate(title, address) is associates


@pytest.mark.parametrize(
    ("bind", "open_to_all"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("", False)],  # noqa: S104
)
def test_without_rules_a_loopback_bind_is_for_everyone_here(bind: str, open_to_all: bool) -> None:
    admission = Admission(Listener(bind=bind))
    assert admission.may_connect("127.0.0.1") is open_to_all
    assert admission.may_associate("ANYONE", "127.0.0.1") is open_to_all
    assert is_loopback(bind) is open_to_all


@pytest.mark.parametrize("bind", ["pacs.example.org", "10.0.0", "127.0.0.1:80"])
def test_what_is_no_address_is_reachable_from_outside(bind: str) -> None:
    assert not is_loopback(bind)


@given(st.text(), st.text())
def test_no_words_of_a_peer_make_it_raise(title: str, address: str) -> None:
    for wanted in (RULES, Listener(), Listener(bind="")):
        admission = Admission(wanted)
        assert admission.may_connect(address) in (True, False)
        assert admission.may_associate(title, address) in (True, False)


def test_strangers_end_no_listener(tmp_path: Path) -> None:
    allow = [{"ae_title": "GOOD", "address": "127.0.0.1"}, {"ae_title": "B", "address": "::1"}]
    with serving(tmp_path, bind="0.0.0.0", allow=allow) as node:  # noqa: S104
        for _ in range(3):
            with socket.socket() as stranger:
                stranger.bind(("127.0.0.9", 0))
                stranger.connect(("127.0.0.1", node.port))
                assert ended(stranger, 10)
        with dial(node.port), associate(node.port, calling="GOOD") as association:
            assert association.is_established
