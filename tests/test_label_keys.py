"""Labelled files as people have them: read, refused by name, or rid of what a trainer would act on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from conftest import emt_labelled, rattled
from surveyor.campaign import Campaign
from surveyor.config import build_plan, load_campaign
from surveyor.errors import Notice, StructureError, TrainingError
from surveyor.labelling import CalculatorSpec, compute
from surveyor.potentials.mace import MacePotential
from surveyor.potentials.mace.fine_tuning import FineTuning, FineTuningSettings
from surveyor.potentials.mace.trainable import check_trainable
from surveyor.potentials.references import shifts_to
from surveyor.structures import labels_of, structure_id, write_structures
from surveyor.structures.label_keys import is_isolated_atom, read_labelled, reference_energies
from tiny import random_crystal, tiny_mace

EMT = CalculatorSpec("ase.calculators.emt.EMT")
ENERGY = {1: -13.6, 6: -1027.0, 7: -1483.5, 8: -2041.0}


def as_ase_has_them(frames: list[Atoms], **more: Any) -> list[Atoms]:
    out = []
    for atoms in frames:
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        labels = labels_of(atoms)
        bare.calc = SinglePointCalculator(bare, energy=labels.energy, forces=labels.forces, **more)
        out.append(bare)
    return out


def renamed(frames: list[Atoms], energy: str, forces: str) -> list[Atoms]:
    for atoms in frames:
        atoms.info[energy] = atoms.info.pop("REF_energy")
        atoms.arrays[forces] = atoms.arrays.pop("REF_forces")
    return frames


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "extxyz.gz", "json"])
def test_labels_as_ase_has_them_are_read_and_it_is_said(suffix: str, tmp_path: Path) -> None:
    frames = emt_labelled(rattled(5, seed=1))
    path = tmp_path / f"start.{suffix}"
    write(path, as_ase_has_them(frames))
    with pytest.warns(Notice, match=r"no REF_energy and REF_forces: the labels are read from energy, forces"):
        found = read_labelled(path).structures
    for atoms, original in zip(found, frames, strict=True):
        assert atoms.calc is None
        assert labels_of(atoms).energy == pytest.approx(original.info["REF_energy"], abs=1e-7)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], original.arrays["REF_forces"], atol=1e-7)


def test_stress_and_free_energy_of_a_calculator(tmp_path: Path) -> None:
    atoms = random_crystal(np.random.default_rng(0))
    stress = np.arange(6.0) / 10
    atoms.calc = SinglePointCalculator(
        atoms, energy=-7.0, free_energy=-7.25, forces=np.ones((len(atoms), 3)), stress=stress
    )
    write(tmp_path / "a.traj", [atoms])
    with pytest.warns(Notice, match="read from free_energy, forces, stress"):
        (found,) = read_labelled(tmp_path / "a.traj").structures
    assert labels_of(found).energy == -7.25  # what the forces are the gradient of
    np.testing.assert_allclose(labels_of(found).stress, stress)


@pytest.mark.parametrize(
    ("energy", "forces"),
    [
        ("dft_energy", "DFT_forces"),
        ("E", "force"),
        ("Energy", "gradient"),
        ("etot", "f"),
        ("mp2_energy", "F"),
    ],
)
def test_other_names_are_named(energy: str, forces: str, tmp_path: Path) -> None:
    path = write_structures(
        tmp_path / "start.extxyz", renamed(emt_labelled(rattled(3, seed=1)), energy, forces)
    )
    with pytest.raises(StructureError, match=f"frame 0: no REF_energy.*under {energy}, {forces}"):
        read_labelled(path)


def test_without_any_label_the_keys_are_named(tmp_path: Path) -> None:
    frames = rattled(3, seed=1)
    frames[0].info["origin"] = "md"
    with pytest.raises(StructureError, match=r"keys present: .*origin"):
        read_labelled(write_structures(tmp_path / "start.extxyz", frames))


def test_one_label_without_the_other_names_what_is_there(tmp_path: Path) -> None:
    (atoms,) = emt_labelled(rattled(1, seed=1))
    atoms.arrays["gradient_hartree"] = atoms.arrays.pop("REF_forces")
    write(tmp_path / "start.xyz", atoms, format="extxyz")
    with pytest.raises(StructureError, match=r"no REF_forces; .* under REF_energy, gradient_hartree"):
        read_labelled(tmp_path / "start.xyz")
    atoms.arrays["dy"] = atoms.arrays.pop("gradient_hartree")
    write(tmp_path / "start.xyz", atoms, format="extxyz")
    with pytest.raises(StructureError, match=r"no REF_forces; keys present: .*\bdy\b"):
        read_labelled(tmp_path / "start.xyz")


def test_a_free_energy_alone_is_the_energy(tmp_path: Path) -> None:
    (atoms,) = emt_labelled(rattled(1, seed=1))
    energy = atoms.info["free_energy"] = atoms.info.pop("REF_energy")
    atoms.arrays["forces"] = atoms.arrays.pop("REF_forces")
    write(tmp_path / "start.xyz", atoms, format="extxyz")
    with pytest.warns(Notice, match="labels are read from free_energy, forces"):
        (found,) = read_labelled(tmp_path / "start.xyz").structures
    assert found.info["REF_energy"] == pytest.approx(energy)


def test_an_isolated_atom_with_its_energy_elsewhere_names_the_key(tmp_path: Path) -> None:
    atom = Atoms("H", info={"config_type": "IsolatedAtom", "dft_energy": -13.6})
    write(tmp_path / "start.xyz", atom, format="extxyz")
    with pytest.raises(StructureError, match=r"frame 0: .*keys present: .*dft_energy"):
        read_labelled(tmp_path / "start.xyz")


def test_two_pairs_of_names_in_one_file_are_refused(tmp_path: Path) -> None:
    frames = emt_labelled(rattled(6, seed=1))
    write(tmp_path / "start.extxyz", [*frames[:4], *as_ase_has_them(frames[4:])])
    with pytest.raises(StructureError, match=r"several names: REF_energy, REF_forces \(frame 0\) and energy"):
        read_labelled(tmp_path / "start.extxyz")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda a: a.arrays.pop("REF_forces"), "frame 1: no REF_forces"),
        (lambda a: a.info.update(REF_energy=float("nan")), "frame 1: REF_energy: NaN or inf"),
        (lambda a: a.info.update(REF_stress=[1.0, 2.0]), "frame 1: REF_stress of shape"),
    ],
)
def test_damaged_labels_are_refused_by_frame(spoil: Any, says: str, tmp_path: Path) -> None:
    frames = emt_labelled(rattled(3, seed=1))
    spoil(frames[1])
    with pytest.raises(StructureError, match=says):
        read_labelled(write_structures(tmp_path / "start.extxyz", frames))


@pytest.mark.parametrize(
    "key",
    [
        "config_weight",
        "config_energy_weight",
        "config_forces_weight",
        "config_stress_weight",
        "config_virials_weight",
    ],
)
def test_weights_of_frames_are_taken_off_and_it_is_said(key: str, tmp_path: Path) -> None:
    frames = emt_labelled(rattled(4, seed=1))
    for number, atoms in enumerate(frames[1:]):
        atoms.info[key] = 0.5 * number
    with pytest.warns(Notice, match=rf"start.extxyz: {key} in 3 frames \(0 to 1\): taken off"):
        found = read_labelled(write_structures(tmp_path / "start.extxyz", frames)).structures
    assert all(key not in atoms.info for atoms in found)
    assert [structure_id(a) for a in found] == [structure_id(a) for a in frames]


def test_what_else_the_trainer_reads_is_taken_off(tmp_path: Path) -> None:
    """A dipole of one number ends mace's trainer with an assertion."""
    frames = emt_labelled(rattled(2, seed=1))
    for atoms in frames:
        atoms.info |= {"head": "mp2", "elec_temp": "hot", "REF_virials": [1.0], "reaction": "kept"}
        atoms.arrays["REF_charges"] = np.zeros((len(atoms), 2))
    with pytest.warns(Notice, match=r"REF_charges in 2 frames, REF_virials in 2 .*elec_temp .*head in 2"):
        found = read_labelled(write_structures(tmp_path / "start.extxyz", frames)).structures
    assert set(found[0].info) == {"REF_energy", "reaction", "surveyor_id"}
    assert set(found[0].arrays) == {"numbers", "positions", "REF_forces"}


def test_a_molecule_has_no_stress(tmp_path: Path) -> None:
    frames = emt_labelled(rattled(2, seed=1))
    frames[0].info["REF_stress"] = np.ones(6)
    with pytest.warns(Notice, match="REF_stress in 1 frames that are not periodic"):
        found = read_labelled(write_structures(tmp_path / "start.extxyz", frames)).structures
    assert labels_of(found[0]).stress is None


# ---- isolated atoms ------------------------------------------------------------------------------------


def isolated(elements: tuple[int, ...], kind: str = "IsolatedAtom") -> list[Atoms]:
    out = []
    for z in elements:
        atoms = Atoms([z], [[0, 0, 0]])
        atoms.info |= {"REF_energy": ENERGY[z], "config_type": kind}
        out.append(atoms)
    return out


@pytest.mark.parametrize("kind", ["IsolatedAtom", "isolated_atom", "Isolated Atom", "isolatedatom"])
def test_isolated_atoms_stand_apart_and_need_an_energy_alone(kind: str, tmp_path: Path) -> None:
    frames = emt_labelled(rattled(3, seed=1))
    found = read_labelled(write_structures(tmp_path / "s.extxyz", [*isolated((1, 8), kind), *frames]))
    assert len(found.structures) == 3
    assert reference_energies(found.isolated) == {1: ENERGY[1], 8: ENERGY[8]}
    water = Atoms("H2O", np.eye(3), info={"config_type": kind})
    assert not is_isolated_atom(water)


def test_contradicting_or_empty_isolated_atoms_are_refused(tmp_path: Path) -> None:
    two = isolated((1, 1))
    two[1].info["REF_energy"] = -12.0
    with pytest.raises(StructureError, match=r"two isolated atoms of H: -13.6 and -12 eV"):
        reference_energies(two)
    ion = isolated((1,))
    ion[0].info |= {"total_charge": 1, "REF_energy": 0.0}
    with pytest.warns(Notice, match=r"isolated ions \(H\)"):
        assert reference_energies([*isolated((1,)), *ion]) == {1: ENERGY[1]}
    bad = isolated((8,))
    bad[0].info["REF_energy"] = float("inf")
    with pytest.raises(StructureError, match="frame 0: an isolated atom with the energy"):
        read_labelled(write_structures(tmp_path / "s.extxyz", bad))


class Watch:
    """A trainer that notes what it is given."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def __call__(self, start: Any, train: Any, valid: Any, **more: Any) -> MacePotential:
        self.given = {"frames": [*train, *valid], **more}
        return start.with_reference_shifts({1: 0.1})


def campaign(folder: Path, model_file: Path, start: list[Atoms], pool: list[Atoms]) -> Path:
    write_structures(folder / "pool.extxyz", pool)
    write_structures(folder / "start.extxyz", start)
    shutil.copy(model_file, folder / "m.model")
    path = folder / "campaign.yaml"
    path.write_text(
        json.dumps(
            {"pool": "pool.extxyz", "start": "start.extxyz", "model": "m.model", "features": {"dim": 8},
             "selection": {"batch": 2}, "labels": {"calculator": EMT.path}, "stop": {"rounds": 1}}
        )
    )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ((1, 6, 7, 8), "reference energies are those of the isolated atoms H C N O"),
        ((1, 6), "the isolated atoms H C do not cover N O of the data: set aside"),
    ],
)
def test_isolated_atoms_of_start_are_references_where_they_cover_the_data(
    elements: tuple[int, ...], says: str, tmp_path: Path, model_file: Path
) -> None:
    from dataclasses import replace

    pool = [*isolated((7,)), *rattled(9, seed=1)]
    path = campaign(tmp_path, model_file, [*isolated(elements), *emt_labelled(rattled(4, seed=2))], pool)
    watch = Watch()
    plan = replace(build_plan(load_campaign(path)), trainer=watch)
    running = Campaign(tmp_path / "c", plan, "emt")
    with pytest.warns(Notice) as notices:
        running.advance()
    texts = [str(w.message) for w in notices]
    assert any(says in text for text in texts), texts
    assert any("1 isolated atoms (config_type=IsolatedAtom) are never picked" in text for text in texts)
    for name, atoms in running.ask().items():
        running.tell(name, compute(EMT, atoms))
    assert running.advance().labels == 6
    assert watch.given["references"] == (ENERGY if len(elements) == 4 else {})
    assert not any(len(atoms) == 1 for atoms in watch.given["frames"])


def test_given_references_are_those_of_the_trained_potential(
    tmp_path: Path, potential: MacePotential
) -> None:
    frames = emt_labelled(rattled(4, seed=2))
    for atoms in frames:
        atoms.info["config_weight"] = 0.0  # would train on nothing
    given = {z: -100.0 - z for z in (1, 6, 7, 8)}
    trained = FineTuning(FineTuningSettings(updates=3, threads=1))(
        potential, frames, [], seed=0, workdir=tmp_path / "w", references=given
    )
    assert trained.reference_energies() == pytest.approx(given, rel=1e-6)
    settings = json.loads((tmp_path / "w" / "settings.json").read_text())
    assert settings["references"] == "isolated atoms"
    assert settings["E0_O"] == pytest.approx(-108.0)
    assert (settings["stress_structures"], settings["stress_used"]) == (0, False)
    assert "config_weight" not in (tmp_path / "w" / "train.extxyz").read_text()


def test_references_must_cover_what_is_trained_on(potential: MacePotential) -> None:
    frames = emt_labelled(rattled(4, seed=2))
    with pytest.raises(TrainingError, match="no isolated atom of"):
        shifts_to(potential.reference_energies(), {1: -1.0}, frames)
    shifts = shifts_to(potential.reference_energies(), {1: -5.0}, [])
    assert shifts == pytest.approx({1: -5.0 - potential.reference_energies()[1], 6: 0, 7: 0, 8: 0})


# ---- models that cannot be trained ---------------------------------------------------------------------


def test_models_that_cannot_be_trained_are_refused_and_others_are_not(potential: MacePotential) -> None:
    from mace.modules.lora import inject_LoRAs

    check_trainable(potential)  # all its weights are frozen, as in every file that Surveyor saves
    check_trainable(tiny_mace(max_L=1, max_ell=1, interactions=1))
    adapted = tiny_mace(interactions=1)
    inject_LoRAs(adapted.model)
    with pytest.raises(TrainingError, match="holds LoRA adapters"):
        check_trainable(adapted)
    with pytest.raises(TrainingError, match=r"\(MACE\) cannot be trained on"):
        check_trainable(tiny_mace(interactions=1, scale_shift=False))
    half = tiny_mace(interactions=1)
    half.model.to(torch.float16)
    with pytest.raises(TrainingError, match="is of float16"):
        check_trainable(half)


def test_compiled_models_are_refused() -> None:
    from e3nn.util import jit

    model = tiny_mace(interactions=1)
    scripted = MacePotential.__new__(MacePotential)
    scripted.model, scripted.source = jit.compile(model.model), "a.model"
    with pytest.raises(TrainingError, match="is a compiled model"):
        check_trainable(scripted)
