"""The contract of a potential, for the authors of a family: `check_potential` in a test of yours.

from surveyor.testing import check_potential

def test_contract():
    check_potential(open_potential("myfamily:small"), [ase.build.molecule("H2O"), ...])
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import ArrayLike

from surveyor.errors import PotentialError, SurveyorError
from surveyor.features import Activations, ForceTangent, Tangent
from surveyor.features.probes import directions
from surveyor.potentials.base import Atomic, Differentiable, Layered, Shiftable
from surveyor.potentials.gradients import gradients_of
from surveyor.potentials.loop import energy_gradients, force_gradients
from surveyor.potentials.opening import open_alike, suffix_of
from surveyor.potentials.parameters import parameter_names
from surveyor.types import Labels, Potential

STEPS = {True: 1e-3, False: 1e-2}
"""Å, of finite differences of fourth order: in double precision, and in single, whose rounding is larger."""


def check_potential(potential: Potential, structures: Sequence[Atoms]) -> tuple[str, ...]:
    """Check what Surveyor relies on; what a family leaves out is not asked for.

    Args:
        potential: as `open_potential` gave it; in float64 where the family can, which tells more.
        structures: two or more of several sizes, of elements that the potential knows.

    Returns:
        Names of what was checked.

    Raises:
        PotentialError: the first promise that is not kept.
    """
    if not isinstance(potential, Potential):
        missing = [name for name in dir(Potential) if name[0] != "_" and not hasattr(potential, name)]
        raise PotentialError(
            f"a {type(potential).__name__} without {', '.join(missing)}", expected="a Potential"
        )
    if len(structures) < 2:
        raise PotentialError(f"{len(structures)} structures", expected="two or more, of several sizes")
    checks: dict[type[Any], list[Callable[[Any, list[Atoms]], None]]] = {
        Potential: [elements, predictions, slopes, symmetries, inputs, files],
        Differentiable: [energies_of_batches, tangents],
        Atomic: [sums_of_atoms],
        Layered: [layers],
        Shiftable: [shifts],
    }
    done = []
    for capability, each in checks.items():
        for check in each if isinstance(potential, capability) else ():
            check(potential, [atoms.copy() for atoms in structures])
            done.append(check.__name__)
    return tuple(done)


def elements(potential: Potential, structures: Sequence[Atoms]) -> None:
    """Elements are atomic numbers in ascending order; structures of others are refused."""
    known = list(potential.elements)
    if known != sorted({int(z) for z in known}):
        raise PotentialError(f"elements {known}", expected="atomic numbers, ascending")
    other = structures[0].copy()
    other.numbers[-1] = next(z for z in range(1, 119) if z not in known)
    try:
        potential.predict([*structures, other])
    except SurveyorError:
        return
    raise PotentialError(
        "a structure with an unknown element is predicted",
        expected="StructureError",
        todo="call surveyor.structures.check_elements, or take batches from surveyor.potentials.batches",
    )


def predictions(potential: Potential, structures: Sequence[Atoms]) -> None:
    """Batched predictions are those of single structures, and of the family's own calculator."""
    together = potential.predict(structures)
    if potential.predict([]) != []:
        raise PotentialError("predict([]) is not empty", expected="[]")
    for number, (atoms, labels) in enumerate(zip(structures, together, strict=True)):
        whole = labels.forces.shape == (len(atoms), 3) and np.isfinite([labels.energy, *labels.forces.flat])
        if not np.all(whole):
            raise PotentialError(
                f"predict, structure {number}: energy {labels.energy}, forces {labels.forces.shape}",
                expected=f"finite numbers, forces ({len(atoms)}, 3)",
            )
        _same(f"structure {number} in a batch and alone", labels, potential.predict([atoms])[0], potential)
        trial = atoms.copy()
        trial.calc = potential.calculator()
        own = Labels(float(trial.get_potential_energy()), np.asarray(trial.get_forces(), dtype=np.float64))
        _same(f"structure {number} by predict and by the calculator", labels, own, potential)
    _same("the last structure first", potential.predict(structures[::-1])[0], together[-1], potential)


def slopes(potential: Potential, structures: Sequence[Atoms]) -> None:
    """Forces are the negative slopes of energies, by finite differences along random directions."""
    step = STEPS[_precision(potential) < 1e-10]
    for number, (atoms, labels) in enumerate(zip(structures, potential.predict(structures), strict=True)):
        for v in directions(len(atoms), 2, number):
            moved = []
            for steps in (1, -1, 2, -2):
                trial = atoms.copy()
                trial.positions += steps * step * v
                moved.append(trial)
            plus, minus, plus2, minus2 = (label.energy for label in potential.predict(moved))
            slope = (8 * (plus - minus) - (plus2 - minus2)) / (12 * step)
            rounding = 4 * _precision(potential) * max(1.0, abs(labels.energy)) / step
            _close(
                f"structure {number}: force along a direction and slope of the energy",
                (labels.forces * v).sum(), -slope,
                rounding + 1e-3 * max(1.0, float(np.abs(labels.forces).max())),
            )  # fmt: skip


def symmetries(potential: Potential, structures: Sequence[Atoms]) -> None:
    """Energies do not change, and forces turn along, when a structure is moved, turned or renumbered."""
    rng = np.random.default_rng(3)
    for number, (atoms, labels) in enumerate(zip(structures, potential.predict(structures), strict=True)):
        order = rng.permutation(len(atoms))
        rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        rotation *= np.sign(np.linalg.det(rotation))
        moved = atoms[order]
        moved.info = dict(atoms.info)
        moved.set_cell(atoms.cell.array @ rotation, scale_atoms=False)
        moved.positions = moved.positions @ rotation + rng.uniform(-3, 3, 3)
        wanted = Labels(labels.energy, labels.forces[order] @ rotation)
        _same(f"structure {number} turned", potential.predict([moved])[0], wanted, potential)


def inputs(potential: Potential, structures: Sequence[Atoms]) -> None:
    """Structures are left as they were."""
    before = [atoms.copy() for atoms in structures]
    potential.predict(structures)
    if isinstance(potential, Differentiable):
        potential.energies(potential.batch(structures))
    for number, (atoms, old) in enumerate(zip(structures, before, strict=True)):
        if atoms != old or atoms.info.keys() != old.info.keys() or atoms.arrays.keys() != old.arrays.keys():
            raise PotentialError(f"structure {number} was changed", expected="structures are only read")
        if atoms.calc is not None:
            raise PotentialError(f"structure {number} was given a calculator", expected="none")


def files(potential: Potential, structures: Sequence[Atoms]) -> None:
    """What is saved is opened by the family again, as the same potential."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"saved{suffix_of(potential)}"
        potential.save(path)
        again = open_alike(potential, path, _device(potential))
        if again.fingerprint != potential.fingerprint:
            raise PotentialError(
                f"fingerprint {again.fingerprint[:12]} after opening",
                expected=f"{potential.fingerprint[:12]}, as before it was saved",
            )
        if tuple(again.elements) != tuple(potential.elements):
            raise PotentialError(f"elements {again.elements} after opening", expected=f"{potential.elements}")
        for one, two in zip(potential.predict(structures), again.predict(structures), strict=True):
            _same("a structure after opening", two, one, potential)


def energies_of_batches(potential: Differentiable, structures: Sequence[Atoms]) -> None:
    """A batch has the predicted energies, slopes along its positions, and the structure of each atom."""
    batch = potential.batch(structures)
    n_atoms = [len(atoms) for atoms in structures]
    if batch.count != len(structures) or batch.positions.shape != (sum(n_atoms), 3):
        raise PotentialError(
            f"a batch of {batch.count} structures, positions {tuple(batch.positions.shape)}",
            expected=f"{len(structures)} structures, positions ({sum(n_atoms)}, 3)",
        )
    nodes = batch.owners.get("nodes", torch.zeros(0)).cpu().numpy()
    if not np.array_equal(nodes, np.repeat(np.arange(len(structures)), n_atoms)):
        raise PotentialError("owners['nodes'] is not the structure of each atom", expected="0, 0, …, 1, 1, …")
    numbers = np.concatenate([atoms.numbers for atoms in structures])
    if not np.array_equal(np.asarray(potential.elements)[batch.elements.cpu().numpy()], numbers):
        raise PotentialError("elements of a batch", expected="indices into the potential's elements")
    energies = potential.energies(batch)
    positions = batch.positions.requires_grad_(True)
    slope = gradients_of(potential.energies(batch).sum(), [positions])[0]
    found = torch.zeros_like(positions) if slope is None else slope
    wanted = potential.predict(structures)
    split = np.split(-found.detach().cpu().double().numpy(), np.cumsum(n_atoms)[:-1])
    for energy, force, labels in zip(energies.detach().cpu().double().tolist(), split, wanted, strict=True):
        _same("a structure by energies(batch) and by predict", Labels(energy, force), labels, potential)


def tangents(potential: Differentiable, structures: Sequence[Atoms]) -> None:
    """Gradients of a batch, by the plan, are those of a plain loop; for energies and for forces."""
    names = parameter_names(potential.model)
    tolerance = 1e-2 if _precision(potential) > 1e-10 else 1e-7
    wanted = torch.stack(list(energy_gradients(potential, structures, names))).cpu().double().numpy()
    found = Tangent(potential, dim=None)(structures).values
    _close("tangent features and a loop", found, wanted, tolerance * float(np.abs(wanted).max()))
    forces = ForceTangent(potential, probes=2, dim=None, seed=1)(structures).values
    loop = np.concatenate(
        [
            force_gradients(potential, atoms, directions(len(atoms), 2, 1), names).cpu().double().numpy()
            for atoms in structures
        ]
    )
    _close("force tangents and a loop", forces, loop, tolerance * float(np.abs(loop).max()))


def sums_of_atoms(potential: Atomic, structures: Sequence[Atoms]) -> None:
    """Energies of atoms, where there are any, add up to those of structures."""
    batch = potential.batch(structures)
    atoms = potential.atom_energies(batch)
    if atoms is not None:
        total = atoms.new_zeros(batch.count).index_add(0, batch.owners["nodes"], atoms.detach())
        energies = potential.energies(batch).detach().cpu().double().numpy()
        scale = _tolerance(potential) * max(1.0, float(np.abs(energies).max()))
        _close("sums of atom_energies and energies", total.cpu().double().numpy(), energies, scale)


def layers(potential: Layered, structures: Sequence[Atoms]) -> None:
    """Hidden features have the announced width, do not turn, and do not depend on the batch."""
    feature_map = Activations(potential, pool="sum")
    nodes = list(feature_map.of_atoms(structures))
    width = sum(layer.width for layer in potential.layers())
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
    for number, (atoms, own) in enumerate(zip(structures, nodes, strict=True)):
        if own.shape != (len(atoms), width):
            raise PotentialError(
                f"layers, structure {number}: {own.shape}", expected=f"({len(atoms)}, {width})"
            )
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ rotation, scale_atoms=False)
        turned.positions = atoms.positions @ rotation
        scale = _tolerance(potential) * max(1.0, float(np.abs(own).max()))
        _close(
            f"hidden features of structure {number} turned", next(feature_map.of_atoms([turned])), own, scale
        )


def shifts(potential: Shiftable, structures: Sequence[Atoms]) -> None:
    """Shifted reference energies move energies by so much, and neither forces nor the potential itself."""
    before = potential.predict(structures)
    wanted = {z: 0.25 * (number + 1) for number, z in enumerate(potential.elements)}
    shifted = potential.with_reference_shifts(wanted).predict(structures)
    after = potential.predict(structures)
    for atoms, old, new, same in zip(structures, before, shifted, after, strict=True):
        moved = Labels(old.energy + sum(wanted[int(z)] for z in atoms.numbers), old.forces)
        _same("a structure with shifted references", new, moved, potential)
        _same("a structure after another copy was shifted", same, old, potential)


def _device(potential: Potential) -> str | None:
    return str(potential.device) if isinstance(potential, Differentiable) else None


def _precision(potential: Potential) -> float:
    """Relative precision of the numbers that the potential works in; float32 where it is not known."""
    if isinstance(potential, Differentiable):
        return max(torch.finfo(p.dtype).eps for p in potential.model.parameters() if p.is_floating_point())
    return float(np.finfo(np.float32).eps)


def _tolerance(potential: Potential) -> float:
    return 1e-4 if _precision(potential) > 1e-10 else 1e-8


def _same(what: str, found: Labels, wanted: Labels, potential: Potential) -> None:
    tolerance = _tolerance(potential)
    _close(f"{what}: energy", found.energy, wanted.energy, tolerance * max(1.0, abs(wanted.energy)))
    scale = max(1.0, float(np.abs(wanted.forces).max(initial=0.0)))
    _close(f"{what}: forces", found.forces, wanted.forces, tolerance * scale)


def _close(what: str, found: ArrayLike, wanted: ArrayLike, tolerance: float) -> None:
    off = float(np.abs(np.asarray(found) - np.asarray(wanted)).max(initial=0.0))
    if not off <= tolerance:
        raise PotentialError(f"{what}: {off:.3g} apart", expected=f"equal within {tolerance:.3g}")
