"""The vocabularies stand once: their texts are in the database, on the page and in commands."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirv import service
from mirv.service.catalogue import Commitment, DeliveryState, EventKind, PriorSearch, RunState
from mirv.service.catalogue.states import ENDED, UNDER_WAY
from mirv.service.objects.intake import Verdict
from mirv.service.peers.destinations.verdict import DeliveryVerdict

# Attributes, columns and arguments that hold a value of a vocabulary.
NAMES = {"state", "states", "commitment", "search", "verdict", "kind", "values"}
VOCABULARIES = (
    RunState, DeliveryState, Commitment, PriorSearch, EventKind, Verdict, DeliveryVerdict
)  # fmt: skip
WORDS = {str(word) for vocabulary in VOCABULARIES for word in vocabulary}


def _texts(node: ast.AST) -> Iterator[ast.Constant]:
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value in WORDS:
            yield one


def _is_about(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in NAMES


def literals(source: str) -> list[str]:
    """Texts that stand where a value of a vocabulary is meant."""
    found: list[ast.Constant] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(map(_is_about, [node.left, *node.comparators])):
            found += [text for each in [node.left, *node.comparators] for text in _texts(each)]
        elif isinstance(node, ast.Call):
            found += [
                text
                for keyword in node.keywords
                if keyword.arg in NAMES and not isinstance(keyword.value, ast.Call)
                for text in _texts(keyword.value)
            ]
            if isinstance(node.func, ast.Attribute) and _is_about(node.func.value):
                found += [text for argument in node.args for text in _texts(argument)]
    return [f"line {one.lineno}: {one.value!r}" for one in found]


@pytest.mark.parametrize(
    "line",
    [
        "run.state == 'queued'",
        "run.state in ('queued', 'running')",
        "table.c.state.in_(('queued',))",
        "table.update().values(state='waiting')",
        "store.runs.all(states=('finished',))",
        "events.all(kind='received')",
    ],
)
def test_a_literal_is_seen(line: str) -> None:
    assert literals(line)


def test_no_state_is_written_out_where_it_is_used() -> None:
    """mypy sees to the rest: what is told a state takes nothing else.

    Migrations say what was written once, whatever it is called now.
    """
    files = list(Path(str(service.__file__)).parent.rglob("*.py"))
    files = [file for file in files if file.parent.name != "versions"]
    found = {file.name: literals(file.read_text("utf-8")) for file in files}
    assert len(files) > 50
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_texts_are_those_of_every_catalogue_there_is() -> None:
    """Another text would orphan the rows of a node, and every table and page that is read."""
    assert [*RunState] == ["queued", "running", "finished", "refused", "failed", "cancelled"]
    assert [*DeliveryState] == ["waiting", "delivered", "parked", "cancelled"]
    assert [*Commitment] == ["", "asked", "committed", "refused", "unavailable"]
    assert {*UNDER_WAY, *ENDED} == {*RunState}
