"""What a label is: the calculator's own real numbers, of the structure asked about, by a code with a name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import (
    ExternalForce,
    FixAtoms,
    FixBondLength,
    FixCartesian,
    FixInternals,
    Hookean,
)

from surveyor.errors import LabellingError
from surveyor.labelling import GFN2, CalculatorSpec, EngineLabeller, LocalEngine, compute, labeller_of
from surveyor.labelling.dft import PySCFSettings, pyscf_spec
from surveyor.types import Failure, Labels

EMT_SPEC = CalculatorSpec("ase.calculators.emt.EMT")


def stubborn(**settings: str) -> CalculatorSpec:
    return CalculatorSpec("calculators:Stubborn", settings)


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


# ---- constraints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "constraint",
    [
        FixAtoms([0, 1]),
        FixCartesian(1, (True, False, True)),
        FixBondLength(0, 1),
        Hookean(0, 1, k=5.0, rt=0.1),
        Hookean(0, (0, 0, 0), k=5.0, rt=0.1),
        ExternalForce(0, 1, 2.0),
        FixInternals(bonds=[[2.5, [0, 1]]]),
    ],
)
@pytest.mark.parametrize("form", ["traj", "json", "memory"])
def test_constraints_never_reach_a_label(constraint: object, form: str, tmp_path: Path) -> None:
    from ase.io import read, write

    free = crystal()
    bound = free.copy()
    bound.set_constraint(constraint)
    if form != "memory":
        write(tmp_path / f"a.{form}", bound)
        bound = read(tmp_path / f"a.{form}")
    labels = compute(EMT_SPEC, bound)
    free.calc = EMT()
    assert isinstance(labels, Labels)
    assert labels.energy == pytest.approx(free.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(labels.forces, free.get_forces(), atol=1e-9)
    np.testing.assert_allclose(labels.stress, free.get_stress(), atol=1e-9)
    assert bound.constraints  # the caller's own atoms keep theirs


# ---- side effects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "what"),
    [
        ("atoms.positions += 1e-3", "positions"),
        ("atoms.positions[1, 2] += 1e-5", "positions"),
        ("atoms.set_positions(atoms.positions * np.nan)", "positions"),
        ("atoms.rotate(10, 'x')", "positions"),
        ("atoms.positions += 9; atoms.wrap()", "positions"),
        ("atoms.set_cell(atoms.cell * 1.01, scale_atoms=False)", "cell"),
        ("atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)", "cell"),
        ("atoms.pbc = (True, True, False)", "periodic"),
        ("atoms.numbers[0] = 47", "elements"),
        ("del atoms[0]", "elements"),
        ("own.positions += 1e-3", "positions"),
        ("own.cell *= 1.01", "cell"),
        ("own.numbers[0] = 47", "elements"),
        ("own.pbc = False", "periodic"),
    ],
)
def test_a_calculator_that_changes_the_atoms_has_failed(act: str, what: str) -> None:
    atoms = crystal()
    before = atoms.copy()
    result = compute(stubborn(act=act), atoms)
    assert isinstance(result, Failure)
    assert what in result.reason
    assert result.final
    assert atoms == before


def test_a_sorted_copy_is_another_order() -> None:
    result = compute(stubborn(act="own.numbers[:] = sorted(own.numbers)"), molecule("H2O"))
    assert isinstance(result, Failure)
    assert "order of the atoms" in result.reason


def test_rounding_and_a_box_for_a_molecule_are_no_changes() -> None:
    water = molecule("H2O")
    for act in ("own.positions[:] = own.positions.round(8)", "own.cell[:] = np.eye(3) * 20"):
        assert isinstance(compute(stubborn(act=act), water), Labels)


# ---- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"energy": "1.0 + 2.0j"}, "energy: complex"),
        ({"energy": "np.complex64(1.0)"}, "energy: complex"),
        ({"energy": "'1.5'"}, "energy: no numbers, but str"),
        ({"energy": "True"}, "energy: truth"),
        ({"energy": "None"}, "energy: nothing"),
        ({"energy": "np.ma.masked"}, "energy: masked"),
        ({"energy": "np.array([1.0, 2.0])"}, "energy of shape (2,)"),
        ({"energy": "np.array(1.5, dtype=object)"}, "energy: no numbers"),
        ({"energy": "[]"}, "energy of shape (0,)"),
        ({"energy": "float('nan')"}, "energy: NaN or inf"),
        ({"energy": "np.float64('inf')"}, "energy: NaN or inf"),
        ({"energy": "10**400"}, "energy: no numbers"),
        ({"forces": "np.ones((n, 3)) * 1j"}, "forces: complex"),
        ({"forces": "np.ma.masked_less(np.arange(3.0 * n).reshape(n, 3), 1)"}, "forces: masked"),
        ({"forces": "np.ones((n, 3)).astype(str)"}, "forces: no numbers"),
        ({"forces": "np.ones(3 * n)"}, "forces of shape (12,)"),
        ({"forces": "np.ones((3, n))"}, "forces of shape (3, 4)"),
        ({"forces": "np.ones((n - 1, 3))"}, "forces of shape (3, 3)"),
        ({"forces": "[[1.0] * 3, [1.0]]"}, "forces: no array"),
        ({"forces": "np.full((n, 3), np.nan)"}, "forces: NaN or inf"),
        ({"stress": "np.ones(6) * 1j"}, "stress: complex"),
        ({"stress": "np.full(6, np.inf)"}, "stress: NaN or inf"),
        ({"stress": "np.ones(5)"}, "stress of shape (5,)"),
        ({"stress": "np.ones((3, 3)) * np.nan"}, "stress: NaN or inf"),
        ({"free_energy": "1.0 + 1j"}, "free energy: complex"),
        ({"free_energy": "float('nan')"}, "free energy: NaN"),
    ],
)
def test_what_is_no_real_number_is_no_label_and_neither_is_a_part_of_it(
    settings: dict[str, str], reason: str
) -> None:
    atoms = crystal()
    assert isinstance(compute(stubborn(stress="np.zeros(6)"), atoms), Labels)
    result = compute(stubborn(**settings), atoms)
    assert isinstance(result, Failure)
    assert reason in result.reason
    assert result.final


def test_usual_numbers_pass() -> None:
    for energy in ("2", "np.float32(2)", "np.array([2.0])", "np.array(2)"):
        labels = compute(stubborn(energy=energy, forces="np.ones((n, 3), np.float32)"), molecule("H2O"))
        assert isinstance(labels, Labels)
        assert labels.energy == 2.0
        assert labels.forces.dtype == np.float64
        assert labels.stress is None
    full = compute(stubborn(stress="np.arange(9.0).reshape(3, 3)"), crystal())
    assert isinstance(full, Labels)
    assert full.stress is not None
    assert full.stress.tolist() == [0, 4, 8, 6, 4, 2]


def test_reasons_are_plain_text() -> None:
    result = compute(stubborn(act="raise ValueError('\\x1b[31mred\\a [b]x[/b]\\nsecond')"), molecule("H2O"))
    assert result == Failure("ValueError:  [31mred  [b]x[/b]")


# ---- free energies --------------------------------------------------------------------------------------


def test_the_energy_is_the_one_whose_gradient_the_forces_are() -> None:
    labels = compute(stubborn(energy="-14.8", free_energy="-14.9"), crystal())
    assert isinstance(labels, Labels)
    assert (labels.energy, labels.free_energy) == (-14.9, True)
    same = compute(stubborn(energy="-14.8", free_energy="-14.8"), crystal())
    assert isinstance(same, Labels)
    assert (same.energy, same.free_energy) == (-14.8, False)
    spec = stubborn(energy="-14.8", free_energy="-14.9")
    labeller = EngineLabeller(spec, LocalEngine(processes=1))
    assert "-free-" in labeller.method
    # a journal that an earlier version began holds the other energy, and goes on with it
    legacy = labeller_of(spec.legacy_method, labeller)
    assert isinstance(legacy, EngineLabeller)
    assert legacy.method == spec.legacy_method != labeller.method
    old = compute(legacy.spec, crystal())
    assert isinstance(old, Labels)
    assert (old.energy, old.free_energy) == (-14.8, False)
    assert labeller_of(labeller.method, labeller) is labeller
    assert labeller_of("another", labeller) is None


# ---- what a method names --------------------------------------------------------------------------------


def test_names_of_the_calculators_that_come_with_surveyor_stay() -> None:
    import importlib.metadata

    version = importlib.metadata.version("tblite")
    assert GFN2.method == GFN2.legacy_method == f"gfn2-xtb-tblite-{version}-5a575968"
    assert EngineLabeller(GFN2, LocalEngine(processes=1)).legacy is None
    spec = pyscf_spec(PySCFSettings())
    assert spec.method == spec.legacy_method
    assert spec.method.endswith("-5ef268d4")


def test_a_word_of_the_settings_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "GFN2-xTB").write_text("a file of that name")
    (tmp_path / "pbe").mkdir()
    assert GFN2.method.endswith("-5a575968")
    assert GFN2.resolved() == GFN2
    spec = CalculatorSpec("ase.calculators.emt.EMT", {"xc": "pbe"})
    assert spec.resolved().settings == {"xc": "pbe"}


def test_the_distribution_that_holds_the_class_is_named() -> None:
    import ase

    pytest.importorskip("mace")
    import importlib.metadata

    assert f"emt-ase-{ase.__version__}-free-" in EMT_SPEC.method
    mace = CalculatorSpec("mace.calculators:MACECalculator")
    assert f"-mace-torch-{importlib.metadata.version('mace-torch')}-" in mace.method
    assert "-mace-unversioned" in mace.legacy_method


def local_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()


def test_a_local_module_is_named_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from ase.calculators.emt import EMT\nclass Mine(EMT):\n    shift = 1\n"
    spec, names = CalculatorSpec("mine_of_test:Mine"), []
    for number, content in enumerate((text, text + "\n", text)):
        local_module(tmp_path / str(number), monkeypatch, "mine_of_test", content)
        names.append(spec.method)
    assert names[0] == names[2] != names[1]
    assert "-ase-" in names[0]  # the base decides the numbers, too


def test_a_namesake_is_not_the_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local_module(tmp_path, monkeypatch, "tblite_copy", "class TBLite: pass\n")
    name = GFN2.method
    local_module(tmp_path, monkeypatch, "tblite", "class TBLite: pass\n")
    namesake = CalculatorSpec("tblite:TBLite", GFN2.settings, name="gfn2-xtb")
    import importlib.metadata

    version = importlib.metadata.version("tblite")
    assert f"tblite-{version}" in name
    assert f"tblite-{version}" not in namesake.method
    assert f"tblite-{version}" in namesake.legacy_method


def test_files_of_the_settings_are_named_by_content_however_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for settings in (
        {"model_path": str(tmp_path / "a.model")},
        {"model_path": "a.model"},
        {"model": "bare"},
        {"model_path": tmp_path / "a.model"},
        {"model_paths": ["./a.model", "./b.model"]},
        {"pseudopotentials": {"Cu": "./a.model"}, "deep": [{"x": ("./b.model",)}]},
    ):
        for name in ("a.model", "b.model", "bare"):
            (tmp_path / name).write_text("weights")
        spec = CalculatorSpec("ase.calculators.emt.EMT", settings)
        first = spec.method
        for name in ("a.model", "b.model", "bare"):
            (tmp_path / name).write_text("weights that were trained on")
        assert spec.method != first
        assert spec.legacy_method == CalculatorSpec("ase.calculators.emt.EMT", settings).legacy_method
    # where the file lies decides nothing
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.model").write_text("weights that were trained on")
    names = {
        CalculatorSpec("calculators:Stubborn", {"m": f"./{p}"}).method for p in ("a.model", "sub/c.model")
    }
    assert len(names) == 1


@pytest.mark.parametrize("key", ["log", "txt", "logfile", "log_file", "output", "stdout", "out_dir", "cache"])
def test_what_a_calculation_writes_is_no_part_of_its_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = CalculatorSpec("ase.calculators.emt.EMT", {key: "calc.log"})
    before = spec.method
    (tmp_path / "calc.log").write_text("step 1")
    assert spec.method == before
    assert spec.resolved().settings == {key: "calc.log"}
    for other in ("model", "layout", "template", "catalog_model", "parameters"):
        assert CalculatorSpec("ase.calculators.emt.EMT", {other: "calc.log"}).resolved().settings[
            other
        ] == str(tmp_path / "calc.log")


def test_relative_paths_are_resolved_and_folders_to_write_to_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pt").touch()
    (tmp_path / "pseudos").mkdir()
    (tmp_path / "run").mkdir()
    settings = {
        "model": "m.pt", "pseudo_dir": "pseudos", "nested": {"files": ["m.pt", "none.pt"]}, "xc": "PBE",
        "directory": str(tmp_path / "run"), "label": "run/x", "n": 3,
    }  # fmt: skip
    assert CalculatorSpec("calculators:Stubborn", settings).resolved().settings == {
        "model": str(tmp_path / "m.pt"), "pseudo_dir": str(tmp_path / "pseudos"),
        "nested": {"files": [str(tmp_path / "m.pt"), "none.pt"]}, "xc": "PBE",
        "directory": "run", "label": "x", "n": 3,
    }  # fmt: skip


def test_an_import_that_fails_or_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, text in enumerate(("raise RuntimeError('no licence')", "import sys; sys.exit(3)", "def")):
        local_module(tmp_path, monkeypatch, f"broken_{number}", text)
        with pytest.raises(LabellingError, match="cannot be imported"):
            CalculatorSpec(f"broken_{number}:X").load_class()
    local_module(
        tmp_path, monkeypatch, "chatty_module",
        "import os\nprint('hello')\nos.write(1, b'fd\\n')\nos.system('echo shell')\nclass X: pass\n",
    )  # fmt: skip
    CalculatorSpec("chatty_module:X").load_class()
    out, err = capfd.readouterr()
    assert out == ""
    assert set(err.split()) == {"hello", "fd", "shell"}
