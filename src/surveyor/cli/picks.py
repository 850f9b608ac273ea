"""Picks and forecasts as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from surveyor.cli.console import plain_console

if TYPE_CHECKING:
    from surveyor.acquisition import Batch
    from surveyor.calibration import Calibrations
    from surveyor.picked import Picked
    from surveyor.types import Float64Array

SHOWN = 10


def picks_json(picked: Picked, output: Path | None, min_gain: float) -> dict[str, object]:
    """What `--json` prints."""
    picks = picked.batch.picks
    return {
        "indices": picked.indices,
        "ids": [pick.id for pick in picks],
        "std": [pick.std for pick in picks],
        "nearest": [pick.nearest for pick in picks],
        "similarity": [pick.similarity for pick in picks],
        "removes": [pick.removes for pick in picks],
        "scores": None if picked.batch.scores is None else picked.batch.scores.tolist(),
        "costs": _column(picked, "surveyor_cost"),
        "disagreement": _column(picked, "surveyor_disagreement"),
        "certain": picked.batch.certain,
        "errors": _errors_json(picked.batch),
        "stopped": picked.batch.stopped.value,
        "pool": picked.batch.n_pool,
        "duplicates": picked.batch.n_duplicates,
        "already_labelled": picked.batch.n_labelled_in_pool,
        "output": None if output is None else str(output),
        "forecast": _forecast_json(picked.batch, min_gain),
    }


def _column(picked: Picked, key: str) -> list[float] | None:
    """A number of every pick, where the picks carry it."""
    found = [atoms.info[key] for atoms in picked.structures if key in atoms.info]
    return found or None


def _errors_json(batch: Batch) -> dict[str, object] | None:
    expected, calibrations = batch.errors, batch.calibrations
    if expected is None or calibrations is None:
        return None
    return {
        "energy_meV_per_atom": expected.energy.tolist(),
        "energy_half_width": _finite(expected.energy_half_width),
        "forces_meV_per_angstrom": expected.forces.tolist(),
        "forces_half_width": _finite(expected.forces_half_width),
        "coverage": _coverage_json(calibrations),
    }


def _finite(values: Float64Array) -> list[float | None]:
    """inf is not JSON; None says that there are too few structures for an interval."""
    return [float(value) if value < float("inf") else None for value in values]


def _coverage_json(calibrations: Calibrations) -> dict[str, object]:
    return {
        "level": calibrations.energy.level,
        "energy": calibrations.energy.coverage,
        "forces": calibrations.forces.coverage,
        "structures": calibrations.energy.n_structures,
    }


def _forecast_json(batch: Batch, min_gain: float) -> dict[str, object] | None:
    outlook, calibrations = batch.forecast, batch.calibrations
    if outlook is None:
        return None
    return {
        "labels": outlook.labels.tolist(),
        "std": outlook.share.tolist(),
        "gain": [None, *outlook.gain[1:].tolist()],
        "energy_meV_per_atom": None if outlook.energy is None else outlook.energy.tolist(),
        "forces_meV_per_angstrom": None if outlook.forces is None else outlook.forces.tolist(),
        "coverage": None if calibrations is None else _coverage_json(calibrations),
        "min_gain": min_gain,
        "enough": outlook.enough(min_gain),
        "pool_sample": outlook.n_pool,
    }


def print_picks(picked: Picked, output: Path | None, committee_on: str | None, shortlist: int | None) -> None:
    """The picks as a table, and what its columns mean."""
    from surveyor.disagreement import UNITS

    batch = picked.batch
    columns = {
        "rank": [str(pick.rank) for pick in batch.picks],
        "frame": [str(pick.index) for pick in batch.picks],
        "formula": [atoms.get_chemical_formula() for atoms in picked.structures],
        "std": [f"{pick.std:.3f}" for pick in batch.picks],
        "removes / %": [f"{100 * pick.removes:.2f}" for pick in batch.picks],
    }
    if batch.errors is not None:
        columns["energy / meV/atom"] = [f"{value:.1f}" for value in batch.errors.energy]
        columns["forces / meV/Å"] = [f"{value:.0f}" for value in batch.errors.forces]
    if (disputed := _column(picked, "surveyor_disagreement")) is not None and committee_on is not None:
        columns[f"disagreement / {UNITS[committee_on]}"] = [f"{value:.3g}" for value in disputed]
    if (costs := _column(picked, "surveyor_cost")) is not None:
        columns["cost"] = [f"{value:.4g}" for value in costs]
    columns["nearest labelled"] = [
        "–" if pick.nearest is None else f"{pick.nearest[:8]} ({pick.similarity:.3f})" for pick in batch.picks
    ]
    console = plain_console()
    shown = {column: cells[:SHOWN] for column, cells in columns.items()}
    console.print(_table(f"{len(picked)} of {batch.n_pool} structures", shown))
    if len(picked) > SHOWN:
        console.print(f"… and {len(picked) - SHOWN} more")
    if batch.n_duplicates or batch.n_labelled_in_pool:
        known = f"{batch.n_labelled_in_pool} labelled already or near copies"
        console.print(f"left out: {batch.n_duplicates} repeated, {known}")
    if costs is not None:
        console.print(f"cost of all picks: {sum(costs):.6g}; stopped: {batch.stopped.value}")
    if shortlist is not None:
        console.print(
            f"shortlist of {shortlist}: this rule may pick otherwise from the whole pool"
            if batch.certain is None
            else f"shortlist of {shortlist}: the first {batch.certain} picks are those of the whole pool"
        )
    console.print(
        "std: residual standard deviation as a share of the pool's root mean square"
        + ("; uncalibrated: not an error in eV" if batch.calibrations is None else "")
    )
    if batch.calibrations is not None:
        console.print(
            "errors expected, if this potential was not trained on these labels: energy of the linearised "
            "learner, forces of this potential as it is; " + _coverage(batch.calibrations)
        )
    console.print("removes: share of the pool's residual variance, of what the picks before it leave")
    console.print(
        f"written to {output}" if output else "nothing written; add -o picks.extxyz to keep the picks"
    )


def _table(title: str, columns: Mapping[str, Sequence[str]]) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in ("formula", "nearest labelled") else "right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _coverage(calibrations: Calibrations) -> str:
    energy, forces = calibrations.energy, calibrations.forces
    return (
        f"share of {energy.n_structures} held-out labels inside {energy.level:.0%} intervals: "
        f"energy {energy.coverage:.0%}, forces {forces.coverage:.0%}"
    )


def print_forecast(batch: Batch, min_gain: float) -> None:
    """The forecast as a table, and how many labels are enough."""
    outlook, calibrations = batch.forecast, batch.calibrations
    if outlook is None:
        return
    columns = {
        "labels": [str(number) for number in outlook.labels],
        "std / start": [f"{share:.3f}" for share in outlook.share],
        "gain per label / %": ["–", *(f"{gain:.3f}" for gain in outlook.gain[1:])],
    }
    for name, values in (("energy / meV/atom", outlook.energy), ("forces / meV/Å", outlook.forces)):
        if values is not None:
            columns[name] = [f"{value:.1f}" for value in values]
    console = plain_console()
    console.print(_table(f"Forecast over {outlook.n_pool} pool structures", columns))
    if calibrations is None:
        from surveyor.calibration import MIN_STRUCTURES

        console.print(
            f"uncalibrated: errors need --train with {MIN_STRUCTURES} or more structures that have labels"
        )
    else:
        console.print(
            "errors: energy of the linearised learner, forces of this potential on structures of such std; "
            + _coverage(calibrations)
        )
    enough = outlook.enough(min_gain)
    last = int(outlook.labels[-1])
    console.print(
        f"the gain per label stays above {min_gain:g} % of the start up to {last} labels"
        if enough is None
        else f"the gain per label falls below {min_gain:g} % of the start after {enough} labels"
    )
