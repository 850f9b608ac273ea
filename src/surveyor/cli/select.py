"""`surveyor select`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from surveyor.cli.guard import guarded
from surveyor.cli.options import Device, FeatureKind, Model, SketchSize
from surveyor.cli.progress import make_progress

if TYPE_CHECKING:
    from surveyor.acquisition import Batch
    from surveyor.picking import Picked

SHOWN = 10


def select(
    pool: Annotated[
        Path, typer.Argument(help="Unlabelled structures: any file that ASE reads, also .gz .xz .bz2.")
    ],
    model: Model = "builtin",
    train: Annotated[
        Path | None, typer.Option("--train", "-t", help="Structures that are labelled already.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many to pick.")] = 20,
    features: FeatureKind = "tangent",
    rule: Annotated[
        str, typer.Option(help="max-variance | target-variance | lcmd | farthest | top-k | random.")
    ] = "max-variance",
    target: Annotated[
        Path | None, typer.Option(help="Unlabelled structures that target-variance aims at, e.g. a NEB path.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Features of the pool that `surveyor embed` wrote.")
    ] = None,
    dim: SketchSize = 512,
    noise: Annotated[
        float, typer.Option(help="λ of the posterior, as a share of the mean squared norm.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option(help="Of sketch and random draws.")] = 0,
    device: Device = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the picks here (.extxyz), best first.")
    ] = None,
    forecast: Annotated[
        int, typer.Option(help="Look this many labels ahead: what each is worth, and where to stop.")
    ] = 0,
    min_gain: Annotated[
        float, typer.Option(help="Least gain a label, per cent of the start, for --forecast.")
    ] = 0.1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: indices, ids, std, nearest, removes, forecast.")
    ] = False,
) -> None:
    """Pick the structures of a pool whose labels will teach the potential most.

    Example: surveyor select pool.extxyz --model builtin -n 20 -o picks.extxyz
    """
    with guarded():
        from surveyor.errors import SelectionError
        from surveyor.picking import select as pick
        from surveyor.structures import write_structures
        from surveyor.structures.writing import check_output

        if output is not None:
            check_output(output)
        if forecast < 0 or not min_gain > 0:
            raise SelectionError(
                f"--forecast {forecast} --min-gain {min_gain}",
                expected="a forecast of 0 labels or more, and a gain above 0 per cent a label",
            )
        if rule == "target-variance" and target is None:
            typer.echo("no --target: aiming at a seeded sample of the pool", err=True)
        picked = pick(
            pool, train, model, n,
            features=features, rule=rule, target=target, store=store,
            dim=dim, noise=noise, seed=seed, device=device, forecast=forecast,
            progress=make_progress(),
        )  # fmt: skip
        if output is not None:
            write_structures(output, picked.structures)
        if as_json:
            typer.echo(json.dumps(_as_json(picked, output, min_gain)))
        else:
            _print(picked, output)
            if picked.batch.forecast is not None:
                _print_forecast(picked.batch, min_gain)


def _as_json(picked: Picked, output: Path | None, min_gain: float) -> dict[str, object]:
    picks = picked.batch.picks
    return {
        "indices": picked.indices,
        "ids": [pick.id for pick in picks],
        "std": [pick.std for pick in picks],
        "nearest": [pick.nearest for pick in picks],
        "similarity": [pick.similarity for pick in picks],
        "removes": [pick.removes for pick in picks],
        "stopped": picked.batch.stopped.value,
        "pool": picked.batch.n_pool,
        "duplicates": picked.batch.n_duplicates,
        "already_labelled": picked.batch.n_labelled_in_pool,
        "output": None if output is None else str(output),
        "forecast": _forecast_json(picked.batch, min_gain),
    }


def _forecast_json(batch: Batch, min_gain: float) -> dict[str, object] | None:
    outlook, calibrations = batch.forecast, batch.calibrations
    if outlook is None:
        return None
    return {
        "labels": outlook.labels.tolist(),
        "std": outlook.std.tolist(),
        "gain": [None, *outlook.gain[1:].tolist()],
        "energy_meV_per_atom": None if outlook.energy is None else outlook.energy.tolist(),
        "forces_meV_per_angstrom": None if outlook.forces is None else outlook.forces.tolist(),
        "coverage": None
        if calibrations is None
        else {
            "level": calibrations.energy.level,
            "energy": calibrations.energy.coverage,
            "forces": calibrations.forces.coverage,
            "structures": calibrations.energy.n_structures,
        },
        "min_gain": min_gain,
        "enough": outlook.enough(min_gain),
        "pool_sample": outlook.n_pool,
    }


def _print(picked: Picked, output: Path | None) -> None:
    batch = picked.batch
    table = Table(title=f"{len(picked)} of {batch.n_pool} structures")
    for column in ("rank", "frame", "formula", "std", "removes / %", "nearest labelled"):
        table.add_column(column, justify="left" if column in ("formula", "nearest labelled") else "right")
    for pick, atoms in list(zip(batch.picks, picked.structures, strict=True))[:SHOWN]:
        nearest = "–" if pick.nearest is None else f"{pick.nearest[:8]} ({pick.similarity:.3f})"
        table.add_row(
            str(pick.rank), str(pick.index), atoms.get_chemical_formula(), f"{pick.std:.3f}",
            f"{100 * pick.removes:.2f}", nearest,
        )  # fmt: skip
    console = Console()
    console.print(table)
    if len(picked) > SHOWN:
        console.print(f"… and {len(picked) - SHOWN} more")
    if batch.n_duplicates or batch.n_labelled_in_pool:
        console.print(f"left out: {batch.n_duplicates} repeated, {batch.n_labelled_in_pool} already labelled")
    console.print(
        "std: residual standard deviation as a share of the pool's root mean square"
        + ("; uncalibrated: not an error in eV" if batch.calibrations is None else "")
    )
    console.print("removes: share of the pool's residual variance, of what the picks before it leave")
    console.print(
        f"written to {output}" if output else "nothing written; add -o picks.extxyz to keep the picks"
    )


def _print_forecast(batch: Batch, min_gain: float) -> None:
    outlook, calibrations = batch.forecast, batch.calibrations
    if outlook is None:
        return
    table = Table(title=f"Forecast over {outlook.n_pool} pool structures")
    columns = ["labels", "std / start", "gain per label / %"]
    cells = [
        [str(number) for number in outlook.labels],
        [f"{share:.3f}" for share in outlook.std],
        ["–", *(f"{gain:.3f}" for gain in outlook.gain[1:])],
    ]
    for name, values in (("energy / meV/atom", outlook.energy), ("forces / meV/Å", outlook.forces)):
        if values is not None:
            columns.append(name)
            cells.append([f"{value:.1f}" for value in values])
    for column in columns:
        table.add_column(column, justify="right")
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    console = Console()
    console.print(table)
    if calibrations is None:
        from surveyor.calibration import MIN_STRUCTURES

        console.print(
            f"uncalibrated: errors need --train with {MIN_STRUCTURES} or more structures that have labels"
        )
    else:
        console.print(
            "errors: energy of the linearised learner, forces of this potential as it is, on "
            f"{calibrations.energy.n_structures} labelled structures; share of held-out ones inside "
            f"{calibrations.energy.level:.0%} intervals: energy {calibrations.energy.coverage:.0%}, "
            f"forces {calibrations.forces.coverage:.0%}"
        )
    enough = outlook.enough(min_gain)
    last = int(outlook.labels[-1])
    console.print(
        f"the gain per label stays above {min_gain:g} % of the start up to {last} labels"
        if enough is None
        else f"the gain per label falls below {min_gain:g} % of the start after {enough} labels"
    )
