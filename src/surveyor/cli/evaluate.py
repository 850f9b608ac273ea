"""`surveyor evaluate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from surveyor.cli.console import plain_console
from surveyor.cli.guard import guarded
from surveyor.cli.options import Device, Head, Model, Overwrite, Python
from surveyor.cli.progress import make_progress

if TYPE_CHECKING:
    from surveyor.evaluation import Evaluation, Summary

UNITS = {"energy": "meV/atom", "force": "meV/Å", "stress": "meV/Å³", "offsets": "eV"}


def evaluate(
    frames: Annotated[list[Path], typer.Argument(help="Labelled structures: any files that ASE reads.")],
    model: Model = "builtin",
    head: Head = None,
    offsets: Annotated[
        bool,
        typer.Option(
            "--offsets",
            help="Take one constant an element, fitted to the frames, off the energy errors: labels and "
            "potential are of two levels of theory.",
        ),
    ] = False,
    worst: Annotated[int, typer.Option(help="How many of the worst frames to name.", min=0)] = 5,
    plot: Annotated[
        Path | None, typer.Option(help="Draw predictions against labels here (.svg or .png).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the frames with their predictions (.extxyz).")
    ] = None,
    overwrite: Overwrite = False,
    device: Device = None,
    python: Python = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: total, by_config_type, by_reaction, worst.")
    ] = False,
) -> None:
    """Measure a potential's errors on labelled structures: in all, by kind of frame, and the worst frames.

    Example: surveyor evaluate test.extxyz --model my.model --plot parity.svg
    """
    with guarded():
        from surveyor.evaluation import evaluate as measure
        from surveyor.pictures import check_picture, parity
        from surveyor.structures.writing import check_output, write_structures

        if output is not None:
            check_output(output, overwrite=overwrite, inputs=frames)
        if plot is not None:
            check_picture(plot, overwrite=overwrite)
        found = measure(
            frames, model, offsets=offsets, head=head, device=device, python=python,
            progress=make_progress(),
        )  # fmt: skip
        if output is not None:
            write_structures(output, found.structures)
        if plot is not None:
            parity(found.parity(), plot)
        if as_json:
            typer.echo(json.dumps(_as_json(found, worst, output, plot), allow_nan=False))
        else:
            _print(found, worst)
            for path in filter(None, (output, plot)):
                typer.echo(f"written to {path}")


def _as_json(found: Evaluation, n: int, output: Path | None, plot: Path | None) -> dict[str, Any]:
    from surveyor.evaluation import GROUPED_BY

    groups = {
        f"by_{key}": {name: asdict(own) for name, own in found.groups.get(key, {}).items()}
        for key in GROUPED_BY
    }
    return {
        "units": UNITS,
        "total": asdict(found.total),
        **groups,
        "worst": {of: list(_worst(found, n, of)) for of in ("energy", "force")},
        "offsets": found.offsets,
        "output": None if output is None else str(output),
        "plot": None if plot is None else str(plot),
    }


def _worst(found: Evaluation, n: int, of: Any) -> Iterator[dict[str, Any]]:
    for index in found.worst(n, of):
        path, number = found.places[index]
        yield {
            "file": path,
            "frame": number,
            "formula": found.structures[index].get_chemical_formula(),
            "energy": float(found.each.energy_each[index]),
            "force": float(found.each.force_each[index]),
        }


def _print(found: Evaluation, n: int) -> None:
    """Two tables: errors in all and by group, and the worst frames."""
    console = plain_console()
    stress = bool(found.total.stress_frames)
    table = Table(title=f"errors on {len(found)} frames")
    table.add_column("frames of")
    headings = ["n", "energy MAE\nmeV/atom", "RMSE\n", "force MAE\nmeV/Å", "RMSE\n"]
    for heading in headings + stress * ["stress MAE\nmeV/Å³", "RMSE\n"]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("all", *_cells(found.total, stress))
    for key, own in found.groups.items():
        table.add_section()
        for name, summary in own.items():
            table.add_row(_kind(key, name), *_cells(summary, stress))
    console.print(table)
    if 0 < found.total.stress_frames < len(found):
        console.print(f"stress: of {found.total.stress_frames} frames, where it is labelled and predicted")
    if found.offsets:
        taken = ", ".join(f"{symbol} {offset:.3f}" for symbol, offset in found.offsets.items())
        console.print(f"taken off the energy errors, in eV an atom: {taken}", soft_wrap=True)
    if not n:
        return
    table = Table(title="worst frames")
    for heading in ("largest", "file", "frame", "formula", "energy\nmeV/atom", "force\nmeV/Å"):
        table.add_column(heading, justify="left" if heading in ("largest", "file", "formula") else "right")
    for of in ("force", "energy"):
        table.add_section()
        for row in _worst(found, n, of):
            place = "–" if row["file"] is None else Path(row["file"]).name
            table.add_row(
                of, place, str(row["frame"]), row["formula"], f"{row['energy']:.1f}", f"{row['force']:.1f}"
            )
    console.print(table)


def _kind(key: str, name: str) -> str:
    from surveyor.labelling.names import shown

    return f"{key} {shown(name)}"


def _cells(own: Summary, stress: bool) -> list[str]:
    values = [own.energy_mae, own.energy_rmse, own.force_mae, own.force_rmse]
    cells = [str(own.frames), *(f"{value:.1f}" for value in values)]
    if stress:
        cells += ["–" if value is None else f"{value:.2f}" for value in (own.stress_mae, own.stress_rmse)]
    return cells
