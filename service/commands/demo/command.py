"""The ``mirv demo`` command."""

from pathlib import Path
from typing import Annotated

import typer

from mirv.service.commands.terminal import Commands, err, out

app = typer.Typer(cls=Commands)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder of the demo.")] = Path("demo-out"),
    stay: Annotated[bool, typer.Option("--stay", help="Keep the node and its page up.")] = False,
) -> None:
    """Send a synthetic patient with 12 lesions through the whole line and show the results."""
    from mirv.service.commands.demo.demo import running_demo
    from mirv.service.commands.demo.shown import show
    from mirv.service.runtime.log import configure

    configure("ERROR")
    err().print(
        "A synthetic CT with 12 lesions goes to the node by C-STORE; a PACS waits for results"
    )
    with running_demo(folder) as (outcome, node):
        show(outcome, out())
        if stay:
            out().print("The page is up until Ctrl-C.")
            node.wait()
