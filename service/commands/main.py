"""The ``mirv`` command: which commands there are; each is loaded when it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand

from mirv.service.commands.terminal import Commands


@dataclass(frozen=True, slots=True)
class Entry:
    """A command, or a group of commands, by name.

    Attributes
    ----------
    help : str
        Its first line of help, for the list of all.
    app : callable
        Loads the application that holds a command of this name, or is the group of this name.
    """

    help: str
    app: Callable[[], typer.Typer]

    def load(self, name: str) -> Any:
        """The command itself, as click has it."""
        group = typer.main.get_group(self.app())
        return group.commands.get(name, group)


def _studies() -> typer.Typer:
    from mirv.service.commands.studies import app

    return app


def _node() -> typer.Typer:
    from mirv.service.commands.node import app

    return app


def _jobs() -> typer.Typer:
    from mirv.service.commands.jobs import app

    return app


def _deliveries() -> typer.Typer:
    from mirv.service.commands.deliveries import app

    return app


def _corrections() -> typer.Typer:
    from mirv.service.commands.corrections import app

    return app


def _export() -> typer.Typer:
    from mirv.service.commands.export import app

    return app


def _retrieve() -> typer.Typer:
    from mirv.service.commands.retrieve import app

    return app


def _cohort() -> typer.Typer:
    from mirv.service.commands.cohort.lesions import app

    return app


def _spaces() -> typer.Typer:
    from mirv.service.commands.spaces import app

    return app


def _profiles() -> typer.Typer:
    from mirv.service.commands.profiles import app

    return app


def _reports() -> typer.Typer:
    from mirv.service.commands.reports import app

    return app


def _demo() -> typer.Typer:
    from mirv.service.commands.demo.command import app

    return app


ENTRIES = {
    "process": Entry("Analyse folders of DICOM: the node's pipeline without network.", _studies),
    "check": Entry(
        "Say of every image and segmentation whether it can be analysed, and why not.", _studies
    ),
    "serve": Entry("Run the node: listener, scheduler, workers, sender and status page.", _node),
    "worker": Entry(
        "Take runs and deliveries from a node's queues, on this or another machine (PostgreSQL).",
        _node,
    ),
    "doctor": Entry(
        "Compare the spool with the index. Exit code 0: healthy; 2: something is lost or damaged.",
        _node,
    ),
    "config": Entry("Settings of the node.", _node),
    "jobs": Entry("Runs and what waits for another object.", _jobs),
    "deliveries": Entry("Results on their way to destinations.", _deliveries),
    "corrections": Entry(
        "What was sent again under known UIDs with another patient, study or content.",
        _corrections,
    ),
    "export": Entry(
        "Write current results as tables; pseudonymised unless told otherwise.", _export
    ),
    "retrieve": Entry(
        "Fetch one baseline study for every patient of a list, by the rule of the settings.",
        _retrieve,
    ),
    "cohort": Entry(
        "The papers' analyses on tables of a cohort, or on the node's own results.", _cohort
    ),
    "space": Entry("Frozen feature spaces.", _spaces),
    "profile": Entry("Extraction profiles.", _profiles),
    "sr": Entry("Structured reports.", _reports),
    "demo": Entry(
        "Send a synthetic patient with 12 lesions through the whole line and show the results.",
        _demo,
    ),
}


class LazyCommands(Commands):
    """All commands by name and first line; the one that is called is loaded then."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in ENTRIES.items():
            self.add_command(TyperCommand(name, help=entry.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, ENTRIES[name].load(name) if name in ENTRIES else command, rest


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Lesion radiomics and inter-lesion heterogeneity, inside the DICOM network. "
    "Research use; not a diagnostic or prognostic statement.",
)


@app.callback()
def _commands() -> None:
    """Typer wants one where no command is its own."""


def main() -> None:
    """Entry point of the console script."""
    app()
