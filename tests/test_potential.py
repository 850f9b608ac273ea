"""Opening potentials, predicting with them, saving them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import ase.units
import numpy as np
import pytest
import torch
from ase import Atoms

import surveyor
from conftest import rattled
from surveyor.errors import PotentialError, StructureError
from surveyor.potentials.graphs import ahead, build_graph
from surveyor.potentials.mace import MacePotential
from surveyor.potentials.mace.loading import load_module
from surveyor.potentials.opening import builtin_path
from surveyor.potentials.parameters import parameter_names
from surveyor.structures.neighbours import full_cell
from tiny import random_crystal, random_molecule, tiny_mace


@pytest.mark.parametrize("max_L", [0, 1])
def test_batched_predictions_are_those_of_maces_own_calculator(max_L: int) -> None:
    potential = tiny_mace(max_L=max_L)
    rng = np.random.default_rng(0)
    molecules = [random_molecule(rng, n) for n in (1, 2, 3, 7, 9)]
    crystals = [random_crystal(rng) for _ in range(3)]
    for structures in (molecules, crystals, [*molecules, *crystals]):
        for atoms, labels in zip(structures, potential.predict(structures), strict=True):
            trial = atoms.copy()
            trial.calc = potential.calculator()
            assert labels.energy == pytest.approx(trial.get_potential_energy(), abs=1e-10)
            np.testing.assert_allclose(labels.forces, trial.get_forces(), atol=1e-10)
            if labels.stress is not None:
                np.testing.assert_allclose(labels.stress, trial.get_stress(), atol=1e-10)
    assert all(labels.stress is not None for labels in potential.predict(crystals))


def test_forces_are_gradients_of_energies(potential: MacePotential) -> None:
    double = tiny_mace(dtype="float64")
    atoms = random_molecule(np.random.default_rng(1), 5)
    forces = double.predict([atoms])[0].forces
    h = 1e-4
    for atom, axis in ((0, 0), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            energies.append(double.predict([moved])[0].energy)
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-6)


def test_saved_potentials_open_again_and_in_plain_mace(tmp_path: Path, potential: MacePotential) -> None:
    path = tmp_path / "a.model"
    potential.save(path)
    again = surveyor.open_potential(path)
    assert again.fingerprint == potential.fingerprint
    assert again.elements == (1, 6, 7, 8)
    from mace.calculators import MACECalculator

    water = rattled(1, seed=0)[0]
    water.calc = MACECalculator(model_paths=str(path), default_dtype="float32", device="cpu")
    assert potential.predict([water])[0].energy == pytest.approx(water.get_potential_energy(), abs=1e-5)


def test_fingerprints_tell_weights_dtypes_and_heads_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    tiny_mace(heads=("one", "two"), dtype="float32").save(path)
    opened = [
        surveyor.open_potential(path, head="one"),
        surveyor.open_potential(path, head="two"),
        surveyor.open_potential(path, head="one", dtype="float64"),
        tiny_mace(seed=1),
        tiny_mace(seed=2),
    ]
    assert len({potential.fingerprint for potential in opened}) == 5
    assert opened[2].dtype == "float64"


def test_reference_shifts_move_energies_only(potential: MacePotential) -> None:
    structures = rattled(4, seed=0)
    shifted = potential.with_reference_shifts({1: 0.5, 8: -2.0})
    for atoms, a, b in zip(
        structures, potential.predict(structures), shifted.predict(structures), strict=True
    ):
        expected = 0.5 * (atoms.numbers == 1).sum() - 2.0 * (atoms.numbers == 8).sum()
        assert b.energy - a.energy == pytest.approx(expected, abs=1e-4)
        np.testing.assert_array_equal(a.forces, b.forces)
    assert shifted.reference_energies()[8] == pytest.approx(-5.0)
    assert potential.reference_energies()[8] == pytest.approx(-3.0)


class Payload:
    """Something that is no model."""


def test_all_of_a_model_goes_to_the_device(tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    tiny_mace(max_L=1).save(path)
    model = load_module(path, "meta")  # a device that every machine has, and that is not the CPU
    places = {name: tensor.device.type for name, tensor in model.state_dict().items()}
    places |= {name: tensor.device.type for name, tensor in model.named_buffers()}
    assert places
    assert set(places.values()) == {"meta"}


def test_the_ending_of_a_model_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    tiny_mace().save(path)
    assert surveyor.open_potential(path).fingerprint == tiny_mace().fingerprint


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    text, pickled, weights, other = (tmp_path / name for name in ("a.model", "b.model", "c.model", "d.model"))
    text.write_text("hello")
    pickled.write_bytes(pickle.dumps({"a": 1}))
    torch.save({"weights": torch.zeros(3)}, weights)
    torch.save(torch.nn.Linear(2, 2), other)
    names = ("checkpoint", "scripted", "frozen", "cut", "empty", "pipe")
    checkpoint, scripted, frozen, cut, empty, pipe = (tmp_path / f"{name}.model" for name in names)
    torch.save({"model": {}, "epoch": 3}, checkpoint)
    compiled = torch.jit.script(torch.nn.Linear(2, 2).eval())
    torch.jit.save(compiled, scripted)
    torch.jit.save(torch.jit.freeze(compiled), frozen)
    cut.write_bytes(other.read_bytes()[:300])
    empty.touch()
    os.mkfifo(pipe)
    for path, message in (
        (text, "is not a model file"),
        (pickled, "not a model"),
        (weights, r"the parameters alone \(a state dict of weights\), not a model"),
        (checkpoint, r"a checkpoint or settings \(a dict of epoch, model\), not a model"),
        (scripted, r"holds a compiled model \(TorchScript of Linear\)(.|\n)*not …_compiled.model"),
        (frozen, "holds a compiled model"),
        (other, "holds a Linear without 'interactions'"),
        (cut, "is not a model file"),
        (empty, "is not a model file"),
        (tmp_path, "that is a folder"),
        (pipe, "that is no file, but a pipe"),
        (tmp_path / "e.model", "no such file"),
        (
            Path("medum-mpa-0"),
            r"expected: 'builtin', the path of a .*\.model or .*\.tangent file, or .* medium-mpa-0",
        ),
    ):
        with pytest.raises(PotentialError, match=message):
            surveyor.open_potential(path)


def test_foundation_models_offline_say_what_to_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    for name in ("medium-mpa-0", "off-small", "omol"):
        with pytest.raises(PotentialError, match=r"--model PATH/TO/FILE.model"):
            surveyor.open_potential(name)


def test_devices_heads_and_dtypes_that_do_not_exist(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PotentialError, match="device 'warp'"):
        surveyor.open_potential(model_file, device="warp")
    with pytest.raises(PotentialError, match="float32 or float64"):
        surveyor.open_potential(model_file, dtype="float16")  # type: ignore[arg-type]
    with pytest.raises(PotentialError, match="not 'other'"):
        surveyor.open_potential(model_file, head="other")
    path = tmp_path / "heads.model"
    tiny_mace(heads=("one", "two")).save(path)
    with pytest.raises(PotentialError, match="has the heads one, two"):
        surveyor.open_potential(path)


def test_unknown_elements_are_refused_before_anything_is_computed(potential: MacePotential) -> None:
    with pytest.raises(StructureError, match="element Xe"):
        potential.predict([*rattled(2, seed=0), Atoms("Xe")])


def test_parameter_subsets(potential: MacePotential) -> None:
    model = potential.model
    everything = parameter_names(model)
    assert everything == [name for name, _ in potential.model.named_parameters()]
    readout = parameter_names(model, "readout")
    assert readout
    assert all(name.startswith("readouts.") for name in readout)
    assert set(parameter_names(model, "interactions")) < set(everything)
    assert parameter_names(model, "linear_up") == [name for name in everything if "linear_up" in name]
    with pytest.raises(PotentialError, match="no parameter matches"):
        parameter_names(model, "nonsense")
    with pytest.raises(PotentialError, match="no regular expression"):
        parameter_names(model, "(")


def test_importing_surveyor_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, surveyor.cli; assert not {'torch', 'mace', 'ase'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not builtin_path().exists(), reason="no built-in weights in this checkout")
def test_the_builtin_potential_knows_chemistry() -> None:
    potential = surveyor.open_potential("builtin")
    assert potential.elements == (1, 6, 7, 8, 9, 16, 17, 35)
    assert potential.dtype == "float32"
    assert builtin_path().stat().st_size < 4e6
    from ase.build import molecule
    from ase.optimize import BFGS

    ethanol = molecule("CH3CH2OH")
    ethanol.calc = potential.calculator()
    BFGS(ethanol, logfile=None).run(fmax=0.05, steps=200)
    assert ethanol.get_distance(0, 1) == pytest.approx(1.52, abs=0.06)
    far = molecule("CH4")
    energy = potential.predict([far])[0].energy
    atoms = sum(potential.reference_energies()[z] for z in far.numbers)
    per_bond = -(energy - atoms) / 4
    assert 3.5 * ase.units.eV < per_bond < 6.0 * ase.units.eV


def test_graphs_are_built_ahead_in_order_and_pass_errors_on() -> None:
    rng = np.random.default_rng(4)
    batches = [[random_molecule(rng, n)] for n in (2, 5, 3)]
    made = list(ahead(batches, lambda batch: len(batch[0])))
    assert [batch for batch, _ in made] == batches
    assert [size for _, size in made] == [2, 5, 3]
    assert list(ahead([], len)) == []

    def refuse(batch: list[Atoms]) -> int:
        raise PotentialError(f"{len(batch[0])} atoms")

    with pytest.raises(PotentialError, match="2 atoms"):
        list(ahead(batches, refuse))


def test_only_one_graph_is_built_in_advance() -> None:
    taken = []

    def batches() -> Iterator[list[Atoms]]:
        for number in range(50):
            taken.append(number)
            yield [Atoms("H")]

    stream = ahead(batches(), len)
    next(stream)
    assert len(taken) == 2
    stream.close()


def test_open_directions_need_no_cell_vector() -> None:
    """A sheet and a wire with zero vectors give the energies that they have with a thick layer of vacuum."""
    potential = tiny_mace()
    rng = np.random.default_rng(0)
    for axes in ([0], [1], [0, 2], [1, 2]):
        bare = Atoms("C6", rng.uniform(0, 4, (6, 3)), cell=np.zeros((3, 3)))
        vectors = np.zeros((3, 3))
        vectors[axes] = np.eye(3)[[(axis + 1) % 3 for axis in axes]] * 4.5 + 0.3  # along other axes of space
        bare.set_cell(vectors)
        bare.pbc = [axis in axes for axis in range(3)]
        thick = bare.copy()
        thick.set_cell(full_cell(vectors, bare.pbc, bare.positions, 10.0))
        first, second = potential.predict([bare, thick])
        assert first.energy == pytest.approx(second.energy, abs=1e-9)
        np.testing.assert_allclose(first.forces, second.forces, atol=1e-9)
        assert first.energy != pytest.approx(potential.predict([Atoms("C6", bare.positions)])[0].energy)


def test_a_large_molecule_with_an_atom_far_away_has_the_graph_of_its_parts() -> None:
    rng = np.random.default_rng(1)
    positions = np.concatenate([rng.uniform(0, 25, (350, 3)), [[9e5, 0, 0]]])
    edges = build_graph([Atoms("H351", positions)], 4.0).edges
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    i, j = np.nonzero((distances < 4.0) & ~np.eye(351, dtype=bool))
    assert sorted(map(tuple, edges.T.tolist())) == list(zip(i.tolist(), j.tolist(), strict=True))
