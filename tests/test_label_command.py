"""Labels from command-line programs: real ones where installed, small scripts for what goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree, kcal, mol

from conftest import rattled
from surveyor.config import LabelConfig, calculator_spec, load_campaign, load_labels
from surveyor.config.labels import with_templates
from surveyor.errors import ConfigError, LabellingError
from surveyor.labelling import GFN2, CalculatorSpec, EngineLabeller, LocalEngine, compute
from surveyor.labelling.templates import render, variables
from surveyor.structures import structure_id, write_structures
from surveyor.types import Failure, Labels

EXAMPLES = Path(__file__).parents[1] / "examples" / "labelling"

# A program of its own: springs between all atoms, printed the way quantum chemistry programs print.
SPRINGS = """
lines = open("structure.xyz").read().split("\\n")
symbols = [line.split()[0] for line in lines[2:] if line.strip()]
atoms = [[float(x) for x in line.split()[1:]] for line in lines[2:] if line.strip()]
CHANGE
energy, forces = 0.0, [[0.0] * 3 for _ in atoms]
for i, a in enumerate(atoms):
    for j, b in enumerate(atoms[:i]):
        r = sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5
        energy += 0.5 * (r - 1) ** 2
        for k in range(3):
            forces[i][k] -= (r - 1) * (a[k] - b[k]) / r
            forces[j][k] += (r - 1) * (a[k] - b[k]) / r
"""
PROGRAM = (
    SPRINGS.replace("CHANGE", "")
    + """
print(" TOTAL ENERGY   0.0 Eh   (first guess)")
print(f" TOTAL ENERGY   {energy:.12f} Eh")
print(" FORCES in a.u. after 1 2 3 steps\\n")
for symbol, (x, y, z) in zip(symbols, forces):
    print(f"  {symbol}  {x:.10E}  {y:.10E}  {z:.10E}".replace("E-", "D-"))
print(" SUM 0.0 0.0")
"""
)


def settings(script: str = PROGRAM, **changes: object) -> dict[str, object]:
    return {
        "command": [sys.executable, "-I", "-S", "program.py"],
        "input": {"structure.xyz": "{{ xyz }}", "program.py": script},
        "output": {
            "energy": {"pattern": r"TOTAL ENERGY\s+<number> Eh", "unit": "Hartree"},
            "forces": {"after": "FORCES in a.u.", "unit": "Hartree/Bohr"},
        },
        "name": "springs",
        **changes,
    }


def spec(**changes: object) -> CalculatorSpec:
    return calculator_spec(LabelConfig(calculator="command", settings=settings(**changes)))


def reason(**changes: object) -> str:
    result = compute(spec(**changes), molecule("H2O"))
    assert isinstance(result, Failure), result
    return result.reason


def springs(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy and forces of the program's springs, in what it calls Hartree and Hartree/Bohr."""
    vectors = atoms.positions[:, None] - atoms.positions[None]
    lengths = np.linalg.norm(vectors, axis=-1)
    np.fill_diagonal(lengths, 1.0)
    forces = -((lengths - 1) / lengths)[..., None] * vectors
    return 0.25 * ((lengths - 1) ** 2).sum(), forces.sum(axis=1)


# ---- real programs ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("xtb") is None, reason="the program xtb is not installed")
def test_the_program_xtb_agrees_with_the_library(tmp_path: Path) -> None:
    """GFN2-xTB twice: Fortran program and tblite library, files against memory."""
    method = calculator_spec(load_labels(EXAMPLES / "xtb.yaml"))
    hydroxide = molecule("OH")
    hydroxide.rattle(0.02, seed=3)
    hydroxide.info["total_charge"] = -1
    radical = molecule("CH3")
    radical.rattle(0.02, seed=4)
    radical.info["total_spin"] = 2
    structures = {structure_id(a): a for a in (*rattled(2, seed=5), hydroxide, radical)}
    results = dict(EngineLabeller(method, LocalEngine(processes=1), spool=tmp_path)(structures))
    for name, atoms in structures.items():
        expected, found = compute(GFN2, atoms), results[name]
        assert isinstance(expected, Labels)
        assert isinstance(found, Labels), found
        assert found.energy == pytest.approx(expected.energy, abs=2e-4)
        np.testing.assert_allclose(found.forces, expected.forces, atol=2e-3)


@pytest.mark.skipif(shutil.which("xtb") is None, reason="the program xtb is not installed")
def test_a_real_program_that_refuses_its_input_is_a_failure() -> None:
    content = load_labels(EXAMPLES / "xtb.yaml").settings
    changed = {**content, "input": {"molecule.xyz": "3\n\nO 0 0 0\n"}}
    result = compute(calculator_spec(LabelConfig(calculator="command", settings=changed)), molecule("H2O"))
    assert isinstance(result, Failure)
    assert "xtb ended with exit code" in result.reason


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="the program cp2k.psmp is not installed")
def test_the_worked_example_of_cp2k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    method = calculator_spec(load_labels(EXAMPLES / "cp2k.yaml"))
    h2 = Atoms("H2", [[2, 2, 2], [2.1, 2.2, 2.75]], cell=[4, 4, 4], pbc=True)
    found, energies, h = compute(method, h2), [], 0.01
    assert isinstance(found, Labels), found
    for sign in (1, -1):
        moved = h2.copy()
        moved.positions[1, 2] += sign * h
        result = compute(method, moved)
        assert isinstance(result, Labels)
        energies.append(result.energy)
    assert found.forces[1, 2] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=0.02)
    content = load_labels(EXAMPLES / "cp2k.yaml").settings
    text = re.sub(r"MAX_SCF \d+", "MAX_SCF 1", content["input"]["structure.inp"])
    changed = {**content, "input": {"structure.inp": text}}
    failed = compute(calculator_spec(LabelConfig(calculator="command", settings=changed)), h2)
    assert isinstance(failed, Failure), failed


CP2K_OLD = """
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:              -17.219199865816964

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      O          -0.00000006    -0.00000003    -0.00276445
      2      2      H           0.00000002     0.00106808    -0.00122149
      3      2      H           0.00000003    -0.00106805    -0.00122153
 SUM OF ATOMIC FORCES          -0.00000001     0.00000000    -0.00520747     0.00520747
"""
CP2K_NEW = """
 ENERGY| Total FORCE_EVAL ( QS ) energy [hartree]             -17.219199865816964

 FORCES| Atomic forces [hartree/bohr]
 FORCES|   Atom     x               y               z               |f|
 FORCES|      1 -6.00000000E-08 -3.00000000E-08 -2.76445000E-03  2.76445000E-03
 FORCES|      2  2.00000000E-08  1.06808000E-03 -1.22149000E-03  1.62260000E-03
 FORCES|      3  3.00000000E-08 -1.06805000E-03 -1.22153000E-03  1.62260000E-03
 FORCES| Sum    -1.00000000E-08  0.00000000E+00 -5.20747000E-03
"""


@pytest.mark.parametrize("text", [CP2K_OLD, CP2K_NEW])
def test_the_patterns_for_cp2k_read_both_layouts(text: str) -> None:
    """What version 2023.1 printed here, and the same numbers in the layout of 2025 and later."""
    output = load_labels(EXAMPLES / "cp2k.yaml").settings["output"]
    printer = f"print({text!r})\nprint(' PROGRAM ENDED AT')\n"
    result = compute(spec(script=printer, output=output), molecule("H2O"))
    assert isinstance(result, Labels), result
    assert result.energy == pytest.approx(-17.219199865816964 * Hartree)
    assert result.forces[1] == pytest.approx(np.array([2e-8, 1.06808e-3, -1.22149e-3]) * Hartree / Bohr)


def test_the_input_for_orca_is_what_orca_reads() -> None:
    content = load_labels(EXAMPLES / "orca.yaml").settings
    text = render(content["input"]["molecule.inp"], variables(molecule("OH"), -1, 1), "orca")
    lines = text.splitlines()
    assert lines[0].startswith("! PBE")
    assert lines[2] == "* xyz -1 1"
    assert [line.split()[0] for line in lines[3:5]] == ["O", "H"]
    assert lines[5] == "*"
    with pytest.raises(LabellingError, match="no program"):
        compute(
            calculator_spec(
                LabelConfig(calculator="command", settings={**content, "command": ["no-orca-here"]})
            ),
            molecule("H2O"),
        )


# ---- what a program prints ----------------------------------------------------------------------------


def test_patterns_read_what_the_program_computed(tmp_path: Path) -> None:
    structures = {structure_id(a): a for a in rattled(4, seed=1)}
    results = dict(EngineLabeller(spec(), LocalEngine(processes=2), spool=tmp_path / "spool")(structures))
    for name, atoms in structures.items():
        energy, forces = springs(atoms)
        assert results[name].energy == pytest.approx(energy * Hartree, abs=1e-8)
        np.testing.assert_allclose(results[name].forces, forces * Hartree / Bohr, atol=1e-7)


def test_a_gradient_has_the_other_sign_and_units_convert() -> None:
    atoms = molecule("H2O")
    output = {
        "energy": {"pattern": r"TOTAL ENERGY\s+<number> Eh$", "unit": "kcal/mol"},
        "gradient": {"after": "FORCES in a.u.", "unit": "kcal/mol/Angstrom"},
    }
    result, (energy, forces) = compute(spec(output=output), atoms), springs(atoms)
    assert isinstance(result, Labels)
    assert result.energy / (kcal / mol) == pytest.approx(energy)
    np.testing.assert_allclose(-result.forces / (kcal / mol), forces, atol=1e-9)


READER = """
with open("result.extxyz", "w") as file:
    print(len(atoms), file=file)
    print(f"Properties=species:S:1:pos:R:3:forces:R:3 energy={energy} pbc='F F F'", file=file)
    for symbol, a, f in zip(symbols, atoms, forces):
        print(symbol, *[f"{x:.8f}" for x in (*a, *f)], file=file)
"""


def test_an_ase_reader_and_the_order_of_the_atoms() -> None:
    atoms = rattled(1, seed=2)[0]
    output = {"file": "result.extxyz", "format": "extxyz"}
    for change in (
        "",
        "atoms, symbols = [atoms[i] for i in (2, 0, 1)], [symbols[i] for i in (2, 0, 1)]",
        "atoms = [[x + 4e-4 for x in a] for a in atoms]",
    ):
        result = compute(spec(script=SPRINGS.replace("CHANGE", change) + READER, output=output), atoms)
        assert isinstance(result, Labels), result
        np.testing.assert_allclose(result.forces, springs(atoms)[1], atol=1e-7)
    turned = SPRINGS.replace("CHANGE", "atoms = [[y, x, z] for x, y, z in atoms]") + READER
    assert "of another structure: atoms are up to" in reason(script=turned, output=output)
    assert "found no labels in" in reason(script="print('hello', file=open('a', 'w'))", output={"file": "a"})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit('no licence')", "ended with exit code 1: no licence"),
        ("import os; os.kill(os.getpid(), 11)", "ended with signal SIGSEGV"),
        ("print('hello')", "no energy: nothing in stdout matches"),
        ("print('TOTAL ENERGY ******** Eh')", "energy in stdout: '********' is not a number"),
        ("print('TOTAL ENERGY 1.0 Eh')", "no forces in stdout: nothing matches 'FORCES in a.u.'"),
        ("print('TOTAL ENERGY 1.0 Eh\\nFORCES in a.u.\\n 1 2 3')", "1 rows for 3 atoms, 3 expected"),
        ("print('TOTAL ENERGY 1.0 Eh\\nFORCES in a.u.' + 4 * '\\n 1 2 3')", "4 rows for 3 atoms, 3 expected"),
        ("print('TOTAL ENERGY NaN Eh\\nFORCES in a.u.' + 3 * '\\n 1 2 3')", "NaN or inf"),
        ("print('TOTAL ENERGY 1.0 Eh\\nFORCES in a.u.' + 3 * '\\n 1 inf 3')", "NaN or inf"),
    ],
)
def test_what_went_wrong_is_said(script: str, message: str) -> None:
    assert message in reason(script=script)


def test_required_and_forbidden_words() -> None:
    output = settings()["output"]
    assert isinstance(output, dict)
    assert "the output lacks 'CONVERGED'" in reason(output={**output, "require": ["CONVERGED"]})
    assert "the output says 'first guess'" in reason(output={**output, "forbid": ["first guess"]})
    missing = {**output, "energy": {"file": "a.log", "pattern": "<number>", "unit": "eV"}}
    assert "the program left no a.log" in reason(output=missing)


# ---- how it is run ------------------------------------------------------------------------------------


def stubborn(trace: Path) -> str:
    """A program that waits a minute, with a child that leaves a trace after three seconds."""
    child = f"import pathlib, time; time.sleep(3); pathlib.Path({str(trace)!r}).touch()"
    return (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    )


def test_a_program_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    begin = time.monotonic()
    assert "stopped at its time limit of 1 s" in reason(script=stubborn(tmp_path / "alive"), time_limit=1.0)
    assert time.monotonic() - begin < 20
    time.sleep(3)
    assert not (tmp_path / "alive").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_program_ends_with_its_worker(tmp_path: Path) -> None:
    script = f"import pathlib; pathlib.Path({str(tmp_path / 'begun')!r}).touch()\n" + stubborn(
        tmp_path / "alive"
    )
    content = json.dumps(settings(script, scratch=str(tmp_path)))
    code = f"""
import json
from ase.build import molecule
from surveyor.labelling.command import Command
atoms = molecule("H2O")
atoms.calc = Command(json.loads({content!r}))
atoms.get_forces()
"""
    worker = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    deadline = time.monotonic() + 90
    while not (tmp_path / "begun").exists():
        assert worker.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker.kill()
    worker.wait()
    time.sleep(4)
    assert not (tmp_path / "alive").exists()


def test_no_shell_and_a_folder_of_its_own(tmp_path: Path) -> None:
    script = "import os, sys; print(sys.argv[1:], os.environ['COLOUR'], os.listdir('.')); raise SystemExit(1)"
    changes = {
        "command": [*settings()["command"], "; touch x", "$HOME", "{{ charge }}", "{{ n_atoms }}"],  # type: ignore[misc]
        "environment": {"COLOUR": "red"},
        "scratch": str(tmp_path),
    }
    said = reason(script=script, **changes)
    assert "['; touch x', '$HOME', '0', '3'] red" in said
    assert list(tmp_path.iterdir()) == []
    said = reason(script=script, keep="failed", **changes)
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said
    assert (kept / "stdout").read_text().startswith("['; touch x'")
    shutil.rmtree(kept)
    assert isinstance(compute(spec(scratch=str(tmp_path)), molecule("H2O")), Labels)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_work_at_all_stops_the_campaign(tmp_path: Path) -> None:
    with pytest.raises(LabellingError, match="there is no program 'orca-9'"):
        compute(spec(command=["orca-9"]), molecule("H2O"))
    with pytest.raises(LabellingError, match="no scratch folder"):
        compute(spec(scratch=str(tmp_path / "no")), molecule("H2O"))
    with pytest.raises(LabellingError, match="'chrge' is undefined"):
        spec(command=["x", "{{ chrge }}"])
    with pytest.raises(LabellingError, match=r"the template of structure\.xyz"):
        spec(input={"structure.xyz": "{{ xyz"})
    with pytest.raises(LabellingError, match="unsafe"):
        spec(input={"structure.xyz": "{{ xyz.__class__.__mro__ }}"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comand": []}, "did you mean 'command'"),
        ({"input": {"../x": "y"}}, "inside the scratch folder"),
        ({"output": {"file": "/etc/passwd"}}, "inside the scratch folder"),
        ({"output": {}}, "output needs energy and one of forces, gradient"),
        ({"output": {"energy": {"pattern": "(", "unit": "eV"}}}, "not a regular expression"),
        ({"output": {"energy": {"pattern": "x", "unit": "eV"}}}, "pattern needs one <number>"),
        ({"output": {"energy": {"pattern": "<number>", "unit": "eh"}}}, "one of eV, Hartree"),
        ({"output": {"energy": {"pattern": "<number>", "unti": "eV"}}}, "did you mean 'unit'"),
    ],
)
def test_settings_are_checked_before_anything_runs(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        spec(**changes)


def test_templates_and_command_name_the_method() -> None:
    base = spec()
    assert re.fullmatch(r"springs-[0-9a-f]{8}", base.method)
    assert spec(version="3.1").method.startswith("springs-3.1-")
    same = [spec(time_limit=5), spec(scratch="/tmp"), spec(keep="failed")]  # noqa: S108
    assert {s.method for s in same} == {base.method}
    other = [
        spec(script=PROGRAM + "#"),
        spec(command=["python3"]),
        spec(environment={"OMP_NUM_THREADS": 2}),
        spec(output={"file": "a.extxyz"}),
    ]
    assert len({s.method for s in [base, *other]}) == 5


def test_template_files_become_part_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "job.inp").write_text("charge {{ charge }}\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    write_structures(tmp_path / "pool.extxyz", rattled(3, seed=0))
    labels = {
        "calculator": "command",
        "settings": {
            "command": ["./run.sh"],
            "input": {"job.inp": {"file": "job.inp"}},
            "output": {"file": "x"},
        },
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"pool": "pool.extxyz", "labels": labels}))
    found = load_campaign(tmp_path / "c.yaml").labels
    assert found.settings["input"] == {"job.inp": "charge {{ charge }}\n"}
    assert found.settings["command"] == [os.fspath(tmp_path / "./run.sh")]
    assert found == load_labels(tmp_path / "c.yaml")
    wrong = LabelConfig(calculator="command", settings={"input": {"a": {"file": "nowhere"}}})
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere"):
        with_templates(wrong, tmp_path)
    with pytest.raises(ConfigError, match=r"or \{file: its path\}"):
        with_templates(LabelConfig(calculator="command", settings={"input": {"a": {"text": "b"}}}), tmp_path)
