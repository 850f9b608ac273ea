"""Labelling: real calculators, misbehaving ones, and the journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

from conftest import rattled
from surveyor.errors import LabellingError, SurveyorError
from surveyor.labelling import GFN2, CalculatorSpec, EngineLabeller, Ledger, LocalEngine, compute
from surveyor.labelling.screening import Screening
from surveyor.structures import structure_id, with_labels
from surveyor.types import Failure, Labels

EMT_SPEC = CalculatorSpec("ase.calculators.emt.EMT")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes find the calculators of the tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


def todo(n: int = 6, seed: int = 0) -> dict:
    return {structure_id(atoms): atoms for atoms in rattled(n, seed)}


def test_gfn2_labels_are_those_of_tblite_and_forces_are_gradients() -> None:
    from tblite.ase import TBLite

    water = molecule("H2O")
    labels = compute(GFN2, water)
    assert isinstance(labels, Labels)
    direct = water.copy()
    direct.calc = TBLite(method="GFN2-xTB", verbosity=0)
    assert labels.energy == pytest.approx(direct.get_potential_energy(), abs=1e-8)
    h = 1e-3
    energies = []
    for sign in (1, -1):
        moved = water.copy()
        moved.positions[0, 2] += sign * h
        result = compute(GFN2, moved)
        assert isinstance(result, Labels)
        energies.append(result.energy)
    assert labels.forces[0, 2] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-4)


def test_charge_and_spin_reach_the_calculator() -> None:
    hydroxide, radical = molecule("OH"), molecule("OH")
    hydroxide.info["total_charge"] = -1
    radical.info["total_spin"] = 2
    a, b = compute(GFN2, hydroxide), compute(GFN2, radical)
    assert isinstance(a, Labels)
    assert isinstance(b, Labels)
    assert abs(a.energy - b.energy) > 1


def test_method_names_tell_settings_apart() -> None:
    other = CalculatorSpec(GFN2.path, {**GFN2.settings, "accuracy": 0.1}, GFN2.charge_key, GFN2.spin_key)
    assert GFN2.method != other.method
    assert GFN2.method == CalculatorSpec(**{**vars(GFN2)}).method
    assert "/" not in CalculatorSpec("ase.calculators.emt:EMT").method


def test_local_labels_equal_direct_ones(tmp_path: Path) -> None:
    structures = todo(8)
    results = dict(EngineLabeller(EMT_SPEC, LocalEngine(processes=2), spool=tmp_path / "spool")(structures))
    assert results.keys() == structures.keys()
    for name, atoms in structures.items():
        atoms.calc = EMT()
        assert results[name].energy == atoms.get_potential_energy()
        np.testing.assert_array_equal(results[name].forces, atoms.get_forces())
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "RuntimeError: SCF did not converge"),
        ("nan", "NaN or inf"),
        ("die", "its worker process died (exit code 3"),
    ],
)
def test_one_bad_structure_does_not_stop_the_others(how: str, reason: str) -> None:
    spec = CalculatorSpec("calculators:FailingEMT", {"how": how})
    structures = todo(6)
    sys.path.insert(0, str(Path(__file__).parent))
    results = dict(EngineLabeller(spec, LocalEngine(processes=2))(structures))
    assert results.keys() == structures.keys()
    for name, atoms in structures.items():
        if atoms.symbols[0] == "O":
            assert isinstance(results[name], Failure)
            assert reason in results[name].reason
        else:
            assert isinstance(results[name], Labels)


def test_calculators_that_cannot_be_had() -> None:
    with pytest.raises(LabellingError, match="cannot be imported"):
        EngineLabeller(CalculatorSpec("no.such.module:Thing"), LocalEngine(processes=1))
    with pytest.raises(LabellingError, match="does not take"):
        compute(CalculatorSpec("calculators:FailingEMT", {"nonsense": 1}), molecule("H2O"))
    with pytest.raises(ValueError, match="greater than 0"):
        LocalEngine(processes=0)


def gone(pid: int, patience: float = 10.0) -> bool:
    """Whether a process ends within some seconds; one that only waits to be reaped has ended."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_hung_calculator_is_killed_and_the_others_are_unharmed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spec = CalculatorSpec("calculators:FailingEMT", {"how": "hang", "log": str(log)})
    structures = todo(6)
    results = dict(
        EngineLabeller(spec, LocalEngine(processes=2), spool=tmp_path / "spool", time_limit=1.5)(structures)
    )
    assert results.keys() == structures.keys()
    for name, atoms in structures.items():
        if atoms.symbols[0] == "O":
            assert results[name].reason == "it took longer than the time limit of 1.5 s"
            assert results[name].final
            assert results[name].core_seconds == 1.5
        else:
            assert isinstance(results[name], Labels)
    for pid in log.read_text().split():  # nothing hangs on
        assert gone(int(pid))
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_worker_outlives_its_parent_until_its_job_is_on_disk(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
if __name__ == "__main__":
    from pathlib import Path
    from conftest import rattled
    from surveyor.labelling import CalculatorSpec, EngineLabeller, LocalEngine
    from surveyor.structures import structure_id
    spec = CalculatorSpec("calculators:CountingEMT", {{"log": {str(log)!r}, "seconds": 2.0}})
    todo = {{structure_id(a): a for a in rattled(3, 0)}}
    labeller = EngineLabeller(spec, LocalEngine(processes=1), spool=Path({str(tmp_path / "spool")!r}))
    for result in labeller(todo):
        pass
"""
    path = tmp_path / "parent.py"
    path.write_text(script)
    parent = subprocess.Popen([sys.executable, "-W", "ignore", str(path)])
    spool = tmp_path / "spool"
    deadline = time.monotonic() + 90
    while not list(spool.rglob("*.claim")):  # the first job has begun
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while not list(spool.rglob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    assert len(log.read_text().split()) == 1


def filled(folder: Path, n: int = 5) -> tuple[Ledger, dict]:
    ledger, structures = Ledger(folder, "emt"), todo(n)
    for name, atoms in structures.items():
        labels = compute(EMT_SPEC, atoms)
        assert isinstance(labels, Labels)
        ledger.append(name, atoms, labels)
    return ledger, structures


# ---- quarantine -------------------------------------------------------------------------------------


def with_energy(atoms: Atoms, energy: float, force: float = 1.0) -> Atoms:
    return with_labels(atoms, Labels(energy, np.full((len(atoms), 3), force / 3**0.5)))


def water_and_methane(n: int, seed: int = 0) -> dict[str, Atoms]:
    """Energies that are a sum over elements plus 20 meV/atom of noise."""
    rng = np.random.default_rng(seed)
    return {
        name: with_energy(
            atoms,
            sum({1: -13.6, 6: -1029.0, 7: -1485.0, 8: -2042.0}[z] for z in atoms.numbers)
            + len(atoms) * rng.normal(0, 0.02),
        )
        for name, atoms in todo(n, seed).items()
    }


def test_usual_labels_are_not_suspicious() -> None:
    labels = water_and_methane(60)
    names = list(labels)
    new = {name: labels[name] for name in names[:20]}
    assert Screening().suspicious(new, [labels[name] for name in names[20:]]) == {}


@pytest.mark.parametrize(("factor", "shift"), [(1 / 27.2114, 0.0), (1.0, 5.0), (23.06, 0.0)])
def test_an_energy_in_another_unit_or_of_another_state_is_suspicious(factor: float, shift: float) -> None:
    labels = water_and_methane(60)
    names = list(labels)
    odd = names[3]
    energy = labels[odd].info["REF_energy"] * factor + shift * len(labels[odd])
    labels[odd] = with_energy(labels[odd], energy)
    new = {name: labels[name] for name in names[:20]}
    reasons = Screening().suspicious(new, [labels[name] for name in names[20:]])
    assert list(reasons) == [odd]
    assert "eV/atom off the other labels" in reasons[odd]
    assert Screening(outlier=None).suspicious(new, [labels[name] for name in names[20:]]) == {}
    few = {name: labels[name] for name in names[:8]}
    assert Screening().suspicious(few, []) == {}  # too few labels to know what is usual


def test_large_forces_and_doubts_are_suspicious() -> None:
    labels = water_and_methane(4)
    a, b, *_ = labels
    labels[a] = with_energy(labels[a], labels[a].info["REF_energy"], force=150.0)
    labels[b].info["surveyor_doubt"] = "the SCF did not converge"
    reasons = Screening().suspicious(labels, [])
    assert reasons == {a: "a force of 150.0 eV/Å, above the limit of 100", b: "the SCF did not converge"}
    assert list(Screening(max_force=None).suspicious(labels, [])) == [b]


def test_what_was_released_stays_released(tmp_path: Path) -> None:
    ledger, structures = filled(tmp_path, 2)
    first, second = structures
    ledger.quarantine(first, "odd")
    ledger.append_failure("f" * 32, Failure("no luck", core_seconds=2.5))
    assert list(ledger.trusted) == [second]
    again = Ledger(tmp_path, "emt")
    assert again.quarantined == {first: "odd"}
    assert again.cost("f" * 32) == 2.5
    assert again.release(first) == "label"
    assert again.release("f" * 32) == "failure"
    last = Ledger(tmp_path, "emt", read_only=True)
    assert list(last.trusted) == [first, second]
    assert (last.quarantined, last.failures) == ({}, {})
    assert last.released(first)
    with pytest.raises(LabellingError, match="neither in quarantine nor failed"):
        again.release(second)
    with pytest.raises(LabellingError, match="there is no label"):
        again.quarantine("0" * 32, "?")


def test_errors_are_of_one_family() -> None:
    assert issubclass(LabellingError, SurveyorError)
