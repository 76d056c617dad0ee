"""Who issued a Patient ID that comes without an issuer, by where it comes from."""

from typing import Any

import pytest

from mirv.config.errors import SettingsError
from mirv.config.settings import load_settings
from mirv.config.settings.network import IdentityRules

RULES = IdentityRules.model_validate(
    {
        "default_issuer": " ELSE ",
        "issuers": [
            {"issuer": "HOSP&1.2.3", "ae_title": "CT@1"},
            {"issuer": "PACS", "source": "pacs"},
            {"issuer": "LAST", "source": "pacs"},
        ],
    }
)


@pytest.mark.parametrize(
    ("source", "issuer"),
    [
        ("CT@1@192.0.2.1", "HOSP&1.2.3"),
        ("CT@192.0.2.1", "ELSE"),
        ("pacs@192.0.2.1", "ELSE"),  # it calls itself so, and is not the source
        ("fetch:pacs", "PACS"),
        ("follow:pacs", "PACS"),
        ("fetch:other", "ELSE"),
        ("repair", "ELSE"),
        ("", "ELSE"),
    ],
)
def test_the_first_rule_that_fits_counts(source: str, issuer: str) -> None:
    assert RULES.issuer_of(source) == issuer
    assert IdentityRules().issuer_of(source) == ""


def test_a_folder_has_its_own_or_the_default() -> None:
    assert RULES.issuer_of_folder() == "ELSE"
    assert IdentityRules(default_issuer="A", folder_issuer="B").issuer_of_folder() == "B"
    assert IdentityRules().issuer_of_folder() == ""


@pytest.mark.parametrize(
    ("identity", "fault"),
    [
        ({"default_issuer": " "}, "1 to 64"),
        ({"default_issuer": "A\\B"}, "1 to 64"),
        ({"default_issuer": "A&"}, "1 to 64"),
        ({"default_issuer": "A" * 65}, "1 to 64"),
        ({"issuers": [{"issuer": "A"}]}, "one of ae_title, source"),
        ({"issuers": [{"issuer": "A", "ae_title": "B", "source": "C"}]}, "one of ae_title"),
        ({"issuers": [{"issuer": "A", "source": "gone"}]}, "no source or follow gone"),
    ],
)
def test_what_could_never_be_meant_is_refused(identity: dict[str, Any], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        load_settings(identity=identity)
