"""`surveyor doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from surveyor.cli.guard import guarded
from surveyor.cli.options import Model
from surveyor.cli.progress import make_progress


def doctor(
    model: Model = "builtin",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a potential: what it is, and whether it is as good here as its card says.

    Example: surveyor doctor --model builtin
    """
    with guarded():
        from surveyor.checkup import check_potential

        progress = make_progress()
        progress.start("measuring the errors on held-out frames")
        checkup = check_potential(model)
        progress.finish()
        if as_json:
            typer.echo(json.dumps(checkup.as_dict()))
        else:
            console = Console()
            console.print(checkup.description, soft_wrap=True)
            table = Table(title="held-out molecules")
            for column in ("", "on the card", "measured here", "verdict"):
                table.add_column(column, justify="left" if column in ("", "verdict") else "right")
            for row in checkup.rows:
                table.add_row(
                    row.what, f"{row.card:.2f} {row.unit}", f"{row.measured:.2f} {row.unit}", row.verdict
                )
            console.print(
                table if checkup.rows else "no card with a sample of held-out frames beside this model"
            )
        if not checkup.ok:
            raise typer.Exit(1)
