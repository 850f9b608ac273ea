"""Stresses in another unit, of another sign or order, and virials: found; sound ones are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.units import Bohr, GPa, Hartree

from surveyor.doctor.checks import examine_dataset
from surveyor.doctor.dataset import Role, dataset_of
from surveyor.doctor.findings import Level, Verdict
from surveyor.potentials.mace import MacePotential
from surveyor.progress import Silent
from surveyor.structures import with_labels
from surveyor.types import Labels
from tiny import random_crystal

Data = list[Atoms]


@pytest.fixture(scope="module")
def sound(potential: MacePotential) -> Data:
    """Crystals labelled by the potential itself, but for a fifth of noise, scaled to 20 GPa."""
    rng = np.random.default_rng(0)
    frames = [random_crystal(rng) for _ in range(12)]
    out = []
    for atoms, labels in zip(frames, potential.predict(frames), strict=True):
        stress = labels.stress * (1 + 0.2 * rng.normal(size=6))
        out.append(with_labels(atoms, Labels(labels.energy, labels.forces, stress)))
    return out


def scaled(factor: float) -> Callable[[Data], Data]:
    def plant(frames: Data) -> Data:
        for atoms in frames:
            atoms.info["REF_stress"] = atoms.info["REF_stress"] * factor
        return frames

    return plant


def virials(frames: Data) -> Data:
    for atoms in frames:
        atoms.info["REF_stress"] = -atoms.get_volume() * atoms.info["REF_stress"]
    return frames


def other_order(frames: Data) -> Data:
    for atoms in frames:
        atoms.info["REF_stress"] = atoms.info["REF_stress"][[0, 1, 2, 5, 3, 4]]  # xx yy zz xy yz zx
    return frames


def found(frames: Data, potential: MacePotential | None) -> dict[str, Verdict]:
    data = dataset_of("data", frames, Role.DATA)
    findings = examine_dataset(data, potential, Silent(), seed=0)
    return {finding.check: finding.verdict for finding in findings if "stress" in finding.check}


def test_sound_stresses_are_left_alone(sound: Data, potential: MacePotential) -> None:
    assert {f.level for f in found(sound, potential).values()} == {Level.OK}


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (scaled(1 / GPa), "GPa"),
        (scaled(10 / GPa), "kbar"),
        (scaled(1e4 / GPa), "bar"),
        (scaled(Bohr**3 / Hartree), "Hartree/Bohr³"),
        (scaled(-1.0), "point the other way"),
        (virials, "virials"),
        (other_order, "in the order xy, yz, zx"),
    ],
)
def test_planted_faults(
    plant: Callable[[Data], Data], says: str, sound: Data, potential: MacePotential
) -> None:
    rows = found(plant([atoms.copy() for atoms in sound]), potential)
    assert rows["stress unit"].level is Level.ERROR
    assert says in rows["stress unit"].found + rows["stress unit"].todo


def test_without_a_potential_a_bound_stands(sound: Data) -> None:
    rows = found(scaled(1e3 / GPa)([atoms.copy() for atoms in sound]), None)
    assert rows["stress"].level is Level.ERROR
    assert "eV/Å³ is expected" in rows["stress"].todo


def test_a_potential_that_does_not_follow_says_not_checked(sound: Data, potential: MacePotential) -> None:
    rng = np.random.default_rng(5)
    frames = [atoms.copy() for atoms in sound]
    for atoms in frames:
        atoms.info["REF_stress"] = rng.normal(size=6) * 0.1
    rows = found(frames, potential)
    assert rows["stress"].level is Level.OK
    assert rows["stress unit"].level is Level.NOT_CHECKED
    few = found(sound[:3], potential)["stress unit"]
    assert (few.level, "fewer than 5" in few.found) == (Level.NOT_CHECKED, True)


def test_shapes_and_molecules(sound: Data) -> None:
    frames = [atoms.copy() for atoms in sound]
    frames[4].info["REF_stress"] = np.ones(3)
    assert "frame 4" in found(frames, None)["stress"].found
    frames[4].info["REF_stress"] = np.eye(3).ravel() * 0.01  # 3×3 is fine
    assert found(frames, None)["stress"].level is Level.OK
    frames[4].pbc = False
    assert "a molecule has no stress" in found(frames, None)["stress"].found
