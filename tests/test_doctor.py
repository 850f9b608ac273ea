"""`surveyor doctor`: silent on a clean set, and every planted fault is found where it was planted."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.io import write
from ase.md.verlet import VelocityVerlet

from surveyor.doctor.checks import examine_file, examine_overlaps
from surveyor.doctor.dataset import Dataset, Role
from surveyor.doctor.findings import Finding, Level, Verdict, worst
from surveyor.labelling import GFN2, CalculatorSpec, compute
from surveyor.potentials import open_potential
from surveyor.progress import Silent
from surveyor.structures import with_labels
from surveyor.types import Labels, Potential

FRAMES = 14
GFN1 = CalculatorSpec(GFN2.path, {"method": "GFN1-xTB", "verbosity": 0}, "charge", "multiplicity")
Frames = list[Atoms]


def labelled(atoms: Atoms, spec: CalculatorSpec = GFN2) -> Atoms:
    labels = compute(spec, atoms)
    assert isinstance(labels, Labels), labels
    return with_labels(atoms, labels)


def trajectory(name: str, seed: int) -> Frames:
    """Frames 2 fs apart of a molecule at about 500 K by GFN2-xTB, after 20 fs, with their labels."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    atoms.calc = GFN2.build(atoms)
    thermal = np.sqrt(units.kB * 1000 * atoms.get_masses())[:, None]
    atoms.set_momenta(thermal * rng.normal(size=atoms.positions.shape))
    dynamics = VelocityVerlet(atoms, units.fs)
    dynamics.run(20)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(2)
        frame = Atoms(atoms.numbers, atoms.positions)
        frame.info |= {"reaction": name, "config_type": f"md-{seed}", "total_charge": 0, "total_spin": 1}
        frames.append(with_labels(frame, Labels(atoms.get_potential_energy(), atoms.get_forces())))
    return frames


@pytest.fixture(scope="module")
def clean() -> Frames:
    return [frame for name in ("CH3OH", "C2H6", "H2CO", "CH3NO2") for frame in trajectory(name, seed=1)]


@pytest.fixture(scope="module")
def held_out() -> Frames:
    return [frame for name in ("CH3OH", "C2H6") for frame in trajectory(name, seed=2)]


@pytest.fixture(scope="module")
def builtin() -> Potential:
    return open_potential("builtin", "cpu")


def copies_of(frames: Sequence[Atoms]) -> Frames:
    return [frame.copy() for frame in frames]


def examined(
    folder: Path, frames: Frames, potential: Potential, test: Frames | None = None, role: Role = Role.DATA
) -> list[Finding]:
    """The findings on these frames, by way of a file."""
    sets: list[Dataset] = []
    write(folder / "data.extxyz", frames, format="extxyz")
    found = list(examine_file(folder / "data.extxyz", role, potential, Silent(), sets, seed=0))
    if test is not None:
        write(folder / "test.extxyz", test, format="extxyz")
        found += examine_file(folder / "test.extxyz", Role.TEST, potential, Silent(), sets, seed=0)
    return [*found, *examine_overlaps(sets, Silent())]


def alarms(findings: Sequence[Finding]) -> dict[str, Verdict]:
    return {f.check: f.verdict for f in findings if f.verdict.level in (Level.WARNING, Level.ERROR)}


def scaled(frame: Atoms, energy: float, forces: float) -> None:
    frame.info["REF_energy"] *= energy
    frame.arrays["REF_forces"] *= forces


# ---- the faults, each on a copy of the clean set --------------------------------------------------------


def renamed(energy: str, forces: str, every: int = 1) -> Callable[[Frames], Frames]:
    def plant(frames: Frames) -> Frames:
        for frame in frames[::every]:
            frame.info[energy] = frame.info.pop("REF_energy")
            frame.arrays[forces] = frame.arrays.pop("REF_forces")
        return frames

    return plant


def in_units(energy: float, forces: float, every: int = 1) -> Callable[[Frames], Frames]:
    def plant(frames: Frames) -> Frames:
        for frame in frames[::every]:
            scaled(frame, energy, forces)
        return frames

    return plant


def no_forces(frames: Frames) -> Frames:
    for frame in frames[3:6]:
        del frame.arrays["REF_forces"]
    return frames


def nan_energy(frames: Frames) -> Frames:
    frames[7].info["REF_energy"] = float("nan")
    return frames


def infinite_force(frames: Frames) -> Frames:
    frames[7].arrays["REF_forces"][1, 2] = np.inf
    return frames


def two_columns(frames: Frames) -> Frames:
    frames[7].arrays["REF_forces"] = frames[7].arrays["REF_forces"][:, :2].copy()
    return frames


def zero_forces(frames: Frames) -> Frames:
    for frame in frames[::5]:
        frame.arrays["REF_forces"][:] = 0
    return frames


def unstated_cations(frames: Frames) -> Frames:
    for number in range(1, FRAMES, 2):
        frames[number].info |= {"total_charge": 1, "total_spin": 2}
        frames[number] = labelled(frames[number])
    for frame in frames:
        del frame.info["total_charge"], frame.info["total_spin"]
    return frames


def two_levels(frames: Frames) -> Frames:
    return [labelled(frame, GFN1) if number % 3 == 0 else frame for number, frame in enumerate(frames)]


def impossible_spin(frames: Frames) -> Frames:
    frames[2].info["total_spin"] = 2
    return frames


def unstated_doublet(frames: Frames) -> Frames:
    for frame in frames[:FRAMES]:
        del frame[-1]  # a hydrogen
        frame.info |= {"total_charge": 0, "total_spin": 2}
        again = labelled(frame)
        frame.info |= again.info
        frame.arrays |= again.arrays
        del frame.info["total_spin"]
    return frames


def multiplicity_zero(frames: Frames) -> Frames:
    for frame in frames:
        frame.info["total_spin"] = 0
    return frames


def charge_on_some(frames: Frames) -> Frames:
    for frame in frames[:10]:
        del frame.info["total_charge"]
    return frames


def repeated(frames: Frames) -> Frames:
    return [*frames, *copies_of(frames[:3])]


def turned(frames: Frames) -> Frames:
    for frame in copies_of(frames[:6]):
        frame.rotate(40, "x")
        frame.arrays["REF_forces"] = frame.arrays["REF_forces"] @ _rotation_x(40).T
        frame.positions += 1.5
        frames.append(frame)
    return frames


def _rotation_x(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def contradicting(frames: Frames) -> Frames:
    again = frames[5].copy()
    again.info["REF_energy"] += 0.7
    return [*frames, again]


def unknown_element(frames: Frames) -> Frames:
    frames[4].numbers[0] = 14
    return frames


def too_close(frames: Frames) -> Frames:
    frames[4].positions[1] = frames[4].positions[0] + [0, 0, 0.1]
    return frames


def nan_position(frames: Frames) -> Frames:
    frames[4].positions[1, 0] = np.nan
    return frames


def exploded(frames: Frames) -> Frames:
    frames[4].positions[-1] += 25
    return frames


def in_bohr(frames: Frames) -> Frames:
    for frame in frames:
        frame.positions /= units.Bohr
    return frames


def no_cell(frames: Frames) -> Frames:
    for frame in frames:
        frame.pbc = True
    return frames


def shuffled_forces(frames: Frames) -> Frames:
    """Labels of other frames: each trajectory's in the order of a seeded draw."""
    rng = np.random.default_rng(0)
    for start in range(0, len(frames), FRAMES):
        part = frames[start : start + FRAMES]
        forces = [frame.arrays["REF_forces"].copy() for frame in part]
        for frame, other in zip(part, rng.permutation(FRAMES), strict=True):
            frame.arrays["REF_forces"] = forces[other]
    return frames


def other_atom_order(frames: Frames) -> Frames:
    for frame in frames:
        frame.arrays["REF_forces"] = frame.arrays["REF_forces"][::-1].copy()
    return frames


def fixed_atom(frames: Frames) -> Frames:
    for frame in frames:
        frame.arrays["REF_forces"][0] = 0
    return frames


def wrong_energy(frames: Frames) -> Frames:
    frames[9].info["REF_energy"] += 30
    return frames


HARTREE_BOHR = units.Bohr / units.Hartree
KCAL = units.mol / units.kcal
KJ = units.mol / units.kJ

# fault → the check that must find it, a word of what it says, and what else may sound the alarm with it
FAULTS: dict[str, tuple[Callable[[Frames], Frames], str, str, set[str]]] = {
    "energy and forces": (renamed("energy", "forces"), "keys", "'energy'", set()),
    "other names": (renamed("dft_energy", "dft_forces"), "keys", "'dft_energy'", set()),
    "short names": (renamed("E", "force"), "keys", "'E'", set()),
    "names mixed": (renamed("Energy", "forces", every=4), "keys", "several names", set()),
    "forces missing": (no_forces, "missing labels", "no forces in 3", set()),
    "NaN energy": (nan_energy, "finite labels", "frame 7", set()),
    "infinite force": (infinite_force, "finite labels", "frame 7", set()),
    "wrong shape": (two_columns, "finite labels", "(6, 2)", set()),
    "zeros for forces": (zero_forces, "placeholders", "frames 0, 5", {"gradient"}),
    "all in kcal/mol": (in_units(KCAL, KCAL), "force unit", "kcal/mol/Å", {"energy unit", "references"}),
    "energies in kcal/mol": (in_units(KCAL, 1), "energy unit", "kcal/mol", {"gradient", "references"}),
    "forces in kcal/mol": (in_units(1, KCAL), "force unit", "kcal/mol/Å", {"gradient"}),
    "all in kJ/mol": (in_units(KJ, KJ), "force unit", "kJ/mol/Å", {"energy unit", "references"}),
    "energies in Hartree": (in_units(1 / units.Hartree, 1), "energy unit", "Hartree", {"gradient"}),
    "forces in Hartree/Bohr": (in_units(1, HARTREE_BOHR), "force unit", "Hartree/Bohr", {"gradient"}),
    "all in Hartree, Bohr": (
        in_units(1 / units.Hartree, HARTREE_BOHR), "force unit", "Hartree/Bohr", {"energy unit", "gradient"},
    ),
    "forces in eV/Bohr": (in_units(1, units.Bohr), "gradient", "eV/Bohr", set()),
    "gradients": (in_units(1, -1), "force unit", "multiply them by −1", {"gradient"}),
    "some gradients": (in_units(1, -1, every=5), "force unit", "gradients", {"gradient"}),
    "some in kcal/mol": (in_units(1, KCAL, every=5), "force unit", "kcal/mol/Å", {"gradient", "net force"}),
    "ions without charge": (unstated_cations, "two groups", "CH4O", {"gradient", "outliers", "copies"}),
    "two levels of theory": (two_levels, "two groups", "two levels", {"gradient", "outliers"}),
    "impossible spin": (impossible_spin, "charge and spin", "cannot be", {"charges"}),
    "doublets, not stated": (unstated_doublet, "charge and spin", "no total_spin", {"gradient"}),
    "multiplicity 0": (multiplicity_zero, "charge and spin", "2S+1", set()),
    "charge on some": (charge_on_some, "charge and spin", "10 do not", set()),
    "repeated frames": (repeated, "copies", "3 of 59", set()),
    "turned copies": (turned, "copies", "turned", set()),
    "contradicting labels": (contradicting, "copies", "0.70 eV", {"outliers"}),
    "unknown element": (unknown_element, "elements", "Si unknown", {"charge and spin"}),
    "atoms too close": (too_close, "geometry", "0.100 Å apart", set()),
    "NaN position": (nan_position, "geometry", "frame 4", set()),
    "exploded": (exploded, "geometry", "frame 4", {"gradient", "outliers", "net force"}),
    "positions in Bohr": (in_bohr, "geometry", "Bohr", {"gradient", "force unit", "energy unit"}),
    "no cell": (no_cell, "cell", "without a cell", set()),
    "forces of other frames": (shuffled_forces, "gradient", "not the gradient", {"force unit", "net force"}),
    "other order of atoms": (other_atom_order, "net force", "torque", {"gradient", "force unit"}),
    "fixed atom": (fixed_atom, "net force", "do not sum to zero", {"gradient"}),
    "wrong energy": (wrong_energy, "outliers", "frame 9", {"two groups"}),
}  # fmt: skip


def test_silent_on_a_clean_set(tmp_path: Path, clean: Frames, held_out: Frames, builtin: Potential) -> None:
    found = examined(tmp_path, copies_of(clean), builtin, test=copies_of(held_out))
    assert alarms(found) == {}
    assert worst(found) is Level.OK
    checked = {f.check for f in found if f.verdict.level is Level.OK}
    assert {check for _, check, _, _ in FAULTS.values()} | {"leakage"} <= checked  # none was skipped


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(fault: str, tmp_path: Path, clean: Frames, builtin: Potential) -> None:
    plant, check, says, others = FAULTS[fault]
    found = alarms(examined(tmp_path, plant(copies_of(clean)), builtin))
    assert check in found
    assert says in f"{found[check].found} {found[check].todo}"
    assert found[check].todo
    assert found.keys() <= {check} | others


@pytest.mark.parametrize("role", [Role.START, Role.TEST])
def test_labels_that_a_role_needs(role: Role, tmp_path: Path, clean: Frames, builtin: Potential) -> None:
    bare = [Atoms(frame.numbers, frame.positions) for frame in clean]
    assert alarms(examined(tmp_path, bare, builtin)) == {}
    assert alarms(examined(tmp_path, bare, builtin, role=role))["keys"].level is Level.ERROR
    foreign = renamed("dft_energy", "dft_forces")(copies_of(clean))
    assert alarms(examined(tmp_path, foreign, builtin, role=role))["keys"].level is Level.ERROR
    assert alarms(examined(tmp_path, foreign, builtin, role=Role.POOL)) == {}


def test_leakage_of_whole_frames(tmp_path: Path, clean: Frames, builtin: Potential) -> None:
    found = alarms(examined(tmp_path, copies_of(clean), builtin, test=copies_of(clean[3:40])))["leakage"]
    assert found.level is Level.ERROR
    assert "37 of 37" in found.found


def test_leakage_of_near_copies(tmp_path: Path, clean: Frames, builtin: Potential) -> None:
    near = copies_of(clean[:FRAMES])
    rng = np.random.default_rng(0)
    for frame in near:
        frame.positions += rng.normal(0, 0.003, frame.positions.shape)
        frame.rotate(50, "z")
    near = [labelled(frame) for frame in near]
    found = alarms(examined(tmp_path, copies_of(clean), builtin, test=near))["leakage"]
    assert "near-copy" in found.found


def test_leakage_by_a_split_by_frame(tmp_path: Path, clean: Frames, builtin: Potential) -> None:
    apart = np.arange(len(clean)) % 5 == 2
    train = [frame for frame, test in zip(clean, apart, strict=True) if not test]
    test = [frame for frame, test in zip(clean, apart, strict=True) if test]
    assert "leakage" in alarms(examined(tmp_path, copies_of(train), builtin, test=copies_of(test)))


def test_many_reactions_in_both(tmp_path: Path, clean: Frames, held_out: Frames, builtin: Potential) -> None:
    train, test = copies_of(clean), copies_of(held_out)
    for part in (train, test):
        for number, frame in enumerate(part):
            frame.info["reaction"] = f"r{number % 25}"
    found = alarms(examined(tmp_path, train, builtin, test=test))["leakage"]
    assert "25 of 25 test reactions" in found.found


def test_a_file_cut_short(tmp_path: Path, clean: Frames, builtin: Potential) -> None:
    buffer = io.StringIO()
    write(buffer, clean[:3], format="extxyz")
    path = tmp_path / "cut.extxyz"
    path.write_text(buffer.getvalue()[:-60])
    found = list(examine_file(path, Role.DATA, builtin, Silent(), [], seed=0))
    assert [f.check for f in found] == ["readable"]
    assert found[0].verdict.level is Level.ERROR
