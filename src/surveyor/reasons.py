"""Why a structure was picked: what it removes from the pool's variance, and which atoms its own is from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from ase import Atoms

from surveyor.features.activations import Activations
from surveyor.features.sketch import CountSketch
from surveyor.features.tangent import Tangent
from surveyor.linalg import row_blocks
from surveyor.posterior import Step
from surveyor.potentials.base import Atomic
from surveyor.potentials.gradients import differentiable, gradients_of
from surveyor.types import FeatureMap, Features, Float64Array

SMALLEST = 1e-9
"""A sum of atoms below this share of their absolute sum is rounding, and has no shares."""


def removed_shares(steps: Iterable[Step], pool: Features) -> Float64Array:
    """Share of the pool's residual variance that each pick removes, given the picks before it.

        r_j = Σ_x [s²(x | before j) − s²(x | up to j)] / Σ_x s²(x | before j)

    | symbol | variable | shape       | meaning                                                |
    |--------|----------|-------------|--------------------------------------------------------|
    | j      | steps    | (picks,)    | picks in turn; the rows of a structure enter together  |
    | x      | pool     | (rows, dim) | all pool rows, or a sample of them                     |
    | r      | returned | (picks,)    | between 0 and 1; 0 where nothing was left to remove    |

    Raises:
        FeatureError: rows of two widths, or NaN or inf among them.
    """
    shares = [np.zeros(0)]
    for step in steps:
        dropped = np.zeros(len(step.directions))
        for _, rows in row_blocks(pool.values):
            dropped += np.einsum("jx,jx->j", passed := step.directions @ rows.T, passed)
        drops = np.bincount(step.owner - step.owner[0], weights=dropped)
        left = step.before.variance(pool.values).sum() - np.concatenate([[0.0], np.cumsum(drops)[:-1]])
        shares.append(np.where(left > 0, drops / np.where(left > 0, left, 1.0), 0.0))
    return np.clip(np.concatenate(shares), 0.0, 1.0)


def atom_shares(feature_map: FeatureMap, atoms: Atoms, direction: Float64Array) -> Float64Array | None:
    """Share of every atom in a structure's residual variance.

        φ = Σ_a φ_a,    share_a = λ φ_aᵀ A⁻¹ φ / s² = φ_a·u / φ·u    with u ∝ A⁻¹φ

    A share can be negative: that atom's row points against the rest. The scale of φ and of u cancels, so u
    may come from scaled rows.

    | symbol | variable    | shape      | meaning                                                          |
    |--------|-------------|------------|------------------------------------------------------------------|
    | φ_a    | feature_map |            | activations of atom a, or sketched gradient of the atom's energy |
    | u      | direction   | (dim,)     | the pick's row of `Step.directions`                              |
    | share  | returned    | (n_atoms,) | sums to 1; None where φ is not a sum over atoms, or s² is zero   |
    """
    if isinstance(feature_map, Tangent):
        parts = _tangent_parts(feature_map, atoms, direction)
    elif isinstance(feature_map, Activations):
        parts = _activation_parts(feature_map, atoms, direction)
    else:
        return None
    if parts is None or not np.isfinite(parts).all():
        return None
    total = float(parts.sum())
    return None if abs(total) <= SMALLEST * float(np.abs(parts).sum()) else parts / total


def _activation_parts(feature_map: Activations, atoms: Atoms, direction: Float64Array) -> Float64Array:
    """h_a·u for every atom; pooling and normalisation scale all atoms of a structure alike."""
    nodes = next(feature_map.of_atoms([atoms])).astype(np.float64)
    if feature_map.pool != "by-element":
        return np.asarray(nodes @ direction)
    slots = np.searchsorted(feature_map.potential.elements, atoms.numbers)
    return np.asarray((nodes * direction.reshape(-1, nodes.shape[1])[slots]).sum(axis=1))


def _tangent_parts(feature_map: Tangent, atoms: Atoms, direction: Float64Array) -> Float64Array | None:
    """(S ∇θ e_a)·u for the energy e_a of every atom, by two backward passes for all atoms.

    (S ∇θ e_a)·u is the slope of e_a along v = Sᵀu in parameter space. It is also the derivative with respect
    to w_a of v·∇θ Σ_a w_a e_a, which needs no pass an atom.
    """
    potential = feature_map.potential
    if not isinstance(potential, Atomic):
        return None
    batch = potential.batch([atoms])
    with differentiable(potential.model, feature_map.names) as parameters:
        energies = potential.atom_energies(batch)
        with torch.no_grad():
            total = potential.energies(batch)
        if energies is None or not _adds_up(energies, total):
            return None
        weights = torch.ones_like(energies).requires_grad_(True)
        gradients = gradients_of((weights * energies).sum(), parameters, create_graph=True)
        pulled = torch.from_numpy(_pulled_back(feature_map, direction)).to(potential.device)
        slope = energies.new_zeros(())
        offset = 0
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                along = pulled[offset : offset + parameter.numel()].to(gradient.dtype)
                slope = slope + (gradient.flatten() * along).sum()
            offset += parameter.numel()
        found = gradients_of(slope, [weights])[0]
    return None if found is None else found.detach().cpu().numpy().astype(np.float64)


def _pulled_back(feature_map: Tangent, direction: Float64Array) -> Float64Array:
    """Sᵀu, (parameters,)."""
    sketch = feature_map.sketch
    if not isinstance(sketch, CountSketch):
        return np.array(direction)
    return np.asarray(direction[sketch.buckets.cpu().numpy()] * sketch.signs.cpu().numpy(), dtype=np.float64)


def _adds_up(parts: torch.Tensor, total: torch.Tensor) -> bool:
    """Whether the energies of the atoms are those of the structure: some families add terms of the whole."""
    return bool(torch.isclose(parts.sum(), total.sum().to(parts.dtype), rtol=1e-4, atol=1e-4))
