"""`surveyor`: the commands, and what they share."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from surveyor.cli.campaign import report, run, status
from surveyor.cli.doctor import doctor
from surveyor.cli.embed import embed
from surveyor.cli.evaluate import evaluate
from surveyor.cli.extend import extend
from surveyor.cli.label import app as label
from surveyor.cli.options import ListsRules
from surveyor.cli.select import select

GROUP = "surveyor.commands"
"""The group of entry points through which commands beside the instrument's own, the lab's, join it."""

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
app.command()(evaluate)
app.command()(doctor)
for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
    try:
        found = entry.load()
    # Somebody else's broken package must not keep people from their campaigns.
    except (Exception, SystemExit) as error:
        typer.echo(f"no `surveyor {entry.name}`: {entry.value} cannot be imported: {error}", err=True)
        continue
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=entry.name)
    else:
        app.command(name=entry.name)(found)
