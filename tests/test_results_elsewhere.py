"""What comes back from elsewhere and is no label, or not of this structure; and what is passed over."""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from molecules import rattled
from planted import plant
from surveyor.errors import LabellingError, Notice
from surveyor.labelling import Ledger
from surveyor.labelling.batch import export_batch, open_batch
from surveyor.labelling.converged import convergence
from surveyor.labelling.frames import Frame, labels_in, zeroed
from surveyor.labelling.handoff import Collected, collect
from surveyor.labelling.likely import REACH, Candidates, fingerprint
from surveyor.labelling.matching import match
from surveyor.labelling.outputs import OutputSettings, read_output
from surveyor.labelling.reading_apart import ApartReader, Fault
from surveyor.labelling.rigid import imbalance, undecided
from surveyor.structures import structure_id, with_labels
from surveyor.types import Float64Array, Labels


def springs(atoms: Atoms, length: float = 1.1) -> Labels:
    """Energy and forces of springs between all pairs; exact, and cheap."""
    vectors = atoms.positions[:, None] - atoms.positions[None]
    distances = np.linalg.norm(vectors, axis=-1) + np.eye(len(atoms))
    off = ~np.eye(len(atoms), dtype=bool)
    energy = float((0.25 * (distances - length) ** 2)[off].sum())
    return Labels(energy, -(((distances - length) / distances * off)[..., None] * vectors).sum(axis=1))


def result(atoms: Atoms, positions: Float64Array, forces: Float64Array) -> Atoms:
    moved = Atoms(atoms.numbers, positions)
    moved.calc = SinglePointCalculator(moved, energy=springs(atoms).energy, forces=forces)
    return moved


def look(
    folder: Path, structures: list[Atoms], frames: list[Atoms], *, align: bool = False
) -> tuple[Collected, Ledger]:
    """Collect an extended xyz of these frames for a batch of these structures."""
    export_batch(structures, folder / "batch", method="springs", campaign=None, separate=False)
    ase.io.write(folder / "results.extxyz", frames, format="extxyz")
    ledger = Ledger(folder / "labels", "springs")
    return collect(open_batch(folder / "batch"), [folder / "results.extxyz"], ledger, align=align), ledger


# ---- forces belong to the geometry --------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0, 4e-3))
def test_sound_forces_always_pass_and_foreign_ones_do_not(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    names = ("H2O", "NH3", "CH3OH", "C2H6", "C6H6", "HCN", "CO2", "H2")
    atoms = rattled(8, seed, names)[seed % 8]
    forces = springs(atoms).forces + rng.normal(0, noise, atoms.positions.shape)
    assert imbalance(atoms.positions, forces) == ""
    if len(atoms) >= 4:
        turned = Rotation.random(random_state=seed).apply(forces)
        if np.abs(turned - forces).max() > 1.5:
            assert "net torque" in imbalance(atoms.positions, turned)
        lopsided = forces.copy()
        lopsided[0] += [0.0, 0.0, 5.0]
        assert "net force" in imbalance(atoms.positions, lopsided)


def test_relaxed_structures_single_atoms_and_ions_pass() -> None:
    rng = np.random.default_rng(0)
    for atoms in (molecule("C6H6"), molecule("H2"), Atoms("Cl"), Atoms("ClCH3Cl", rng.normal(0, 2, (6, 3)))):
        for _ in range(50):
            assert imbalance(atoms.positions, rng.normal(0, 4e-3, atoms.positions.shape)) == ""
    assert "net force" in imbalance(np.zeros((1, 3)), np.array([[0.3, 0, 0]]))


@pytest.mark.parametrize("name", ["H2O", "CO2", "C6H6", "HCN", "C2H4"])
def test_a_half_turn_of_a_planar_molecule_leaves_its_forces_open(name: str) -> None:
    flat = molecule(name)
    normal = np.linalg.svd(flat.positions - flat.positions.mean(axis=0))[2][2]
    shifts = np.random.default_rng(1).normal(0, 0.08, flat.positions.shape)
    flat.positions += shifts - np.outer(shifts @ normal, normal)
    half = Rotation.from_rotvec(np.pi * normal)
    batch, turned = Candidates({"flat": flat}, 1e-3), Atoms(flat.numbers, half.apply(flat.positions))
    forces = springs(flat).forces
    for either in (forces, half.apply(forces)):  # left as they were, or turned: nobody can tell
        found = match(turned, Labels(0.0, either), batch, align=True)
        assert found.labels is None
        assert "may or may not have gone along" in found.reason


def test_a_sound_result_is_taken_beside_one_that_leaves_it_open(tmp_path: Path) -> None:
    flat, sound = rattled(2, 3, ("H2O", "CH3OH"))
    half = Rotation.from_rotvec(np.pi * np.linalg.svd(flat.positions - flat.positions.mean(axis=0))[2][2])
    frames = [
        result(flat, half.apply(flat.positions), springs(flat).forces),
        result(sound, half.apply(sound.positions) + 1, half.apply(springs(sound).forces)),
    ]
    found, ledger = look(tmp_path, [flat, sound], frames, align=True)
    assert "may or may not have gone along" in found.rejected[0].reason
    (label,) = ledger.structures.values()
    np.testing.assert_allclose(label.arrays["REF_forces"], springs(sound).forces, atol=1e-6)


def test_a_shift_and_a_clear_turn_are_undone_for_planar_molecules(tmp_path: Path) -> None:
    water = rattled(1, 4, ("H2O",))[0]
    turn = Rotation.from_euler("xyz", [10, 70, 40], degrees=True)
    for rotation in (Rotation.identity(), turn):
        batch = Candidates({structure_id(water): water}, 1e-3)
        moved = Atoms(water.numbers, rotation.apply(water.positions) + np.array([3, -1, 2]))
        labels = Labels(0.0, rotation.apply(springs(water).forces))
        found = match(moved, labels, batch, align=True)
        assert found.labels is not None, found.reason
        np.testing.assert_allclose(found.labels.forces, springs(water).forces, atol=1e-9)


def test_the_reader_of_a_program_vouches_for_one_frame() -> None:
    water = rattled(1, 4, ("H2O",))[0]
    normal = np.cross(water.positions[1] - water.positions[0], water.positions[2] - water.positions[0])
    half = Rotation.from_rotvec(np.pi * normal / np.linalg.norm(normal))
    batch = Candidates({structure_id(water): water}, 1e-3)
    turned = Atoms(water.numbers, half.apply(water.positions))
    labels = Labels(0.0, half.apply(springs(water).forces))
    assert match(turned, labels, batch, align=True).labels is None
    found = match(turned, labels, batch, align=True, certain=True)
    assert found.labels is not None
    np.testing.assert_allclose(found.labels.forces, springs(water).forces, atol=1e-9)


def test_forces_in_another_order_or_frame_are_refused_in_place(tmp_path: Path) -> None:
    atoms, other, sound = rattled(3, 5, ("C2H6",))
    forces = springs(atoms).forces
    turned = Rotation.from_euler("y", 50, degrees=True).apply(springs(other).forces)
    found, ledger = look(
        tmp_path,
        [atoms, other, sound],
        [
            result(atoms, atoms.positions, forces[np.roll(np.arange(8), 3)]),
            result(other, other.positions, turned),
            result(sound, sound.positions, springs(sound).forces),
        ],
    )
    assert [("net torque" in r.reason) for r in found.rejected] == [True, True]
    assert list(ledger.structures) == [structure_id(sound)]


def test_swapped_atoms_of_a_symmetric_molecule_leave_its_forces_open() -> None:
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.9]])
    batch = Candidates({structure_id(hydrogen): hydrogen}, 1e-3)
    forces = np.array([[0, 0, 0.5], [0, 0, -0.5]])
    swapped = Atoms("H2", hydrogen.positions[::-1])
    assert "may or may not" in match(swapped, Labels(0.0, forces[::-1]), batch, align=False).reason
    assert match(hydrogen, Labels(0.0, forces), batch, align=False).labels is not None
    assert undecided(hydrogen.positions, forces, forces) == ""


# ---- matching -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_fingerprint_moves_no_more_than_the_atoms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tolerance = 1e-3
    molecules = rattled(1, seed, ("CH3OH",))[0]
    crystal = bulk("NaCl", "rocksalt", a=5.64) * (1, 2, 1)
    crystal.rattle(0.2, seed=seed)
    for atoms in (molecules, crystal):
        order = rng.permutation(len(atoms))
        moved = atoms[order]
        shifts = rng.normal(size=moved.positions.shape)
        moved.positions += tolerance * shifts / np.linalg.norm(shifts, axis=1, keepdims=True)
        if atoms.pbc.any():
            moved.set_cell(atoms.cell.array + rng.uniform(-tolerance, tolerance, (3, 3)))
            moved.positions += rng.integers(-3, 4, moved.positions.shape) @ moved.cell.array
        else:
            moved.positions = Rotation.random(random_state=seed).apply(moved.positions) + 5
        assert np.abs(fingerprint(moved) - fingerprint(atoms)).max() <= REACH * tolerance


def test_thousands_of_structures_of_one_kind_are_told_apart_without_comparing_all() -> None:
    structures = rattled(3000, 6, ("CH3OH",))
    batch = Candidates({str(number): atoms for number, atoms in enumerate(structures)}, 1e-3)
    likely = [len(list(batch.like(atoms))) for atoms in structures[::100]]
    assert min(likely) >= 1
    assert sum(likely) < 3 * len(likely)
    for number in (0, 1234, 2999):
        found = match(structures[number], springs(structures[number]), batch, align=False)
        assert found.name == str(number)


def test_two_magnetic_orders_are_two_structures() -> None:
    up, down = bulk("Fe", a=2.8, cubic=True), bulk("Fe", a=2.8, cubic=True)
    for atoms, moments in ((up, [2.0, 2.0]), (down, [2.0, -2.0])):
        atoms.positions[1] += 0.05
        atoms.set_initial_magnetic_moments(moments)
    batch = Candidates({"up": up, "down": down}, 1e-3)
    labels = Labels(-1.0, np.array([[0.1, 0.1, 0.1], [-0.1, -0.1, -0.1]]))
    assert match(down, labels, batch, align=False).name == "down"
    bare = Atoms(up.numbers, up.positions, cell=up.cell, pbc=True)
    assert "ambiguous" in match(bare, labels, batch, align=False).reason
    assert "initial_magmoms" in match(down, labels, Candidates({"up": up}, 1e-3), align=False).reason


# ---- what is no label ---------------------------------------------------------------------------------

ORCA = "                         * O   R   C   A *\n"
SAID = {
    "orca": (ORCA + "SCF NOT CONVERGED AFTER 125 CYCLES\nORCA TERMINATED NORMALLY\n", "SCF NOT CONVERGED"),
    "orca-cut": (ORCA + "FINAL SINGLE POINT ENERGY  -1.0\n", "did not come to its end"),
    "orca-error": (ORCA + "ORCA finished by error termination in SCF\n", "finished by error"),
    "orca-good": (ORCA + "SCF CONVERGED AFTER 9 CYCLES\nORCA TERMINATED NORMALLY\n", None),
    "gaussian": (
        " Entering Gaussian System\n Convergence failure -- run terminated.\n",
        "Convergence failure",
    ),
    "gaussian-good": (" Entering Gaussian System\n Normal termination of Gaussian 16\n", None),
    "cp2k": (
        " CP2K| version 2024\n *** SCF run NOT converged ***\n PROGRAM ENDED AT\n",
        "SCF run NOT converged",
    ),
    "espresso": (" Program PWSCF v.7\n convergence NOT achieved after 100 iterations\n", "NOT achieved"),
    "espresso-good": (
        " Program PWSCF v.7\n convergence has been achieved in 9 iterations\n JOB DONE.\n",
        None,
    ),
    "aims": (
        " Invoking FHI-aims ...\n * WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE\n",
        "DID NOT CONVERGE",
    ),
    "nwchem": (" Northwest Computational Chemistry Package\n Calculation failed to converge\n", "failed to"),
    "psi4": (
        "Psi4: An Open-Source Ab Initio\nPsiException: Could not converge SCF iterations\n",
        "Could not",
    ),
    "qchem": (
        "Welcome to Q-Chem\n SCF failed to converge\nThank you very much for using Q-Chem.\n",
        "failed",
    ),
    "xtb": (" * xtb version 6.5.1\n abnormal termination of xtb\n", "abnormal termination"),
    "gpaw": ("  ___ ___ ___ _ _ _\nDid not converge!\n", "Did not converge"),
    "turbomole": ("  TURBOMOLE V7\n ATTENTION: dscf did not converge!\n", "did not converge"),
    "castep": (
        " CASTEP version 20\n*Warning* max. SCF cycles performed but system has not reached\n",
        "max. SCF",
    ),
    "another": ("my own program\nThe SCF has not converged!\n", "SCF has not converged"),
    "prose": ("notes: all converged\n", None),
}


@pytest.mark.parametrize("name", SAID)
def test_programs_that_say_that_they_did_not_converge(tmp_path: Path, name: str) -> None:
    text, expected = SAID[name]
    path = tmp_path / "job.out"
    # Far down, across the border of two pieces.
    head, rest = text.split("\n", 1)
    for filler in (0, 2**20 - len(head) - 9, 2**20 - len(head) - 300):
        path.write_text(f"{head}\n{' ' * filler}\n{rest}")
        said = convergence(path).of()
        assert (said is None) if expected is None else (said is not None and expected in said)


def orca(atoms: Atoms, remark: str) -> str:
    """An output of ORCA as far as ASE reads it, with a gradient of zero net torque."""
    places = "".join(
        f"  {s} {x[0]:.6f} {x[1]:.6f} {x[2]:.6f}\n"
        for s, x in zip(atoms.symbols, atoms.positions, strict=True)
    )
    gradient = -springs(atoms).forces * Bohr / Hartree
    rows = "".join(
        f"  {i + 1} {s} : {g[0]:.9f} {g[1]:.9f} {g[2]:.9f}\n"
        for i, (s, g) in enumerate(zip(atoms.symbols, gradient, strict=True))
    )
    return (
        f"{ORCA}{remark}\nNumber of atoms             ... {len(atoms)}\n"
        f"CARTESIAN COORDINATES (ANGSTROEM)\n---\n{places}\nFINAL SINGLE POINT ENERGY  -76.25\n"
        f"CARTESIAN GRADIENT\n---\n\n{rows}\n        ****ORCA TERMINATED NORMALLY****\n"
    )


def test_an_unconverged_output_is_no_label_here_nor_of_a_program_that_was_run(tmp_path: Path) -> None:
    structures = rattled(2, 13, ("CH3OH",))
    settings = OutputSettings(file="job.out", format="orca-output")
    for number, remark in enumerate(("SCF CONVERGED AFTER 9 CYCLES", "SCF NOT CONVERGED AFTER 125 CYCLES")):
        (tmp_path / str(number)).mkdir()
        for name in ("job.out", "stdout", "stderr"):
            (tmp_path / str(number) / name).write_text(
                orca(structures[number], remark) if name[0] == "j" else ""
            )
    export_batch(structures, tmp_path / "batch", method="m", campaign=None, separate=False)
    paths = [tmp_path / "0", tmp_path / "1"]
    found = collect(open_batch(tmp_path / "batch"), paths, Ledger(tmp_path / "labels", "m"))
    assert list(found.new) == [structure_id(structures[0])]
    assert "not converged: ORCA says 'SCF NOT CONVERGED'" in found.rejected[0].reason
    assert read_output(settings, paths[0], structures[0])["energy"] == pytest.approx(-76.25 * Hartree)
    with pytest.raises(CalculationFailed, match="SCF NOT CONVERGED"):
        read_output(settings, paths[1], structures[1])


def outcar(steps: list[tuple[int, bool]], limit: int) -> str:
    """Electronic steps of each ionic step, and whether EDIFF was reached."""
    text = f" vasp.6.3.0\n   NELM   = {limit:6d};   NELMIN=  2\n"
    for ionic, (count, reached) in enumerate(steps, 1):
        text += "".join(f"------ Iteration {ionic:6d}({k:4d}) ------\n" for k in range(1, count + 1))
        text += "------ aborting loop because EDIFF is reached ------\n" if reached else ""
    return text


def vasprun(steps: list[int], limit: int) -> str:
    body = "".join("<calculation>" + "<scstep></scstep>" * count + "</calculation>" for count in steps)
    return f'<modeling><incar><i type="int" name="NELM">{limit:6d}</i></incar>{body}</modeling>'


def test_vasp_is_judged_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "OUTCAR"
    path.write_text(outcar([(9, True), (40, False), (40, True), (7, True)], 40))
    assert [convergence(path, "vasp-out").of(k) is None for k in range(4)] == [True, False, True, True]
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun([12, 40, 3], 40))
    assert [convergence(path, "vasp-xml").of(k) is None for k in range(3)] == [True, False, True]
    assert "NELM = 40" in str(convergence(path).of(1))
    path.write_text("<modeling>" + "<calculation>" + "<scstep/>" * 60 + "</calculation>")
    assert "NELM = 60" in str(convergence(path).of())  # VASP's own limit, where none stands


def frame(atoms: Atoms, form: str = "vasp-xml", **results: object) -> Frame:
    return Frame("here", atoms, dict(results), form)


def test_numbers_that_readers_make_up_are_no_labels() -> None:
    water = molecule("H2O")
    forces = springs(water).forces.tolist()
    with pytest.raises(Exception, match="no energy: a LAMMPS dump holds no energy"):
        labels_in(frame(water, "lammps-dump-text", energy=0.0, forces=forces))
    with pytest.raises(Exception, match="placeholder, no energy"):
        labels_in(frame(water, energy=0.0, forces=forces))
    for bad in ("********", True, "1,234.5", [1.0, 2.0], float("nan"), {"a": 1}):
        with pytest.raises(Exception, match=r"no numbers|not real numbers|shape|NaN"):
            labels_in(frame(water, energy=bad, forces=forces))
        named = water.copy()
        named.info["REF_energy"], named.arrays["REF_forces"] = bad, np.array(forces)
        with pytest.raises(Exception, match=r"no numbers|not real numbers|shape|NaN"):
            labels_in(frame(named))
    for flag in (
        {"converged": False},
        {"scf_converged": "F"},
        {"unconverged": True},
        {"electronic_converged": 0},
    ):
        flagged = water.copy()
        flagged.info |= flag
        with pytest.raises(Exception, match="not converged"):
            labels_in(frame(flagged, energy=-1.0, forces=forces))
    fine = water.copy()
    fine.info |= {"converged": True, "n_converged": 3}
    assert labels_in(frame(fine, energy=-1.0, forces=forces))[0].energy == -1.0


def test_the_energy_is_the_one_whose_gradient_the_forces_are(tmp_path: Path) -> None:
    water = molecule("H2O")
    forces = springs(water).forces.tolist()
    assert labels_in(frame(water, energy=-1.0, free_energy=-1.2, forces=forces))[0].energy == -1.2
    assert labels_in(frame(water, energy=-1.0, free_energy=-1.0, forces=forces))[1] == ""
    assert labels_in(frame(water, free_energy=-1.2, forces=forces))[0].energy == -1.2
    structures = rattled(2, 7, ("CH4",))
    smeared = result(structures[0], structures[0].positions, springs(structures[0]).forces)
    smeared.calc.results["free_energy"] = springs(structures[0]).energy - 0.25
    with pytest.warns(Notice, match="1 results hold several energies: their free energies were taken"):
        found, ledger = look(tmp_path, structures, [smeared])
    (label,) = ledger.structures.values()
    assert label.info["REF_energy"] == pytest.approx(springs(structures[0]).energy - 0.25, abs=1e-7)
    assert found.free_energies == [structure_id(structures[0])]
    assert label.info["surveyor_energy"] == "free energy"


def test_forces_of_exactly_zero_need_a_symmetry() -> None:
    fcc = bulk("Cu", cubic=True)
    zeros = np.zeros((4, 3))
    assert zeroed(fcc, zeros) == ""
    shaken = fcc.copy()
    shaken.positions[0, 0] += 0.05
    assert "no symmetry" in zeroed(shaken, zeros)
    assert "no symmetry" in zeroed(molecule("H2O"), np.zeros((3, 3)))
    assert zeroed(Atoms("H"), np.zeros((1, 3))) == ""
    assert zeroed(Atoms("H2", [[0, 0, 0], [0, 0, 9]]), np.zeros((2, 3))) == ""
    fixed = np.array([[0.5, 0.1, 0], [0.2, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert "were these atoms fixed" in zeroed(shaken, fixed)


@pytest.mark.parametrize("name", ["a.lammpstrj", "forces.out", "dump.xyz", "a.lammpstrj.gz", "dump"])
def test_a_dump_holds_no_energy_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    rows = "".join(
        f"{i + 1} 1 {s} {x[0]:.8f} {x[1]:.8f} {x[2]:.8f} 0.1 0 0\n"
        for i, (s, x) in enumerate(zip(molecule("CH4").symbols, molecule("CH4").positions + 5, strict=True))
    )
    box = "ITEM: BOX BOUNDS pp pp pp\n" + "0.0 10.0\n" * 3
    head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n5\n{box}"
    text = f"{head}ITEM: ATOMS id type element x y z fx fy fz\n{rows}"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    with ApartReader() as reader:
        (found,) = reader.read(tmp_path / name)
    assert isinstance(found, Frame)
    with pytest.raises(Exception, match="a LAMMPS dump holds no energy"):
        labels_in(found)


# ---- batches and files that may have been anywhere ----------------------------------------------------


def exported(folder: Path, n: int = 3) -> Path:
    export_batch(rattled(n, 8, ("CH3OH",)), folder / "batch", method="m", campaign=None, separate=True)
    return folder / "batch"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "../x"),
        ("method", "/abs"),
        ("method", ".hidden"),
        ("method", ""),
        ("method", 5),
        ("method", "a\nb"),
        ("method", "a" * 201),
        ("campaign", "relative"),
        ("campaign", 3),
        ("campaign", "/a\0b"),
        ("ids", {}),
        ("ids", []),
        ("ids", ["../../x"]),
        ("ids", None),
        ("schema", 9),
        ("schema", [1]),
    ],
)
def test_a_manifest_that_was_edited_is_one_error(tmp_path: Path, key: str, value: object) -> None:
    batch = exported(tmp_path)
    content = json.loads((batch / "batch.json").read_text())
    (batch / "batch.json").write_text(json.dumps({**content, key: value}))
    with pytest.raises(LabellingError, match=r"batch\.json"):
        open_batch(batch)


@pytest.mark.parametrize("text", ["[" * 100_000, "", "nul", '{"schema": NaN}', "\udcff", "9" * 5000])
def test_a_manifest_that_is_none_is_one_error(tmp_path: Path, text: str) -> None:
    batch = exported(tmp_path)
    (batch / "batch.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LabellingError, match=r"batch\.json"):
        open_batch(batch)


def test_a_batch_that_came_back_edited_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    batch = exported(tmp_path)
    frames = ase.io.read(batch / "structures.extxyz", ":")
    frames[1].positions[0] += 0.01
    ase.io.write(batch / "structures.extxyz", frames, format="extxyz")
    with pytest.raises(LabellingError, match="frame 1 is"):
        open_batch(batch)
    ase.io.write(batch / "structures.extxyz", frames[::2], format="extxyz")
    with pytest.raises(LabellingError, match="2 frames, not 3"):
        open_batch(batch)


def test_labels_are_not_written_through_links(tmp_path: Path) -> None:
    batch = exported(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (batch / "labels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabellingError, match="is a link"):
        open_batch(batch)
    (batch / "labels").unlink()
    (batch / "labels").mkdir()
    (batch / "labels" / "m.extxyz").symlink_to(tmp_path / "elsewhere" / "precious")
    with pytest.raises(LabellingError, match="is a link"):
        open_batch(batch)


def test_an_export_writes_over_nothing(tmp_path: Path) -> None:
    structures = rattled(2, 9)
    for number, name in enumerate(("structures.extxyz", "README.txt", "xyz", "batch.json")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).symlink_to("nothing")
        with pytest.raises(LabellingError, match="already"):
            export_batch(structures, folder, method="m", campaign=None, separate=True)
        assert [p.name for p in folder.iterdir()] == [name]
    batch = exported(tmp_path)
    (batch / "README.txt").write_text("my notes\n")
    (batch / "structures.extxyz").unlink()
    exported(tmp_path)  # what is missing is written again, and what is there stays
    assert (batch / "README.txt").read_text() == "my notes\n"
    assert len(open_batch(batch).structures) == 3


def test_results_written_into_the_single_files_are_found(tmp_path: Path) -> None:
    batch = exported(tmp_path)
    path = sorted((batch / "xyz").iterdir())[1]
    atoms = ase.io.read(path, format="extxyz")
    ase.io.write(path, with_labels(atoms, springs(atoms)), format="extxyz")
    found = collect(open_batch(batch), [batch], Ledger(tmp_path / "labels", "m"))
    assert list(found.new) == [structure_id(atoms)]
    assert (found.rejected, found.passed_over) == ([], [])


def test_a_reader_that_hangs_or_eats_memory_is_stopped(tmp_path: Path) -> None:
    good, many = tmp_path / "good.xyz", tmp_path / "many.xyz"
    good.write_text("1\nenergy=-1.0\nH 0 0 0\n")
    many.write_text("4000000\n\n" + "H 0 0 0\n" * 4_000_000)
    with ApartReader(seconds=60, memory=400 * 2**20) as reader:
        (fault,) = reader.read(many)
        assert isinstance(fault, Fault)
        assert "memory" in fault.reason
        assert [type(one) for one in reader.read(good)] == [Frame]
    with ApartReader(seconds=0.001) as reader:
        (fault,) = reader.read(many)
        assert "gave nothing for" in str(fault)
    with ApartReader() as reader:
        child = reader._ask({"path": str(good), "seconds": 20})
        os.kill(child.pid, signal.SIGSTOP)
        os.kill(child.pid, signal.SIGKILL)
        assert "SIGKILL" in reader._death(20)


def test_planted_files_stop_nothing(tmp_path: Path) -> None:
    structures = rattled(4, 10, ("CH3OH",))
    export_batch(structures, tmp_path / "batch", method="m", campaign=None, separate=False)
    results = tmp_path / "results"
    planted = plant(results, np.random.default_rng(3), 26)
    ase.io.write(results / "zz.extxyz", [with_labels(a, springs(a)) for a in structures[:2]], format="extxyz")
    bad = '3\nProperties=species:S:1:pos:R:3 energy="\nH 0 0\nH 0 0 0\nH 0 0 1\n'
    good = (results / "zz.extxyz").read_text()
    ase.io.write(results / "y.extxyz", [with_labels(a, springs(a)) for a in structures[2:]], format="extxyz")
    (results / "y.extxyz").write_text(bad + (results / "y.extxyz").read_text() + bad + good)
    found = collect(open_batch(tmp_path / "batch"), [results], Ledger(tmp_path / "labels", "m"))
    assert set(found.new) == {structure_id(atoms) for atoms in structures}
    assert not (tmp_path / "EXECUTED").exists()
    listed = {r.where.split(", frame")[0] for r in (*found.rejected, *found.passed_over)}
    places = {part for where in listed for part in where.split("/") if part.startswith("p0")}
    assert len(places) >= len(planted) - 2  # a file without a frame that is a label may be an empty one
    assert all(one.reason and "\n" not in one.reason for one in (*found.rejected, *found.passed_over))
