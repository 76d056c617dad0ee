"""Single values of the settings: addresses are addresses, and are written as they were read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mirv.config.settings import Settings, SettingsError, load_settings
from mirv.config.settings.network import Listener, PeerRule
from mirv.service.study.plan import plan_from


@pytest.mark.parametrize(
    "address",
    ["pacs.example.org", "10.0.0.0/33", "10.0.0", "", " 10.0.0.1", "::1/129", 167772161, True,
     ["10.0.0.1"], "10.0.0.1:104", "*"],
)  # fmt: skip
def test_what_is_no_address_is_named_with_every_other_fault(tmp_path: Path, address: Any) -> None:
    content = {
        "listener": {
            "bind": "myhost.example",
            "allow": [{"ae_title": "A"}, {"ae_title": "B", "address": address}],
        },
        "quiet_s": -1,
    }
    path = tmp_path / "mirv.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(SettingsError) as fault:
        load_settings(path)
    said = str(fault.value)
    assert said.startswith("3 fault(s)")
    assert "listener.allow.1.address" in said
    assert "wanted an IP address or network" in said
    assert f"(found {address!r})" in said
    assert "listener.bind" in said
    assert "(found 'myhost.example')" in said


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.0.0/255.255.0.0", "10.1.0.0/16"),
        ("2001:db8::7", "2001:db8::7/128"),
        ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
        ("::ffff:127.0.0.1", "127.0.0.1/32"),
        ("::/0", "::/0"),
        (None, None),
    ],
)
def test_a_rule_is_written_as_the_network_it_means_and_read_again(
    address: str | None, written: str | None
) -> None:
    rule = PeerRule.model_validate({"ae_title": "A", "address": address})
    assert rule.model_dump(mode="json") == {"ae_title": "A", "address": written}
    listener = Listener(allow=(rule,))
    for mode in ("json", "python"):
        assert Listener.model_validate(listener.model_dump(mode=mode)) == listener


@pytest.mark.parametrize("bind", ["", "localhost", "::", "::1", "127.0.0.1", "10.1.2.3"])
def test_where_a_listener_may_listen(bind: str) -> None:
    assert Listener(bind=bind).bind == bind


def test_who_may_call_is_no_part_of_a_run() -> None:
    rule = PeerRule.model_validate({"ae_title": "A", "address": "10.0.0.0/8"})
    alone, among = Settings(), Settings(listener=Listener(allow=(rule,)))
    assert plan_from(alone).digest == plan_from(among).digest


@pytest.mark.parametrize("name", ["MIRV_PROFILES", "MIRV_LISTENER"])
def test_a_variable_that_is_no_value_of_its_setting_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "henry2022")
    with pytest.raises(SettingsError, match=name.removeprefix("MIRV_").lower()):
        load_settings()
