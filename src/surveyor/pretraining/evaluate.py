"""Errors of a MACE model on labelled frames: in total, by element, by size, by the way a frame was made."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from surveyor.errors import PotentialError
from surveyor.types import Float64Array, Labels


def open_model(path: Path) -> Any:
    """The torch module of a `.model` file, on the CPU, not to be trained.

    Raises:
        PotentialError: the file is missing or holds something else.
    """
    import torch

    if not path.is_file():
        raise PotentialError(f"no model file {path}")
    with warnings.catch_warnings():
        # e3nn's own use of torch; nothing that a user could mend.
        warnings.simplefilter("ignore")
        model = torch.load(path, map_location="cpu", weights_only=False)
    if not hasattr(model, "atomic_numbers"):
        raise PotentialError(f"{path} holds {type(model).__name__}", expected="a MACE model")
    return model.eval().requires_grad_(False)


def predict(model: Any, frames: Sequence[Atoms], *, batch_size: int = 64) -> list[Labels]:
    """Energies (eV) and forces (eV/Å) of a MACE module, in order."""
    from mace import data, tools
    from mace.tools import torch_geometric

    dtype = next(model.parameters()).dtype
    table = tools.AtomicNumberTable([int(z) for z in model.atomic_numbers])
    keys = data.KeySpecification()
    cutoff = float(model.r_max)
    labels: list[Labels] = []
    for start in range(0, len(frames), batch_size):
        part = frames[start : start + batch_size]
        with _default_dtype(dtype):
            graphs = [
                data.AtomicData.from_config(
                    data.config_from_atoms(_bare(atoms), key_specification=keys), z_table=table, cutoff=cutoff
                )
                for atoms in part
            ]
            batch = torch_geometric.Batch.from_data_list(graphs)
            out = model(batch.to_dict(), training=False, compute_force=True)
        energies = out["energy"].detach().double().numpy()
        forces = np.split(out["forces"].detach().double().numpy(), np.cumsum([len(a) for a in part])[:-1])
        labels += [Labels(float(e), np.array(f)) for e, f in zip(energies, forces, strict=True)]
    return labels


class _default_dtype:  # noqa: N801 - reads as a statement
    """mace builds its graphs in torch's default dtype; set it for a while only."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_default_dtype(self.before)


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, positions=atoms.positions)


def errors(
    frames: Sequence[Atoms], predicted: Sequence[Labels], group: Callable[[Atoms], str]
) -> dict[str, Any]:
    """Errors in total and by group, element and size.

    | value                     | unit      |
    |---------------------------|-----------|
    | energy_mae, energy_rmse   | meV/atom  |
    | forces_mae, forces_rmse   | meV/Å, over components |
    """
    rows: dict[str, dict[str, list[int]]] = {"group": defaultdict(list), "size": defaultdict(list)}
    by_element: dict[str, list[Float64Array]] = defaultdict(list)
    energy = np.zeros(len(frames))
    forces = []
    for i, (atoms, labels) in enumerate(zip(frames, predicted, strict=True)):
        energy[i] = (labels.energy - atoms.info["REF_energy"]) / len(atoms)
        difference = labels.forces - atoms.arrays["REF_forces"]
        forces.append(difference)
        rows["group"][group(atoms)].append(i)
        rows["size"][_size(atoms)].append(i)
        for number in np.unique(atoms.numbers):
            by_element[chemical_symbols[number]].append(difference[atoms.numbers == number])

    def summary(index: Sequence[int]) -> dict[str, float | int]:
        de = energy[list(index)] * 1000
        df = np.concatenate([forces[i] for i in index]) * 1000
        return {
            "frames": len(index),
            "energy_mae": _digits(np.abs(de).mean()),
            "energy_rmse": _digits(np.sqrt((de**2).mean())),
            "forces_mae": _digits(np.abs(df).mean()),
            "forces_rmse": _digits(np.sqrt((df**2).mean())),
        }

    return {
        "total": summary(range(len(frames))),
        "by_config_type": {name: summary(index) for name, index in sorted(rows["group"].items())},
        "by_heavy_atoms": {name: summary(index) for name, index in sorted(rows["size"].items())},
        "forces_mae_by_element": {
            symbol: _digits(np.abs(np.concatenate(parts)).mean() * 1000)
            for symbol, parts in sorted(by_element.items())
        },
    }


def _size(atoms: Atoms) -> str:
    heavy = int((atoms.numbers > 1).sum())
    return next(f"{low:02d}-{low + 2:02d}" for low in range(0, 999, 3) if heavy <= low + 2)


def _digits(value: float) -> float:
    return round(float(value), 3)
