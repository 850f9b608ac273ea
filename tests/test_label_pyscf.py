"""DFT labels: against PySCF's own numbers, against finite differences, and what must not become a label."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from ase.units import Bohr, Hartree

from surveyor.config import LabelConfig, calculator_spec, load_campaign
from surveyor.errors import ConfigError, LabellingError
from surveyor.labelling import CalculatorSpec, EngineLabeller, LocalEngine, compute
from surveyor.structures import structure_id
from surveyor.types import Failure, Labels

pytest.importorskip("pyscf", reason="the extra pyscf is not installed")

EXAMPLE = Path(__file__).parents[1] / "examples" / "dft"


def spec(**settings: object) -> CalculatorSpec:
    return calculator_spec(LabelConfig(calculator="pyscf", settings={"basis": "sto-3g", **settings}))


def labels(atoms: Atoms, **settings: object) -> Labels:
    result = compute(spec(**settings), atoms)
    assert isinstance(result, Labels), result
    return result


def bent_water() -> Atoms:
    atoms = molecule("H2O")
    atoms.positions += np.random.default_rng(0).normal(0, 0.08, (3, 3))
    return atoms


def test_hartree_fock_of_hydrogen_is_the_textbook_value() -> None:
    """H2 at 1.4 Bohr in STO-3G: −1.1167 Hartree (Szabo and Ostlund, Modern Quantum Chemistry, table 3.11)."""
    h2 = Atoms("H2", [[0, 0, 0], [0, 0, 1.4 * Bohr]])
    found = labels(h2, functional="hf", density_fit=False)
    assert found.energy / Hartree == pytest.approx(-1.1167, abs=5e-5)
    assert found.forces.sum(axis=0) == pytest.approx(0, abs=1e-6)


def test_labels_are_those_of_pyscf_itself() -> None:
    from pyscf import dft, gto

    atoms = bent_water()
    mol = gto.M(
        atom=list(zip(atoms.symbols, atoms.positions / Bohr, strict=True)),
        unit="Bohr", basis="sto-3g", verbose=0,
    )  # fmt: skip
    direct = dft.RKS(mol, xc="pbe").density_fit()
    energy = direct.kernel()
    found = labels(atoms, functional="pbe")
    assert found.energy == pytest.approx(energy * Hartree, abs=1e-6)
    expected = -direct.nuc_grad_method().kernel() * Hartree / Bohr
    np.testing.assert_allclose(found.forces, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "spin"),
    [
        ({"functional": "pbe", "grid_response": True}, 1),
        ({"functional": "b3lyp", "grid_response": True, "density_fit": False}, 3),
        ({"functional": "hf", "dispersion": "d3bj"}, 1),
    ],
)
def test_forces_are_the_gradient_of_the_energy(settings: dict[str, object], spin: int) -> None:
    atoms = bent_water()
    atoms.info["total_spin"] = spin
    forces, h = labels(atoms, **settings).forces, 2e-3
    direction = np.random.default_rng(1).normal(size=(3, 3))
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions += sign * h * direction
        energies.append(labels(moved, **settings).energy)
    assert (forces * direction).sum() == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-3)


def test_spin_and_charge_choose_the_method_and_the_electrons() -> None:
    oxygen = molecule("O2")
    singlet = labels(oxygen, functional="hf").energy
    oxygen.info["total_spin"] = 3
    assert labels(oxygen, functional="hf").energy < singlet - 1  # Hund's rule, unrestricted
    water = molecule("H2O")
    cation = water.copy()
    cation.info |= {"total_charge": 1, "total_spin": 2}
    assert 5 < labels(cation, functional="hf").energy - labels(water, functional="hf").energy < 15


def test_dispersion_belongs_to_the_energy() -> None:
    pytest.importorskip("pyscf.dispersion", reason="pyscf-dispersion is not installed")
    pair = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.76]])  # its well is 12 meV deep
    plain, corrected = (labels(pair, functional="hf", dispersion=d).energy for d in (None, "d3bj"))
    assert -0.05 < corrected - plain < -0.005


def test_an_unconverged_scf_is_no_label() -> None:
    result = compute(spec(max_cycle=2, second_order=False), bent_water())
    assert result == Failure("SCFError: pbe/sto-3g: the SCF did not converge in 2 iterations")
    result = compute(spec(max_cycle=1), bent_water())
    assert isinstance(result, Failure)
    assert "did not converge in 1 iterations, nor did Newton iterations" in result.reason


def test_newton_iterations_reach_the_same_energy() -> None:
    rescued = labels(bent_water(), max_cycle=5, conv_tol=1e-10)
    failed = compute(spec(max_cycle=5, conv_tol=1e-10, second_order=False), bent_water())
    assert isinstance(failed, Failure)
    usual = labels(bent_water(), conv_tol=1e-10)
    assert rescued.energy == pytest.approx(usual.energy, abs=1e-6)
    np.testing.assert_allclose(rescued.forces, usual.forces, atol=1e-3)


def test_what_one_structure_cannot_have_is_its_failure() -> None:
    result = compute(spec(), molecule("OH"))  # no spin named: a singlet of nine electrons
    assert result == Failure("CalculationFailed: 9 electrons cannot have the multiplicity 1")
    crystal = molecule("H2O")
    crystal.center(3.0)
    crystal.pbc = True
    result = compute(spec(), crystal)
    assert isinstance(result, Failure)
    assert "periodic" in result.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"functional": "pbee"}, "does not know the functional 'pbee'"),
        ({"basis": "sto-33g"}, "no basis 'sto-33g'"),
        ({"basis": {"H": "sto-3g"}}, "basis sets lacks O"),
        ({"auxbasis": "weigand"}, "no fitting basis 'weigand'"),
        ({"functional": "lda,vwn", "dispersion": "d4"}, "no d4 dispersion for lda,vwn"),
    ],
)
def test_a_method_that_cannot_work_stops_the_campaign(settings: dict[str, object], message: str) -> None:
    with pytest.raises(LabellingError, match=message):
        compute(spec(**settings), molecule("H2O"))


def test_settings_are_checked_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="did you mean 'functional'"):
        spec(functionl="pbe")
    with pytest.raises(ConfigError, match="grid_level = 12"):
        spec(grid_level=12)
    with pytest.raises(ConfigError, match="did you mean 'pyscf'"):
        calculator_spec(LabelConfig(calculator="pycsf"))


def test_core_potentials_come_with_their_basis() -> None:
    """28 electrons of iodine are in its core potential: −298 Hartree, not the −6900 of all electrons."""
    iodide = Atoms("HI", [[0, 0, 0], [0, 0, 1.61]])
    found = labels(iodide, basis="def2-svp", functional="hf")
    assert found.energy / Hartree == pytest.approx(-298, abs=3)


def test_method_names_tell_levels_apart_and_leave_memory_out() -> None:
    assert spec().method.startswith("pbe-sto-3g-pyscf-2")
    assert spec().method == spec(memory=500).method
    different = [
        spec(),
        spec(functional="b3lyp"),
        spec(basis="def2-svp"),
        spec(conv_tol=1e-8),
        spec(grid_level=4),
    ]
    assert len({s.method for s in different}) == len(different)
    assert pickle.loads(pickle.dumps(spec())) == spec()  # noqa: S301


def test_the_example_holds_labels_of_its_own_method() -> None:
    config = load_campaign(EXAMPLE / "campaign.yaml")
    method = calculator_spec(config.labels)
    labelled = read(EXAMPLE / "test.extxyz", 20)
    result = compute(method, labelled)
    assert isinstance(result, Labels)
    assert result.energy == pytest.approx(labelled.info["REF_energy"], abs=1e-4)
    np.testing.assert_allclose(result.forces, labelled.arrays["REF_forces"], atol=1e-3)
    geometries = read(EXAMPLE / "test-geometries.extxyz", ":")
    assert [structure_id(a) for a in read(EXAMPLE / "test.extxyz", ":")] == [
        structure_id(a) for a in geometries
    ]
    pool = {structure_id(a) for a in read(EXAMPLE / "pool.extxyz", ":")}
    assert len(pool) == 300
    assert not pool & {structure_id(a) for a in geometries}


def test_worker_processes_give_the_same_labels(tmp_path: Path) -> None:
    structures = {structure_id(a): a for a in (bent_water(), molecule("OH"))}
    results = dict(
        EngineLabeller(spec(functional="hf"), LocalEngine(processes=1), spool=tmp_path)(structures)
    )
    first, second = structures
    assert results[first].energy == pytest.approx(labels(bent_water(), functional="hf").energy, abs=1e-7)
    assert isinstance(results[second], Failure)
