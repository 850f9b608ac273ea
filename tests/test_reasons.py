"""Removed variance and atom shares, against conditioning step by step and a gradient an atom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from conftest import rattled
from surveyor.errors import Notice, SelectionError
from surveyor.features import Activations, ForceTangent, Tangent
from surveyor.picking import select
from surveyor.posterior import Posterior, condition_in_turn
from surveyor.potentials.gradients import differentiable, gradients_of
from surveyor.potentials.mace import MacePotential
from surveyor.reasons import atom_shares, removed_shares
from surveyor.types import Features, Float64Array
from tiny import random_crystal, tiny_mace

NOISE = 1e-3


def random_features(n: int, seed: int, *, rows: int = 1, dim: int = 12) -> Features:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n), rows)
    return Features(rng.normal(size=(n * rows, dim)) / np.sqrt(dim), owner, n)


@pytest.mark.parametrize("rows", [1, 3])
def test_removed_shares_are_those_of_conditioning_one_by_one(rows: int) -> None:
    train, picks, pool = (random_features(n, n, rows=rows) for n in (3, 7, 40))
    posterior = Posterior.fit(train, noise=NOISE)
    slow = []
    before = posterior
    for index in range(len(picks)):
        after = before.condition(picks.take([index]))
        left = before.variance(pool.values).sum()
        slow.append((left - after.variance(pool.values).sum()) / left)
        before = after
    for cut in (0, 3):
        steps = list(condition_in_turn(posterior, picks, cut=cut))
        np.testing.assert_allclose(removed_shares(steps, pool), slow, rtol=1e-7)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_do_not_change_the_directions(block: int) -> None:
    train, picks = random_features(3, 1), random_features(9, 2)
    posterior = Posterior.fit(train, noise=NOISE)
    steps = list(condition_in_turn(posterior, picks, block=block, cut=4))
    found = np.concatenate([step.directions for step in steps])
    np.testing.assert_array_equal(np.concatenate([step.owner for step in steps]), np.arange(9))
    stds = np.sqrt(np.concatenate([step.variance for step in steps]))
    before = posterior
    for index, row in enumerate(picks.values):
        variance = before.variance(row[None])[0]
        precision = before.factor @ before.factor.T
        slow = NOISE * np.linalg.solve(precision, row) / np.sqrt(variance + NOISE)
        np.testing.assert_allclose(found[index], slow, rtol=1e-6, atol=1e-10)
        assert stds[index] == pytest.approx(np.sqrt(variance), rel=1e-8)
        before = before.condition(picks.take([index]))


def test_a_copy_of_a_pick_removes_next_to_nothing() -> None:
    picks = random_features(2, 5).take([0, 1, 1])
    steps = condition_in_turn(Posterior.fit(Features.empty(12), noise=1e-8), picks)
    shares = removed_shares(steps, random_features(30, 6))
    assert shares[2] < 1e-6 < shares[1]


def slow_atom_rows(feature_map: Tangent, atoms: Atoms) -> Float64Array:
    """S ∇θ e_a by a backward pass an atom (n_atoms, dim)."""
    model = feature_map.potential.model  # type: ignore[attr-defined]
    rows = []
    with differentiable(model, feature_map.names) as parameters:
        energies = feature_map.potential.atom_energies(feature_map.potential.batch([atoms]))
        for energy in energies:
            gradients = gradients_of(energy, parameters, retain_graph=True)
            flat = torch.cat(
                [
                    torch.zeros_like(p).flatten() if g is None else g.flatten()
                    for g, p in zip(gradients, parameters, strict=True)
                ]
            ).to(torch.float64)
            row = flat[None] if feature_map.dim == feature_map.size else feature_map.sketch(flat[None])
            rows.append(row[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("dim", [64, None])
@pytest.mark.parametrize("crystal", [False, True])
def test_tangent_atom_shares_equal_a_gradient_an_atom(dim: int | None, crystal: bool) -> None:
    potential = tiny_mace(max_L=1, pair_repulsion=crystal)
    atoms = random_crystal(np.random.default_rng(1)) if crystal else rattled(4, seed=3)[3]
    feature_map = Tangent(potential, dim=dim, seed=3, normalise="atoms")
    rows = slow_atom_rows(feature_map, atoms)
    whole = feature_map([atoms]).values[0]
    np.testing.assert_allclose(rows.sum(axis=0) / len(atoms), whole, rtol=1e-6, atol=1e-9)
    direction = np.random.default_rng(0).normal(size=feature_map.dim)
    shares = atom_shares(feature_map, atoms, direction)
    assert shares is not None
    np.testing.assert_allclose(shares, rows @ direction / (rows.sum(axis=0) @ direction), rtol=1e-6)
    assert shares.sum() == pytest.approx(1)
    assert not any(parameter.requires_grad for parameter in potential.model.parameters())


@pytest.mark.parametrize("pool", ["mean", "sum", "by-element"])
def test_activation_atom_shares_follow_the_pooling(potential: MacePotential, pool: str) -> None:
    atoms = rattled(4, seed=3)[3]
    feature_map = Activations(potential, pool=pool)  # type: ignore[arg-type]
    nodes = next(feature_map.of_atoms([atoms]))
    rows = [feature_map.pooled(atoms[[a]], nodes[[a]]) for a in range(len(atoms))]
    direction = np.random.default_rng(0).normal(size=feature_map.dim)
    parts = np.array(rows) @ direction
    shares = atom_shares(feature_map, atoms, direction)
    assert shares is not None
    np.testing.assert_allclose(shares, parts / parts.sum(), rtol=1e-5)


def test_shares_are_those_of_the_residual_variance(potential: MacePotential) -> None:
    structures = rattled(5, seed=4)
    feature_map = Activations(potential, pool="sum")
    features = feature_map(structures)
    posterior = Posterior.fit(features.take([0, 1]), noise=NOISE)
    (step,) = condition_in_turn(posterior, features.take([2, 3]))
    before = posterior.condition(features.take([2]))
    nodes = next(feature_map.of_atoms([structures[3]])).astype(np.float64)
    parts = before.covariance(nodes, features.values[3][None])[:, 0]
    found = atom_shares(feature_map, structures[3], step.directions[1])
    assert found is not None
    np.testing.assert_allclose(found, parts / before.variance(features.values[3][None])[0], rtol=1e-3)


def test_no_shares_where_rows_are_no_sum_over_atoms(potential: MacePotential) -> None:
    atoms = rattled(1, seed=4)[0]
    forces = ForceTangent(potential, probes=2, dim=16)
    assert atom_shares(forces, atoms, np.ones(16)) is None
    assert atom_shares(Activations(potential), atoms, np.zeros(16)) is None


@pytest.mark.parametrize("features", ["tangent", "activations"])
def test_picks_carry_their_reasons(potential: MacePotential, features: str) -> None:
    picked = select(rattled(20, seed=1), rattled(4, seed=2), potential, 4, features=features, dim=32)
    for atoms, pick in zip(picked.structures, picked.batch.picks, strict=True):
        shares = atoms.arrays["surveyor_atom_share"]
        assert shares.shape == (len(atoms),)
        assert shares.sum() == pytest.approx(1)
        assert 0 < pick.removes < 1


@pytest.mark.parametrize("rule", ["max-variance", "random"])
def test_near_copies_of_picks_and_of_labelled_structures_are_no_candidates(rule: str) -> None:
    rng = np.random.default_rng(8)
    originals = rattled(6, seed=3)
    pool = []
    for atoms in originals:
        for _ in range(3):
            copy = atoms.copy()
            copy.positions += rng.uniform(-2e-6, 2e-6, copy.positions.shape)
            pool.append(copy)
    labelled = [originals[4], originals[5]]
    with pytest.warns(Notice, match=r"14 structures of the pool are near copies"):
        picked = select(pool, labelled, tiny_mace(), 4, rule=rule, dim=64)
    assert sorted(index // 3 for index in picked.indices) == [0, 1, 2, 3]
    with pytest.raises(SelectionError, match="n = 5 picks, but the pool has 4"):
        select(pool, labelled, tiny_mace(), 5, rule=rule, dim=64)


def test_picks_at_the_noise_floor_are_said() -> None:
    """Turned copies are other structures, but their features are those of the first."""
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    pool = [water, Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])]
    for angle in (30, 60, 90):
        turned = water.copy()
        turned.rotate(angle, "z")
        pool.append(turned)
    with pytest.warns(Notice, match="the picks from rank 2 on lie at the noise floor"):
        select(pool, None, tiny_mace(), 4, rule="max-variance", dim=64)
