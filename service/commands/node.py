"""Commands that run a node or look after one: serve, worker, doctor, config check."""

from typing import Annotated

import typer

from mirv.service.commands.terminal import Commands, ConfigOption, open_catalogue, open_spool, out

app = typer.Typer(cls=Commands)
config_app = typer.Typer(cls=Commands, no_args_is_help=True, help="Settings of the node.")
app.add_typer(config_app, name="config")


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the node: listener, scheduler, workers, sender and status page."""
    from mirv.config.settings import load_settings
    from mirv.service.node.node import Node
    from mirv.service.runtime.log import configure

    settings = load_settings(config)
    configure(settings.log_level)
    node = Node(settings)
    node.end_when_told()
    node.start()
    try:
        node.wait()
    finally:
        node.stop()


@app.command()
def worker(config: ConfigOption = None) -> None:
    """Take runs and deliveries from a node's queues, on this or another machine (PostgreSQL)."""
    from mirv.config.settings import load_settings
    from mirv.service.node.worker import Worker
    from mirv.service.runtime.log import configure

    settings = load_settings(config)
    configure(settings.log_level)
    made = Worker(settings)
    made.end_when_told()
    made.start()
    made.wait()


@app.command()
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read every file and check its content.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Compare the spool with the index. Exit code 0: healthy; 2: something is lost or damaged."""
    from rich.text import Text

    from mirv.service.objects.repair import check, put_right
    from mirv.service.objects.spool_name import check_if_named

    with open_catalogue(config) as (settings, catalogue):
        spool = open_spool(settings)
        check_if_named(spool.folder, catalogue)
        findings = check(spool, catalogue, thorough=thorough)
        if repair:
            put_right(spool, catalogue, findings, issuer_of=settings.identity.issuer_of)
    for name in ("unindexed", "missing", "damaged", "outputs_missing"):
        found = getattr(findings, name)
        out().print(Text(f"{name}: {len(found)}"))
        for one in found:
            out().print(Text(f"  {one}"))
    raise typer.Exit(0 if findings.healthy else 2)


@config_app.command("check")
def config_check(config: ConfigOption = None) -> None:
    """Check a settings file and print what holds, defaults filled in."""
    import yaml
    from rich.text import Text

    from mirv.config.settings import load_settings
    from mirv.dicom_io.outputs import extra_names
    from mirv.service.study.plan import plan_from

    settings = load_settings(config, extras=extra_names())
    plan_from(settings)
    out().print(Text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)))
