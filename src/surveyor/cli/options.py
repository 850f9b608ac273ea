"""Options that several commands share, so that they mean and say the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="builtin, a .model file that you trust, a MACE model name, or FAMILY:NAME."
    ),
]
Python = Annotated[
    Path | None,
    typer.Option(
        "--python",
        help="The Python of another environment, whose families open the models.",
        dir_okay=False,
    ),
]
Head = Annotated[
    str | None,
    typer.Option("--head", help="Which head of a multi-head model [default: the only one, or 'default']."),
]
FeatureKind = Annotated[
    str,
    typer.Option(
        "--features",
        help="tangent | activations | force-tangent | energy-force-tangent | force-activations | soap, or "
        "module:Name of a feature map of your own.",
    ),
]
SketchSize = Annotated[int, typer.Option("--dim", help="Sketch size of tangent features.", min=1)]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output even if Surveyor did not write it.")
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, …; a GPU is taken where there is one.")
]


class ListsRules(TyperCommand):
    """A command with `--rule`, whose help lists the rules; they are imported when it is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from surveyor.selection.registry import RULES, summary

        for option in self.params:
            if isinstance(option, TyperOption) and option.name == "rule":
                option.help = "\n\n".join(_described(name, summary) for name in RULES.names())
        super().format_help(ctx, formatter)


def _described(name: str, summary: Callable[[str], str]) -> str:
    from surveyor.errors import ConfigError

    try:
        return f"{name}: {summary(name)}"
    except ConfigError as error:  # of another package: no reason to give no help
        return str(error).replace("\n", " ")
