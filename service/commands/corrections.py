"""The ``mirv corrections`` commands: what was sent again otherwise, and what becomes of it."""

from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

import typer

from mirv.service.commands.terminal import (
    MOST_ROWS,
    Commands,
    ConfigOption,
    fail,
    moment,
    now,
    open_catalogue,
    open_spool,
    out,
)

if TYPE_CHECKING:
    from mirv.service.catalogue import Catalogue, CorrectionState
    from mirv.service.objects.corrections import Correction, Decision
    from mirv.service.objects.spool import Spool

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="What was sent again under known UIDs with another patient, study or content.",
)

StudyArgument = Annotated[str, typer.Argument(help="Study Instance UID, as stored.")]
PatientOption = Annotated[
    str, typer.Option("--patient", help="All studies stored under this Patient ID at once.")
]
RefusedOption = Annotated[bool, typer.Option("--refused", help="Those that were refused.")]


@app.command("list")
def corrections_list(
    patient: PatientOption = "", refused: RefusedOption = False, config: ConfigOption = None
) -> None:
    """List corrections by study, the latest first: what differs and whether it can be accepted."""
    from rich.table import Table
    from rich.text import Text

    from mirv.service.objects.corrections import look, of_patient, waiting

    state = _state(refused)
    with open_catalogue(config) as (settings, catalogue):
        spool = open_spool(settings)
        if patient:
            studies = of_patient(catalogue, patient, state)
            looked = (look(spool, catalogue, study_uid, state) for study_uid in studies)
            found = [one for one in looked if one is not None]
        else:
            found = waiting(spool, catalogue, state, MOST_ROWS)
    table = Table("study", "patient", "objects", "of", "differs in", "received", "can be accepted")
    for one in found:
        table.add_row(
            Text(one.study_uid),
            Text(", ".join(one.patient_ids)),
            str(len(one.rows)),
            str(one.n_stored),
            Text(", ".join(dict.fromkeys(change.field for change in one.changes))),
            moment(max(row.received_at for row in one.rows)),
            Text("; ".join(one.obstacles) or "yes"),
        )
    out().print(table if found else "nothing waits")


@app.command("show")
def corrections_show(
    study: StudyArgument = "",
    patient: PatientOption = "",
    refused: RefusedOption = False,
    config: ConfigOption = None,
) -> None:
    """Show what is stored beside what was sent again."""
    from rich.table import Table
    from rich.text import Text

    with open_catalogue(config) as (settings, catalogue):
        found = _chosen(open_spool(settings), catalogue, study, patient, _state(refused))
    for one in found:
        facts = Table("field", "stored", "sent again", "objects", title=Text(one.study_uid))
        for change in one.changes:
            facts.add_row(
                change.field, Text(change.before), Text(change.after), str(change.objects)
            )
        out().print(facts)
        for uid in one.left_out:
            out().print(Text(f"segmentation not sent again, of no use until it is: {uid}"))
        for obstacle in one.obstacles:
            out().print(Text(f"cannot be accepted: {obstacle}"))
    out().print(f"mark: {_mark(found)}")


@app.command("accept")
def corrections_accept(
    study: StudyArgument = "",
    patient: PatientOption = "",
    mark: Annotated[
        str, typer.Option("--mark", help="As `show` printed it: nothing else is accepted.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Let what was sent again take the place of what is stored; its study is analysed again."""
    from rich.text import Text

    from mirv.service.objects.corrections import accept

    with open_catalogue(config) as (settings, catalogue):
        spool = open_spool(settings)
        found = _chosen(spool, catalogue, study, patient, _state(refused=False))
        if mark and mark != _mark(found):
            fail(f"found mark {_mark(found)}, wanted {mark}: more was sent since; look at it again")
        accept(spool, catalogue, found, _decision())
    out().print(f"accepted: {sum(len(one.rows) for one in found)} objects of {len(found)} studies")
    for uid in (uid for one in found for uid in one.left_out):
        out().print(Text(f"segmentation not sent again, of no use until it is: {uid}"))


@app.command("refuse")
def corrections_refuse(
    study: StudyArgument = "",
    patient: PatientOption = "",
    undo: Annotated[bool, typer.Option("--undo", help="Let what was refused wait again.")] = False,
    config: ConfigOption = None,
) -> None:
    """Keep what is stored: what was sent again waits no more, also when it is sent once more."""
    from mirv.service.objects.corrections import refuse, reopen

    with open_catalogue(config) as (settings, catalogue):
        found = _chosen(open_spool(settings), catalogue, study, patient, _state(refused=undo))
        changed = (reopen if undo else refuse)(catalogue, found, _decision())
    out().print(f"{'wait again' if undo else 'refused'}: {changed} objects")


def _mark(found: "list[Correction]") -> str:
    """Of all that is shown: another one when anything else waits."""
    return sha256("".join(sorted(one.mark for one in found)).encode()).hexdigest()[:16]


def _state(refused: bool) -> "CorrectionState":
    from mirv.service.catalogue import CorrectionState

    return CorrectionState.REFUSED if refused else CorrectionState.PENDING


def _decision() -> "Decision":
    from getpass import getuser

    from mirv.service.objects.corrections import Decision

    try:
        user = getuser()
    except (OSError, KeyError):  # a number without a name
        user = "?"
    return Decision(f"command {user}", now())


def _chosen(
    spool: "Spool", catalogue: "Catalogue", study: str, patient: str, state: "CorrectionState"
) -> "list[Correction]":
    """The corrections that are meant; leaves with 1 when there is none."""
    from mirv.service.objects.corrections import look, of_patient

    if bool(study) == bool(patient):
        fail("wanted a Study Instance UID or --patient, one of both")
    studies = of_patient(catalogue, patient, state) if patient else [study]
    looked = (look(spool, catalogue, study_uid, state) for study_uid in studies)
    found = [one for one in looked if one is not None]
    if not found:
        fail(f"no {state} correction of {'this patient' if patient else f'study {study!r}'}")
    return found
