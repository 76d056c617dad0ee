"""The conformance statement says what the code does."""

from mirv.service.peers.entity import STORAGE_CLASSES
from tests.conformance.statement import ROLES, TARGET, statement


def test_page_is_what_the_tables_give() -> None:
    """Refresh with ``python -m tests.conformance.statement``."""
    assert TARGET.read_text(encoding="utf-8") == statement()


def test_every_output_and_every_accepted_class_is_named() -> None:
    page = statement()
    for role in ROLES:
        assert role.sop_class_uid in page
    assert len(STORAGE_CLASSES) == len(set(STORAGE_CLASSES))
    assert "| " in page and "None" not in page


def test_sections_stand_in_the_order_of_the_template() -> None:
    """PS3.2 Annex N, as far as its sections are the node's matter."""
    heads = [line[3:] for line in statement().splitlines() if line.startswith("## ")]
    assert heads == [
        "Overview", "Introduction", "Networking", "Media", "Objects created",
        "Structured report content", "Character sets", "Security",
    ]  # fmt: skip
