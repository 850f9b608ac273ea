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

    Example: surveyor pretrain examples/pretrain-smoke.yaml -o pretrained
    """
    with guarded():
        from surveyor.lab.pretraining.recipe import load_recipe
        from surveyor.lab.pretraining.run import pretrain as run

        progress = make_progress()
        stage, finished = "", 0

        def report(name: str, done: int, total: int, note: str) -> None:
            nonlocal stage, finished
            if name != stage:
                progress.start(name, total)
                stage, finished = name, 0
            progress.advance(done - finished)
            finished = done
            if done >= total:
                progress.finish(note)

        path = run(load_recipe(recipe), folder or recipe.with_suffix(""), on_progress=report)
        progress.finish()
        typer.echo(f"{path}\n{path.with_suffix('.json')}  (model card)")
