"""What every feature map promises: symmetries, extensivity, pooling, sketches, baselines."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from conftest import data_file, rattled
from surveyor.errors import FeatureError
from surveyor.features import (
    Activations,
    EnergyForceTangent,
    ForceActivations,
    ForceTangent,
    Tangent,
)
from surveyor.features.probes import directions
from surveyor.features.sketch import CountSketch
from surveyor.features.soap import Soap
from surveyor.potentials.mace import MacePotential
from surveyor.types import FeatureMap
from tiny import random_molecule, tiny_mace


@pytest.fixture(scope="module", autouse=True)
def _plain_execution() -> Iterator[None]:
    """Compiling TorchScript anew for each shape would take most of the time."""
    with torch.jit.optimized_execution(False):
        yield


@functools.cache
def opened(dtype: str) -> MacePotential:
    return tiny_mace(dtype=dtype, max_L=1, correlation=3, channels=4)


@functools.cache
def invariant_maps(dtype: str) -> dict[str, FeatureMap]:
    potential = opened(dtype)
    return {
        "tangent": Tangent(potential, dim=32),
        "activations": Activations(potential, pool="mean"),
        "by-element": Activations(potential, pool="by-element"),
        "soap": Soap(potential.elements, n_max=3, l_max=3, cutoff=4.0),
    }


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    assert np.abs(found - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), n_atoms=st.integers(1, 6))
def test_rotation_translation_and_permutation_change_nothing(
    dtype: str, tolerance: float, seed: int, n_atoms: int
) -> None:
    rng = np.random.default_rng(seed)
    atoms = random_molecule(rng, n_atoms)
    moved = atoms[rng.permutation(n_atoms)]
    rotation = Rotation.random(random_state=seed).as_matrix()
    moved.positions = moved.positions @ rotation.T + rng.uniform(-5, 5, 3)
    for feature_map in invariant_maps(dtype).values():
        rows = feature_map([atoms, moved]).values
        close(rows[1], rows[0], tolerance)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5), m=st.integers(1, 5))
def test_far_apart_molecules_add_up(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = random_molecule(rng, n), random_molecule(rng, m)
    far = two.copy()
    far.positions += (0.0, 60.0, 0.0)
    potential = opened("float64")
    for feature_map in (
        Tangent(potential, dim=32),
        Activations(potential, pool="sum"),
        Activations(potential, pool="by-element"),
        Soap(potential.elements, n_max=3, l_max=3, cutoff=4.0, pool="sum"),
    ):
        rows = feature_map([one, two, one + far]).values
        close(rows[2], rows[0] + rows[1], 1e-9)


def test_forces_of_far_apart_molecules_add_up() -> None:
    rng = np.random.default_rng(3)
    one, two = random_molecule(rng, 3), random_molecule(rng, 2)
    two.positions += (60.0, 0.0, 0.0)
    forces = ForceTangent(opened("float64"), probes="all", dim=None)
    rows = forces([one, two, one + two])
    close(rows.values[rows.owner == 2], rows.values[rows.owner < 2], 1e-9)


@pytest.mark.parametrize("name", ["tangent", "activations", "by-element"])
def test_batches_do_not_matter(name: str) -> None:
    feature_map = invariant_maps("float64")[name]
    structures = [*rattled(5, seed=1), Atoms("H"), *rattled(3, seed=2)]
    together = feature_map(structures).values
    alone = np.concatenate([feature_map([atoms]).values for atoms in structures])
    close(together, alone, 1e-10)
    close(feature_map(structures[::-1]).values, together[::-1], 1e-10)


def test_force_rows_do_not_depend_on_batches() -> None:
    forces = ForceTangent(opened("float64"), probes=5, dim=16)
    structures = [molecule("CH4"), Atoms("H"), molecule("H2O")]
    rows = forces(structures)
    assert rows.owner.tolist() == [0] * 5 + [1] * 3 + [2] * 5
    close(rows.values, np.concatenate([forces([atoms]).values for atoms in structures]), 1e-10)
    close(rows.values[5:8], np.zeros((3, 16)), 1e-12)


def test_sketch_is_the_same_by_seed_and_another_by_another_seed() -> None:
    potential = opened("float64")
    structures = rattled(3, seed=1)
    exact = torch.from_numpy(Tangent(potential, dim=None)(structures).values)
    sketch = CountSketch(exact.shape[1], 32, seed=7)
    close(Tangent(potential, dim=32, seed=7)(structures).values, sketch(exact).numpy(), 1e-10)
    close(
        ForceTangent(potential, 2, dim=32, seed=7)(structures).values,
        sketch(torch.from_numpy(ForceTangent(potential, 2, dim=None, seed=7)(structures).values)).numpy(),
        1e-10,
    )
    assert np.abs(sketch(exact).numpy() - CountSketch(exact.shape[1], 32, seed=8)(exact).numpy()).max() > 1e-3


def test_sketch_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    one, two = torch.from_numpy(rng.standard_normal((2, 200)))
    two = one + two
    products = [
        float((sketch(one[None]) * sketch(two[None])).sum())
        for sketch in (CountSketch(200, 64, seed) for seed in range(400))
    ]
    spread = float(np.std(products))
    assert abs(np.mean(products) - float(one @ two)) < 4 * spread / 20
    assert spread**2 < 2 * float(one @ one) * float(two @ two) / 64


def test_sketched_kernel_follows_the_exact_one_on_real_molecules() -> None:
    from ase.io import read

    frames = read(data_file("rdb7-geometries.extxyz"), ":")
    chosen = np.random.default_rng(0).choice(len(frames), 300, replace=False)
    structures = [frames[i] for i in chosen]
    potential = tiny_mace(dtype="float32", cutoff=3.0)
    exact, sketched = (Tangent(potential, dim=dim)(structures).values for dim in (None, 512))
    above = np.triu_indices(300, 1)
    correlation = np.corrcoef((exact @ exact.T)[above], (sketched @ sketched.T)[above])[0, 1]
    assert correlation > 0.99


@pytest.mark.parametrize("pool", ["sum", "mean", "by-element"])
def test_force_activations_are_slopes(pool: str) -> None:
    potential = opened("float64")
    structures = [molecule("H2O"), Atoms("O"), molecule("NH3")]
    found = ForceActivations(potential, 3, pool=pool)(structures)  # type: ignore[arg-type]
    activations = Activations(potential, pool=pool)  # type: ignore[arg-type]
    step = 1e-3
    for number in range(3):

        def moved(share: float, number: int = number) -> np.ndarray:
            shifted = [atoms.copy() for atoms in structures]
            for atoms in shifted:
                atoms.positions += share * step * directions(len(atoms), 3, 0)[number]
            return np.asarray(activations(shifted).values)

        slope = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)
        close(found.values[number::3], -slope, 1e-7)


def test_energy_rows_come_before_force_rows_and_carry_their_noise() -> None:
    potential = opened("float64")
    structures = [molecule("H2O"), molecule("NH3")]
    joined = EnergyForceTangent(potential, energy_noise=0.5, force_noise=2.0, probes=2, dim=16)(structures)
    assert joined.owner.tolist() == [0, 0, 0, 1, 1, 1]
    close(joined.values[[0, 3]], Tangent(potential, dim=16)(structures).values / 0.5, 1e-12)
    close(joined.values[[1, 2, 4, 5]], ForceTangent(potential, 2, 16)(structures).values / 2.0, 1e-12)
    with pytest.raises(FeatureError, match="both above zero"):
        EnergyForceTangent(potential, energy_noise=0.0)


def test_probes_are_orthonormal() -> None:
    for probes in (directions(4, 5, 1), directions(2, 9, 1), directions(3, "all", 1)):
        flat = probes.reshape(len(probes), -1)
        close(flat @ flat.T, np.eye(len(flat)), 1e-12)
    assert len(directions(2, 9, 1)) == 6
    assert np.abs(directions(4, 5, 1) - directions(4, 5, 2)).max() > 0.1


def test_normalisations() -> None:
    potential = opened("float64")
    structures = [molecule("H2O"), molecule("CH4")]
    for make in (
        lambda how: Tangent(potential, dim=16, normalise=how),
        lambda how: Activations(potential, pool="sum", normalise=how),
    ):
        plain = make("none")(structures).values
        close(make("atoms")(structures).values, plain / [[3], [5]], 1e-12)
        close(make("cosine")(structures).values, plain / np.linalg.norm(plain, axis=1, keepdims=True), 1e-12)
        with pytest.raises(FeatureError, match="normalise='length'"):
            make("length")
    mean = Activations(potential, pool="mean")(structures).values
    close(mean, Activations(potential, pool="sum", normalise="atoms")(structures).values, 1e-12)


def test_elements_side_by_side_add_up_to_the_sum() -> None:
    potential = opened("float64")
    structures = rattled(3, seed=1)
    by_element = Activations(potential, pool="by-element", layers=[0])(structures).values
    assert by_element.shape[1] == 4 * potential.layers()[0].width
    close(
        by_element.reshape(3, 4, -1).sum(axis=1),
        Activations(potential, pool="sum", layers=[0])(structures).values,
        1e-12,
    )


def test_fresh_weights() -> None:
    potential = opened("float64")
    before = potential.fingerprint
    one, again, two = (potential.with_random_weights(seed) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint
    assert len({potential.fingerprint, one.fingerprint, two.fingerprint}) == 3
    assert potential.fingerprint == before
    assert one.predict([molecule("H2O")])[0].energy != potential.predict([molecule("H2O")])[0].energy
    for name, parameter in one.model.named_parameters():
        assert not torch.equal(parameter, potential.model.get_parameter(name)), name
    assert torch.equal(
        one.model.atomic_energies_fn.atomic_energies, potential.model.atomic_energies_fn.atomic_energies
    )


def test_soap_without_dscribe(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("surveyor.features.soap.import_module", missing)
    with pytest.raises(FeatureError, match=r"pip install 'surveyor\[soap\]'"):
        Soap((1, 8))


def test_soap_of_an_element_that_was_not_announced() -> None:
    with pytest.raises(FeatureError, match="structure 1 holds C"):
        Soap((1, 8), n_max=2, l_max=2)([molecule("H2O"), molecule("CH4")])


@pytest.mark.parametrize("probes", [0, -1, "some"])
def test_probes_that_are_none(probes: int) -> None:
    with pytest.raises(FeatureError, match="probes="):
        ForceTangent(opened("float64"), probes)
    with pytest.raises(FeatureError, match="probes="):
        ForceActivations(opened("float64"), probes)


def test_no_structures() -> None:
    potential = opened("float64")
    for feature_map in (
        Tangent(potential, dim=8),
        ForceTangent(potential, 1, 8),
        Activations(potential),
        ForceActivations(potential),
        Soap((1,), n_max=2, l_max=2),
    ):
        assert feature_map([]).values.shape == (0, feature_map.dim)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(FeatureError, match="a sketch of 0 columns"):
        Tangent(opened("float64"), dim=0)
    with pytest.raises(FeatureError, match="layers"):
        Activations(opened("float64"), layers=[2])
    with pytest.raises(FeatureError, match="pool='max'"):
        Activations(opened("float64"), pool="max")  # type: ignore[arg-type]
