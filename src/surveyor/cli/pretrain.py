"""`surveyor pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from surveyor.cli.guard import guarded
from surveyor.cli.progress import make_progress


def pretrain(
    recipe: Annotated[Path, typer.Argument(help="The recipe, YAML.")],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", "-o", help="Working folder; by default the recipe's name without .yaml."),
    ] = None,
) -> None:
    """Make a generic data set with GFN2-xTB and pretrain a small MACE on it. The same command resumes.

    Example: surveyor pretrain examples/pretrain-smoke.yaml -o pretrain
    """
    with guarded():
        from surveyor.pretraining import load_recipe, run_pretraining

        path = run_pretraining(load_recipe(recipe), folder or recipe.with_suffix(""), make_progress())
        typer.echo(path)
