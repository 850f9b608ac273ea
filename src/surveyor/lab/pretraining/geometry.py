"""3-D geometries of molecules: conformers, thermal displacements, dimers, bond scans. All seeded."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii, vdw_radii
from scipy.spatial.transform import Rotation

from surveyor.lab.pretraining.molecules import require_rdkit
from surveyor.types import Float64Array, IndexArray


def embed(smiles: str, rng: np.random.Generator) -> Atoms | None:
    """One conformer by ETKDG and MMFF (UFF where MMFF has no parameters); None if no embedding is found.

    Lone atoms and diatomics are placed by covalent radii.
    """
    Chem = require_rdkit()
    AllChem: Any = importlib.import_module("rdkit.Chem.AllChem")
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    if len(numbers) <= 2:
        length = float(covalent_radii[numbers].sum())
        return Atoms(numbers, positions=[[0.0, 0.0, length * i] for i in range(len(numbers))])
    seed = int(rng.integers(1, 2**31 - 1))
    found = any(
        AllChem.EmbedMolecule(mol, randomSeed=seed, useRandomCoords=random, maxAttempts=20) == 0
        for random in (False, True)
    )
    if not found:
        return None
    if AllChem.MMFFHasAllMoleculeParams(mol):
        AllChem.MMFFOptimizeMolecule(mol, maxIters=300)
    elif AllChem.UFFHasAllMoleculeParams(mol):
        AllChem.UFFOptimizeMolecule(mol, maxIters=300)
    return Atoms(numbers, positions=np.asarray(mol.GetConformer().GetPositions(), dtype=float))


def model_hessian(atoms: Atoms) -> Float64Array:
    """Second derivatives of a spring between every pair of atoms, stiff at bonds and soft beyond.

    H = Σ_ij k(x_ij) (u_ij u_ijᵀ) ⊗ [[1, −1], [−1, 1]]
    k(x) = 35 exp(min(1.3 (1 − x²), 0.7)),   x = r_ij / (R_i + R_j)

    | variable | shape    | unit  | meaning                                                      |
    |----------|----------|-------|--------------------------------------------------------------|
    | H        | (3n, 3n) | eV/Å² | bonds near 35, angles (next neighbours) near 4, torsions soft |
    | R        | (n,)     | Å     | covalent radii                                               |

    It serves to draw displacements of sensible size along every mode, for any element and charge; force
    fields lack parameters for part of the molecules, and the labels do not depend on it.
    """
    n = len(atoms)
    radii = covalent_radii[atoms.numbers]
    vectors = atoms.positions[:, None, :] - atoms.positions[None, :, :]
    squares = (vectors**2).sum(axis=-1) + np.eye(n)
    springs = 35.0 * np.exp(np.minimum(1.3 * (1.0 - squares / (radii[:, None] + radii[None, :]) ** 2), 0.7))
    blocks = (springs / squares)[:, :, None, None] * vectors[..., :, None] * vectors[..., None, :]
    hessian = -blocks.transpose(0, 2, 1, 3)
    hessian[np.arange(n), :, np.arange(n), :] = blocks.sum(axis=1)
    return np.asarray(hessian.reshape(3 * n, 3 * n))


def displace(atoms: Atoms, temperature: float, rng: np.random.Generator, *, softest: float = 0.7) -> Atoms:
    """A draw from the classical distribution of the model Hessian, without rotation and translation.

    x = x₀ + Σ_m √(k_B T / max(λ_m, softest)) ξ_m v_m,   ξ_m ~ N(0, 1)

    `softest` (eV/Å²) bounds the amplitude along modes that the springs leave free.
    """
    values, vectors = np.linalg.eigh(model_hessian(atoms))
    free = 5 if len(atoms) == 2 else 6
    # eigh may return either sign; the draw must not depend on it.
    vectors = vectors * np.where(
        vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))] < 0, -1.0, 1.0
    )
    amplitudes = np.sqrt(units.kB * temperature / np.maximum(values[free:], softest))
    step = vectors[:, free:] @ (amplitudes * rng.normal(size=len(amplitudes)))
    return Atoms(atoms.numbers, positions=atoms.positions + step.reshape(-1, 3))


def thermal_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> Float64Array:
    """Maxwell–Boltzmann velocities: √(k_B T / m) ξ, ξ ~ N(0, 1), of shape (n, 3) in ASE's units."""
    masses = atoms.get_masses()[:, None]
    return np.asarray(rng.standard_normal((len(atoms), 3)) * np.sqrt(units.kB * temperature / masses))


def random_rotation(rng: np.random.Generator) -> Float64Array:
    """A rotation matrix, uniform over all orientations (from a random unit quaternion)."""
    w, x, y, z = rng.normal(size=4)
    return np.asarray(Rotation.from_quat([x, y, z, w]).as_matrix())


def place(first: Atoms, second: Atoms, closeness: float, gap: float, rng: np.random.Generator) -> Atoms:
    """Two molecules, each turned at random, approached along a random line until they touch.

    The distance is the smallest at which every pair satisfies r_ij ≥ closeness (W_i + W_j) + gap, where W are
    van-der-Waals radii (Å).
    """
    a = (first.positions - first.positions.mean(axis=0)) @ random_rotation(rng).T
    b = (second.positions - second.positions.mean(axis=0)) @ random_rotation(rng).T
    limit = closeness * (vdw_radii[first.numbers][:, None] + vdw_radii[second.numbers][None, :]) + gap
    # With the approach along z, pair (i, j) is at its limit at one shift s: (z_j − z_i + s)² + ρ² = limit².
    offset = b[None, :, :] - a[:, None, :]
    reach = limit**2 - (offset[..., :2] ** 2).sum(axis=-1)
    shifts = np.where(reach > 0, np.sqrt(np.maximum(reach, 0.0)) - offset[..., 2], -np.inf)
    shift = float(shifts.max())
    if not np.isfinite(shift):
        shift = float(limit.max())
    return Atoms(
        np.concatenate([first.numbers, second.numbers]),
        positions=np.concatenate([a, b + np.array([0.0, 0.0, shift])]),
    )


def bond_scans(smiles: str, atoms: Atoms, lengths: Float64Array) -> list[Atoms]:
    """For each kind of acyclic bond, the molecule with that bond at the given multiples of its length.

    One side of the bond moves rigidly; no bond goes below 0.5 Å.
    """
    Chem = require_rdkit()
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    frames, seen = [], set()
    for bond in mol.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        kind = frozenset((ranks[i], ranks[j]))
        if bond.IsInRing() or kind in seen:
            continue
        seen.add(kind)
        side = _side(mol, i, j)
        vector = atoms.positions[j] - atoms.positions[i]
        length = float(np.linalg.norm(vector))
        for factor in lengths:
            new = max(0.5, float(factor) * length)
            moved = atoms.copy()
            moved.positions[side] += vector * (new / length - 1.0)
            frames.append(Atoms(moved.numbers, positions=moved.positions))
    return frames


def _side(mol: Any, i: int, j: int) -> IndexArray:
    """Atoms on the side of j of the bond i–j."""
    side, todo = {j}, [j]
    while todo:
        for neighbour in mol.GetAtomWithIdx(todo.pop()).GetNeighbors():
            k = neighbour.GetIdx()
            if k not in side and k != i:
                side.add(k)
                todo.append(k)
    return np.array(sorted(side), dtype=np.intp)
