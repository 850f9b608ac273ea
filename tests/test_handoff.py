"""Hand-off: labels computed elsewhere come back by content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from conftest import emt_labelled, rattled
from surveyor.campaign import read_campaign
from surveyor.cli import app
from surveyor.errors import LabellingError
from surveyor.labelling import Ledger
from surveyor.labelling.batch import export_batch, open_batch
from surveyor.labelling.handoff import Collected, collect
from surveyor.labelling.likely import Candidates
from surveyor.labelling.manual import manual_method
from surveyor.labelling.matching import match
from surveyor.structures import structure_id, write_structures
from surveyor.structures.comparison import compare
from surveyor.types import Labels

runner = CliRunner()


def call(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def computed(atoms: Atoms) -> Atoms:
    """What a program would hand back: the bare geometry with its results, no ids."""
    bare = Atoms(atoms.numbers, atoms.positions)
    bare.calc = EMT()
    energy, forces = bare.get_potential_energy(), bare.get_forces()
    bare.calc = SinglePointCalculator(bare, energy=energy, forces=forces)
    return bare


def reordered(atoms: Atoms, order: np.ndarray) -> Atoms:
    """The same results with the atoms in another order."""
    changed = Atoms(atoms.numbers[order], atoms.positions[order])
    results = atoms.calc.results
    changed.calc = SinglePointCalculator(changed, energy=results["energy"], forces=results["forces"][order])
    return changed


def moved(atoms: Atoms, positions: np.ndarray, rotation: Rotation | None = None) -> Atoms:
    """The same results at other positions, with turned forces where a rotation is given."""
    forces = atoms.calc.results["forces"]
    changed = Atoms(atoms.numbers, positions)
    changed.calc = SinglePointCalculator(
        changed,
        energy=atoms.calc.results["energy"],
        forces=forces if rotation is None else rotation.apply(forces),
    )
    return changed


def batch_of(folder: Path, structures: list[Atoms]) -> tuple[Path, Ledger]:
    export_batch(structures, folder / "batch", method="manual", campaign=None, separate=False)
    return folder / "batch", Ledger(folder / "labels", "manual")


def look(batch: Path, ledger: Ledger, frames: list[Atoms], **options: object) -> Collected:
    path = batch.parent / "results.extxyz"
    ase.io.write(path, frames, format="extxyz")
    return collect(open_batch(batch), [path], ledger, **options)  # type: ignore[arg-type]


def check_labels(ledger: Ledger, structures: list[Atoms], atol: float = 1e-7) -> None:
    for atoms in structures:
        found, direct = ledger.structures[structure_id(atoms)], computed(atoms)
        assert found.info["REF_energy"] == pytest.approx(direct.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(found.arrays["REF_forces"], direct.get_forces(), atol=atol)
        np.testing.assert_array_equal(found.numbers, atoms.numbers)


# ---- the comparison ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_comparison_finds_any_order_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = rattled(4, seed)[seed % 4]
    order = rng.permutation(len(atoms))
    shuffled = atoms[order]
    shuffled.positions += rng.uniform(-4e-4, 4e-4, (len(atoms), 3))
    found = compare(atoms, shuffled, 1e-3)
    assert found.order is not None
    np.testing.assert_array_equal(order[found.order], np.arange(len(atoms)))
    assert found.offset < 1e-3
    other = atoms.copy()
    other.positions[rng.integers(len(atoms))] += [0.01, 0, 0]
    assert compare(atoms, other, 1e-3).order is None


def test_comparison_knows_lattice_translations() -> None:
    atoms = rattled(1, 0)[0]
    atoms.set_cell(np.diag([6.0, 7.0, 8.0]))
    atoms.pbc = True
    wrapped = atoms.copy()
    wrapped.positions[1] += [6.0, 0, -8.0]
    assert compare(atoms, wrapped, 1e-3).order is not None
    wrapped.pbc = False
    assert "periodic" in compare(atoms, wrapped, 1e-3).reason
    stretched = atoms.copy()
    stretched.set_cell(np.diag([6.1, 7.0, 8.0]))
    assert "cell vectors differ by 0.1" in compare(atoms, stretched, 1e-3).reason


# ---- matching ---------------------------------------------------------------------------------------


def test_order_names_and_digits_do_not_matter(tmp_path: Path) -> None:
    structures = rattled(12, seed=1)
    batch, ledger = batch_of(tmp_path, structures)
    rng = np.random.default_rng(0)
    results = [computed(atoms) for atoms in structures]
    for number in (1, 5):
        results[number] = reordered(results[number], rng.permutation(len(results[number])))
    for number in (2, 3, 7):
        results[number] = moved(results[number], np.round(structures[number].positions, 4))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for place, number in enumerate(rng.permutation(12)):
        ase.io.write(folder / f"job-{place}.extxyz", results[number], format="extxyz")
    (folder / "notes.txt").write_text("all went well\n")
    found = collect(open_batch(batch), [folder], ledger)
    assert len(found.new) == 12
    assert (found.missing, found.rejected) == ([], [])
    assert [one.where for one in found.passed_over] == [str(folder / "notes.txt")]
    assert 1e-6 < found.largest_offset < 1e-3
    check_labels(ledger, structures)


def test_a_turned_molecule_is_taken_only_when_asked_for(tmp_path: Path) -> None:
    structures = rattled(4, seed=2)
    batch, ledger = batch_of(tmp_path, structures)
    rotation = Rotation.from_euler("xyz", [20, 50, 70], degrees=True)
    turned = [
        moved(computed(atoms), rotation.apply(atoms.positions) + np.array([1, 2, 3]), rotation)
        for atoms in structures
    ]
    found = look(batch, ledger, turned)
    assert len(found.missing) == 4
    assert all("--align turns the forces back" in r.reason for r in found.rejected)
    found = look(batch, ledger, turned, align=True)
    assert (len(found.new), found.rejected) == (4, [])
    check_labels(ledger, structures, atol=1e-6)


def test_forces_of_another_frame_and_mirror_images_are_refused(tmp_path: Path) -> None:
    structures = rattled(4, seed=3)[3:]
    batch, ledger = batch_of(tmp_path, structures)
    rotation = Rotation.from_euler("xyz", [20, 50, 70], degrees=True)
    result = computed(structures[0])
    half_turned = moved(result, rotation.apply(structures[0].positions))
    found = look(batch, ledger, [half_turned], align=True)
    assert "positions and forces are not in one frame" in found.rejected[0].reason
    mirrored = moved(result, structures[0].positions * [-1, 1, 1])
    found = look(batch, ledger, [mirrored], align=True)
    assert "from their places" in found.rejected[0].reason
    assert len(ledger) == 0


def test_what_could_be_two_structures_is_an_error_unless_its_id_or_content_decides(tmp_path: Path) -> None:
    first = rattled(1, seed=4)[0]
    second = first.copy()
    second.positions[0, 0] += 4e-4
    batch, ledger = batch_of(tmp_path, [first, second])
    between = moved(computed(first), first.positions + np.outer([1, 0, 0], [2e-4, 0, 0]))
    found = look(batch, ledger, [between])
    assert "ambiguous: 2 structures are like it" in found.rejected[0].reason
    assert found.missing == [structure_id(first), structure_id(second)]
    named = between.copy()
    named.calc = between.calc
    named.info["surveyor_id"] = structure_id(second)
    assert list(look(batch, ledger, [named]).new) == [structure_id(second)]
    assert list(look(batch, ledger, [computed(first)]).new) == [structure_id(first)]


def test_an_id_that_contradicts_the_geometry_is_refused(tmp_path: Path) -> None:
    structures = rattled(8, seed=5)
    batch, ledger = batch_of(tmp_path, structures)
    swapped = computed(structures[0])
    swapped.info["surveyor_id"] = structure_id(structures[4])
    found = look(batch, ledger, [swapped])
    assert "but its geometry is that of" in found.rejected[0].reason
    assert len(ledger) == 0


def test_charge_and_spin_belong_to_the_structure(tmp_path: Path) -> None:
    neutral = rattled(1, seed=6)[0]
    cation = neutral.copy()
    cation.info |= {"total_charge": 1, "total_spin": 2}
    batch, ledger = batch_of(tmp_path, [neutral, cation])
    found = look(batch, ledger, [computed(neutral)])
    assert "ambiguous" in found.rejected[0].reason
    named = computed(neutral)
    named.info |= {"total_charge": 1, "total_spin": 2}
    assert list(look(batch, ledger, [named]).new) == [structure_id(cation)]
    wrong = computed(neutral)
    wrong.info |= {"total_charge": 2}
    assert "total_charge 2, not" in look(batch, ledger, [wrong]).rejected[0].reason


def test_bad_numbers_and_foreign_structures_are_listed(tmp_path: Path) -> None:
    structures = rattled(4, seed=7)
    batch, ledger = batch_of(tmp_path, structures)
    nan = computed(structures[0])
    nan.calc.results["energy"] = float("nan")
    inf = computed(structures[1])
    inf.calc.results["forces"][0, 0] = np.inf
    bare = Atoms(structures[2].numbers, structures[2].positions)
    no_forces = Atoms(structures[3].numbers, structures[3].positions, info={"energy": -1.0})
    foreign = computed(rattled(1, seed=99)[0])
    found = look(batch, ledger, [nan, inf, bare, no_forces, foreign])
    reasons = [r.reason for r in found.rejected]
    assert "NaN or inf" in reasons[0]
    assert "NaN or inf" in reasons[1]
    assert "no energy and no forces" in reasons[2]
    assert "no forces" in reasons[3]
    assert "like nothing of the batch; the closest" in reasons[4]
    assert (len(ledger), len(found.missing)) == (0, 4)
    assert "frame 2" in found.rejected[2].where


def test_labels_come_once_and_contradictions_are_told(tmp_path: Path) -> None:
    structures = rattled(3, seed=8)
    batch, ledger = batch_of(tmp_path, structures)
    first = computed(structures[0])
    found = look(batch, ledger, [first, first])
    assert (len(found.new), len(found.missing)) == (1, 2)
    content = ledger.path.read_bytes()
    again = look(batch, ledger, [first])
    assert (again.new, list(again.known), again.rejected) == ({}, [structure_id(structures[0])], [])
    other = moved(first, structures[0].positions)
    other.calc.results["energy"] += 0.5
    assert "differs by 0.5 eV" in look(batch, ledger, [other]).rejected[0].reason
    assert ledger.path.read_bytes() == content


def test_batches_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    structures = rattled(4, seed=9)
    batch, _ = batch_of(tmp_path, structures)
    export_batch(structures, batch, method="manual", campaign=None, separate=True)  # once more: no harm
    assert len(list((batch / "xyz").iterdir())) == 4
    with pytest.raises(LabellingError, match="holds another batch"):
        export_batch(structures[:2], batch, method="manual", campaign=None, separate=False)
    with pytest.raises(LabellingError, match="is not an exported batch"):
        open_batch(tmp_path)
    with pytest.raises(LabellingError, match="no structure waits"):
        export_batch([], tmp_path / "b", method="manual", campaign=None, separate=False)
    write_structures(batch / "structures.extxyz", structures[:2])
    with pytest.raises(LabellingError, match="does not hold the structures that were exported"):
        open_batch(batch)


def test_match_of_an_empty_batch() -> None:
    atoms = rattled(1, seed=0)[0]
    assert (
        match(atoms, Labels(0.0, np.zeros((3, 3))), Candidates({}, 1e-3), align=True).reason
        == "the batch is empty"
    )


# ---- the commands -------------------------------------------------------------------------------------


def test_export_and_collect_a_file(tmp_path: Path) -> None:
    structures = rattled(5, seed=10)
    picks = write_structures(tmp_path / "picks.extxyz", structures)
    batch, results = tmp_path / "batch", tmp_path / "results"
    assert "5 structures" in call(
        "label", "export", picks, batch, "--separate", "--method", "PBE, Jo's cluster"
    )
    results.mkdir()
    for path in sorted((batch / "xyz").iterdir())[:3]:  # people may well start from these
        ase.io.write(
            results / f"{path.stem}-out.xyz", computed(ase.io.read(path, format="extxyz")), format="extxyz"
        )
    output = tmp_path / "labelled.extxyz"
    found = json.loads(call("label", "collect", batch, results, "-o", output, "--json"))
    assert (len(found["new"]), len(found["missing"])) == (3, 2)
    assert len(ase.io.read(output, ":")) == 3
    (journal,) = (batch / "labels").glob("manual-PBE-Jo-s-cluster-*.extxyz")
    assert len(ase.io.read(journal, ":")) == 3
    text = call("label", "collect", batch, results)
    assert "0 new labels, 3 there already; 0 not taken, 0 passed over; 3 of 5 settled" in text
    assert f"still missing: {found['missing'][0][:8]}" in text
    for name in ("zzz", "", " ", found["missing"][0][:8], found["missing"][0].upper()):
        message = call("label", "collect", batch, "--give-up", found["missing"][1], "--give-up", name, code=2)
        assert "no structure of the batch has this id; nothing was given up" in " ".join(message.split())
    text = call("label", "collect", batch, "--give-up", found["missing"][0])
    assert "4 of 5 settled" in text
    assert "there is no" in call("label", "collect", batch, tmp_path / "nowhere", code=2)
    bad = write_structures(tmp_path / "bad.extxyz", emt_labelled(rattled(1, seed=77)))
    assert "like nothing of the" in " ".join(call("label", "collect", batch, bad, code=1).split())


def manual_campaign(folder: Path, model: Path) -> Path:
    """The file of a campaign of one round, whose four labels come from people."""
    write_structures(folder / "pool.extxyz", rattled(20, seed=1))
    write_structures(folder / "start.extxyz", emt_labelled(rattled(3, seed=2)))
    content = {
        "pool": "pool.extxyz",
        "start": "start.extxyz",
        "model": str(model),
        "features": {"dim": 32},
        "selection": {"batch": 4},
        "labels": {"calculator": "manual", "settings": {"method": "EMT by hand"}},
        "training": {"updates": 4, "threads": 1, "quality": "quick"},
        "stop": {"rounds": 1},
    }
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_campaign_waits_for_people(tmp_path: Path, model_file: Path) -> None:
    config, folder, batch = manual_campaign(tmp_path, model_file), tmp_path / "c", tmp_path / "batch"
    result = runner.invoke(app, ["run", str(config), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["waiting"] == 4
    assert f"surveyor label export {folder}" in result.stderr
    call("label", "export", folder, batch)
    waiting = ase.io.read(batch / "structures.extxyz", ":")
    done = tmp_path / "done.extxyz"
    ase.io.write(done, [computed(atoms) for atoms in waiting[:3]], format="extxyz")
    call("label", "collect", batch, done)
    assert json.loads(call("run", config, "--json").splitlines()[-1])["waiting"] == 1
    rest = json.loads(call("label", "export", folder, tmp_path / "rest", "--json"))["ids"]
    assert rest == [structure_id(waiting[3])]
    call("label", "collect", batch, "--give-up", "missing")
    assert "no structure waits" in call("label", "export", folder, tmp_path / "none", code=2)
    (journal,) = (folder / "labels").glob("manual-EMT-by-hand-*.extxyz")
    for atoms, source in zip(ase.io.read(journal, ":"), waiting, strict=False):
        assert atoms.info["REF_energy"] == pytest.approx(computed(source).get_potential_energy())


@pytest.mark.slow
def test_a_campaign_goes_on_with_labels_from_people(tmp_path: Path, model_file: Path) -> None:
    config, folder, batch = manual_campaign(tmp_path, model_file), tmp_path / "c", tmp_path / "batch"
    call("run", config)
    call("label", "export", folder, batch)
    waiting = ase.io.read(batch / "structures.extxyz", ":")
    done = tmp_path / "done.extxyz"
    ase.io.write(done, [computed(atoms) for atoms in waiting[:3]], format="extxyz")
    call("label", "collect", batch, done, "--give-up", "missing")
    assert json.loads(call("run", config, "--json").splitlines()[-1])["rounds"] == 1
    last = read_campaign(folder).rounds[-1]
    assert (last.labels, last.failed) == (6, 1)


def test_labels_of_two_methods_never_mix(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    write_structures(tmp_path / "pool.extxyz", rattled(3, seed=1))
    (folder / "config.yaml").write_text(f"pool: {tmp_path / 'pool.extxyz'}\n")
    (folder / "state.json").write_text('{"schema": 1, "method": "gfn2-xtb-x", "potential": "p"}')
    assert "gets its labels from gfn2-xtb-x" in call("label", "export", folder, tmp_path / "b", code=2)
    (folder / "config.yaml").write_text(f"pool: {tmp_path / 'pool.extxyz'}\nlabels: {{calculator: manual}}\n")
    batch, _ = batch_of(tmp_path, rattled(3, seed=1))
    message = call("label", "collect", batch, "--campaign", folder, code=2)
    assert "the batch is for manual" in message
    method = manual_method("")
    (folder / "state.json").write_text(json.dumps({"schema": 1, "method": method, "potential": "p"}))
    export_batch(rattled(3, seed=1), tmp_path / "own", method=method, campaign=folder, separate=False)
    message = " ".join(call("label", "collect", tmp_path / "own", code=2).split())
    assert "has not chosen 3 of the 3 structures" in message
    (folder / "state.json").write_text("[1]")
    assert "a list, not a mapping" in call("label", "collect", tmp_path / "own", code=2)
    (folder / "state.json").write_text('{"schema": 1, "method": "gfn2-xtb-x", "potential": "p"}')
    assert "chosen no structures that wait" in call("label", "export", folder, tmp_path / "b", code=2)


def test_label_a_file_and_go_on(tmp_path: Path) -> None:
    structures = rattled(5, seed=11)
    structures.append(structures[0].copy())  # the same once more
    picks = write_structures(tmp_path / "picks.extxyz", structures)
    output = tmp_path / "labelled.extxyz"
    options = ("-c", "ase.calculators.emt.EMT", "--processes", 1, "--json")
    write_structures(tmp_path / "few.extxyz", structures[:2])
    first = json.loads(call("label", tmp_path / "few.extxyz", "-o", output, *options))
    assert (first["new"], first["labelled"]) == (2, 2)
    found = json.loads(call("label", picks, "-o", output, *options))
    assert (found["new"], found["labelled"], found["structures"]) == (3, 6, 6)
    assert found["method"].startswith("emt-ase-")
    labelled = ase.io.read(output, ":")
    for atoms, source in zip(labelled, structures, strict=True):
        assert structure_id(atoms) == structure_id(source)
        assert atoms.info["reaction"] == source.info["reaction"]
        np.testing.assert_allclose(atoms.arrays["REF_forces"], computed(source).get_forces(), atol=1e-6)
    assert json.loads(call("label", picks, "-o", output, *options))["new"] == 0
    settings_file = tmp_path / "labels.yaml"
    settings_file.write_text("calculator: ase.calculators.emt.EMT\n")
    text = call("label", "file", picks, "-o", output, "--config", settings_file)
    assert "6 of 6 structures labelled (0 new)" in text


@pytest.mark.slow
def test_a_killed_label_command_goes_on_without_labelling_twice(tmp_path: Path) -> None:
    structures = rattled(12, seed=14)
    picks = write_structures(tmp_path / "picks.extxyz", structures)
    log, output, config = tmp_path / "log", tmp_path / "labelled.extxyz", tmp_path / "labels.yaml"
    settings = {"log": str(log), "seconds": 0.5}
    config.write_text(yaml.safe_dump({"calculator": "calculators:CountingEMT", "settings": settings}))
    options = ["label", picks, "-o", output, "--config", config, "--processes", "2"]
    command = [sys.executable, "-m", "surveyor.cli", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    for least in (2, 6):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while not log.exists() or len(log.read_text().split()) < least:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(ase.io.read(output, ":")) == 12
    assert Counter(log.read_text().split()) == {structure_id(atoms): 1 for atoms in structures}


def test_labels_that_fail_are_listed_and_tried_again(tmp_path: Path) -> None:
    structures = [*rattled(1, seed=12), Atoms("He", [[0, 0, 0]])]  # EMT knows no helium
    picks = write_structures(tmp_path / "picks.extxyz", structures)
    output = tmp_path / "labelled.extxyz"
    text = call("label", picks, "-o", output, "-c", "ase.calculators.emt.EMT", "--processes", 1, code=1)
    assert "No EMT-potential for He" in text
    assert "1 of 2 structures labelled (1 new)" in text
    text = call("label", picks, "-o", output, "-c", "ase.calculators.emt.EMT", "--processes", 1, code=1)
    assert "1 of 2 structures labelled (0 new)" in text


def test_bad_options_of_label(tmp_path: Path) -> None:
    picks = write_structures(tmp_path / "picks.extxyz", rattled(2, seed=13))
    output = tmp_path / "labelled.extxyz"
    assert "did you mean 'pyscf'" in call("label", picks, "-o", output, "-c", "pycsf", code=2)
    message = call("label", picks, "-o", output, "-c", "pyscf", "-s", "functionl=pbe", code=2)
    assert "did you mean 'functional'" in message
    assert "key=value" in call("label", picks, "-o", output, "-s", "functional", code=2)
    assert "come from people" in call("label", picks, "-o", output, "-c", "manual", code=2)
    (tmp_path / "l.yaml").write_text("calculatr: x\n")
    assert "did you mean 'calculator'" in call(
        "label", picks, "-o", output, "--config", tmp_path / "l.yaml", code=2
    )
    assert "would be replaced" in call("label", picks, "-o", picks, code=2)
    assert "no such file" in call("label", tmp_path / "no.xyz", "-o", output, code=2)
    assert "Example: surveyor label picks.extxyz" in call("label", "--help")
    for command in ("file", "export", "collect"):
        assert "Example: surveyor label" in " ".join(
            call("label", command, "--help").replace("│", " ").split()
        )


def test_a_campaign_of_any_name_exports_and_a_fault_of_the_manifest_is_named(tmp_path: Path) -> None:
    campaign = tmp_path / "bytes-\udcff"  # no UTF-8, as file systems allow
    folder = tmp_path / "batch"
    export_batch(rattled(1, seed=0), folder, method="emt", campaign=campaign, separate=False)
    assert open_batch(folder).campaign == campaign
    manifest = folder / "batch.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "campaign": "elsewhere"}))
    with pytest.raises(LabellingError, match=r"\(campaign: Value error, no absolute path\)"):
        open_batch(folder)
