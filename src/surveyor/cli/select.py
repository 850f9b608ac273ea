"""`surveyor select`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from surveyor.cli.guard import guarded
from surveyor.cli.progress import make_progress

SHOWN = 10


def select(
    pool: Annotated[
        Path, typer.Argument(help="Unlabelled structures: any file that ASE reads, also .gz .xz .bz2.")
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="builtin, a .model file that you trust, or a MACE model name."),
    ] = "builtin",
    train: Annotated[
        Path | None, typer.Option("--train", "-t", help="Structures that are labelled already.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many to pick.")] = 20,
    features: Annotated[str, typer.Option(help="tangent | activations.")] = "tangent",
    rule: Annotated[
        str, typer.Option(help="max-variance | target-variance | lcmd | farthest | top-k | random.")
    ] = "max-variance",
    target: Annotated[
        Path | None, typer.Option(help="Unlabelled structures that target-variance aims at, e.g. a NEB path.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Features of the pool that `surveyor embed` wrote.")
    ] = None,
    dim: Annotated[int, typer.Option(help="Sketch size of tangent features.")] = 512,
    noise: Annotated[
        float, typer.Option(help="λ of the posterior, as a share of the mean squared norm.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option(help="Of sketch and random draws.")] = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, …; a GPU is taken where there is one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the picks here (.extxyz), best first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: indices, ids, std, nearest.")] = False,
) -> None:
    """Pick the structures of a pool whose labels will teach the potential most.

    Example: surveyor select pool.extxyz --model builtin -n 20 -o picks.extxyz
    """
    with guarded():
        from surveyor.picking import select as pick
        from surveyor.structures import write_structures
        from surveyor.structures.writing import check_output

        if output is not None:
            check_output(output)
        if rule == "target-variance" and target is None:
            typer.echo("no --target: aiming at a seeded sample of the pool", err=True)
        picked = pick(
            pool, train, model, n,
            features=features, rule=rule, target=target, store=store,
            dim=dim, noise=noise, seed=seed, device=device,
            progress=make_progress(),
        )  # fmt: skip
        if output is not None:
            write_structures(output, picked.structures)
        if as_json:
            typer.echo(json.dumps(_as_json(picked, output)))
        else:
            _print(picked, output)


def _as_json(picked, output: Path | None) -> dict[str, object]:  # type: ignore[no-untyped-def]
    picks = picked.batch.picks
    return {
        "indices": picked.indices,
        "ids": [pick.id for pick in picks],
        "std": [pick.std for pick in picks],
        "nearest": [pick.nearest for pick in picks],
        "similarity": [pick.similarity for pick in picks],
        "stopped": picked.batch.stopped.value,
        "pool": picked.batch.n_pool,
        "duplicates": picked.batch.n_duplicates,
        "already_labelled": picked.batch.n_labelled_in_pool,
        "output": None if output is None else str(output),
    }


def _print(picked, output: Path | None) -> None:  # type: ignore[no-untyped-def]
    batch = picked.batch
    table = Table(title=f"{len(picked)} of {batch.n_pool} structures")
    for column in ("rank", "frame", "formula", "std", "nearest labelled"):
        table.add_column(column, justify="right" if column in ("rank", "frame", "std") else "left")
    for pick, atoms in list(zip(batch.picks, picked.structures, strict=True))[:SHOWN]:
        nearest = "–" if pick.nearest is None else f"{pick.nearest[:8]} ({pick.similarity:.3f})"
        table.add_row(
            str(pick.rank), str(pick.index), atoms.get_chemical_formula(), f"{pick.std:.3f}", nearest
        )
    console = Console()
    console.print(table)
    if len(picked) > SHOWN:
        console.print(f"… and {len(picked) - SHOWN} more")
    if batch.n_duplicates or batch.n_labelled_in_pool:
        console.print(f"left out: {batch.n_duplicates} repeated, {batch.n_labelled_in_pool} already labelled")
    console.print(
        "std: residual standard deviation as a share of the pool's root mean square; not an error in eV"
    )
    console.print(
        f"written to {output}" if output else "nothing written; add -o picks.extxyz to keep the picks"
    )
