"""`surveyor embed`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from surveyor.cli.guard import guarded
from surveyor.cli.options import Device, FeatureKind, Model, Python, SketchSize
from surveyor.cli.progress import make_progress


def embed(
    pool: Annotated[Path, typer.Argument(help="Structures: any file that ASE reads, also .gz .xz .bz2.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The store, a folder that ends in .zarr.")],
    model: Model = "builtin",
    features: FeatureKind = "tangent",
    dim: SketchSize = 512,
    seed: Annotated[int, typer.Option(help="Of the sketch.")] = 0,
    device: Device = None,
    python: Python = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: structures, dim, settings.")] = False,
) -> None:
    """Compute the features of a pool once, in bounded memory. The same command goes on after a kill.

    Example: surveyor embed pool.extxyz.gz --model builtin -o features.zarr
    """
    with guarded():
        from surveyor.config import FeatureConfig, build_features
        from surveyor.features.embedding import embed as write_store
        from surveyor.features.registry import takes
        from surveyor.potentials import open_potential
        from surveyor.structures import StructureFile

        potential = open_potential(model, device, python=python) if takes(features, "potential") else None
        structures = StructureFile(pool, None if potential is None else potential.elements)
        feature_map = build_features(potential, FeatureConfig(kind=features, dim=dim), seed, structures)
        progress = make_progress()
        progress.start("features", structures.count())
        finished = 0

        def advance(total: int) -> None:
            nonlocal finished
            progress.advance(total - finished)
            finished = total

        store = write_store(structures, feature_map, output, on_progress=advance)
        progress.finish(f"{len(store)} structures")
        if as_json:
            typer.echo(json.dumps({"structures": len(store), "dim": store.dim, "settings": store.settings}))
        else:
            typer.echo(f"{len(store)} structures × {store.dim} in {output}")
