"""Options that several commands share, so that they mean and say the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="builtin, a .model file that you trust, a MACE model name, or FAMILY:NAME."
    ),
]
FeatureKind = Annotated[str, typer.Option("--features", help="tangent | activations | soap.")]
SketchSize = Annotated[int, typer.Option("--dim", help="Sketch size of tangent features.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output even if Surveyor did not write it.")
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, …; a GPU is taken where there is one.")
]
