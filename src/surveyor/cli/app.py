"""`surveyor`: the commands, and what they share."""

from __future__ import annotations

import typer

from surveyor.cli.benchmark import benchmark
from surveyor.cli.campaign import report, run, status
from surveyor.cli.doctor import doctor
from surveyor.cli.embed import embed
from surveyor.cli.extend import extend
from surveyor.cli.label import app as label
from surveyor.cli.options import ListsRules
from surveyor.cli.pretrain import pretrain
from surveyor.cli.select import select

app = typer.Typer(
    name="surveyor",
    help="Decide which structures to label next, from one pretrained interatomic potential.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def main(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from surveyor import __version__

        typer.echo(f"surveyor {__version__}")
        raise typer.Exit


app.command(cls=ListsRules)(select)
app.command()(embed)
app.add_typer(label, name="label")
app.command()(run)
app.command()(status)
app.command()(report)
app.command()(extend)
app.command()(pretrain)
app.command()(doctor)
app.add_typer(benchmark)
