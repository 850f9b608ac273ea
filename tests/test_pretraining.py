"""Molecules, geometries, labels and their journal, recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.data import vdw_radii
from hypothesis import given
from hypothesis import strategies as st

from surveyor.errors import ConfigError, LabellingError
from surveyor.lab.pretraining.dataset import (
    SPLITS,
    assign_splits,
    check_tasks,
    label_tasks,
    make_tasks,
    open_journal,
    read_splits,
)
from surveyor.lab.pretraining.frames import Task, make_frames
from surveyor.lab.pretraining.geometry import (
    bond_scans,
    displace,
    embed,
    model_hessian,
    place,
    random_rotation,
)
from surveyor.lab.pretraining.journal import Journal
from surveyor.lab.pretraining.molecules import ELEMENTS, make_molecules, require_rdkit
from surveyor.lab.pretraining.parts import ALONE, FRAGMENTS, LISTED, REFUSED, SITES_ACID, SITES_BASE
from surveyor.lab.pretraining.recipe import FramesSpec, MoleculesSpec, Recipe, load_recipe
from surveyor.lab.pretraining.references import charge_references, references_of_start, subtract_references
from surveyor.lab.pretraining.replay import natural_shares, replay_subset
from surveyor.lab.pretraining.sampling import representative
from surveyor.lab.pretraining.start import check_start
from surveyor.types import Labels

pytest.importorskip("rdkit", reason="needs surveyor[pretrain]")

EXAMPLES = Path(__file__).parents[1] / "examples"


def tiny(**changes: object) -> Recipe:
    """Three molecules with two displacements each."""
    frames = FramesSpec(
        displaced_per_molecule=2, relaxation_steps=2, relaxation_frames=1, md_share=0.0, dimers=0, scans=False
    )
    values: dict[str, object] = {
        "molecules": MoleculesSpec(count=3, max_heavy_atoms=2),
        "frames": frames,
        "labelling": {"processes": 1},
    }
    return Recipe.model_validate(values | changes)


def test_every_listed_part_is_a_molecule() -> None:
    chem = require_rdkit()
    for smiles in (*LISTED, *FRAGMENTS, *ALONE):
        assert chem.MolFromSmiles(smiles) is not None, smiles
    for pattern in (*REFUSED, *SITES_ACID, *SITES_BASE):
        assert chem.MolFromSmarts(pattern) is not None, pattern


def test_molecules_are_a_function_of_the_seed() -> None:
    spec = MoleculesSpec(count=260, max_heavy_atoms=9, ion_share=0.2)
    first, again, other = (make_molecules(spec, seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert len({m.smiles for m in first}) == 260


def test_molecules_are_closed_shell_and_of_known_elements() -> None:
    chem = require_rdkit()
    made = make_molecules(MoleculesSpec(count=260, max_heavy_atoms=9, ion_share=0.2), seed=5)
    assert any(m.charge > 0 for m in made[len(LISTED) :])
    assert any(m.charge < 0 for m in made[len(LISTED) :])
    for one in made:
        mol = chem.AddHs(chem.MolFromSmiles(one.smiles))
        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        assert set(numbers) <= set(ELEMENTS)
        assert (sum(numbers) - one.charge) % 2 == 0, f"{one.smiles} has an odd number of electrons"
        assert one.heavy_atoms <= 9
        assert chem.GetFormalCharge(mol) == one.charge
        assert chem.MolToSmiles(chem.MolFromSmiles(one.smiles)) == one.smiles


def test_too_many_molecules_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"molecules\.count"):
        make_molecules(MoleculesSpec(count=5000, max_heavy_atoms=2), seed=0)


def test_model_hessian_is_that_of_its_springs() -> None:
    atoms = ase_molecule("CH3OH")
    hessian = model_hessian(atoms)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    values = np.linalg.eigvalsh(hessian)
    assert values[0] > -1e-9, "springs at rest have no negative direction"
    for axis in range(3):
        shift = np.zeros((len(atoms), 3))
        shift[:, axis] = 1.0
        np.testing.assert_allclose(hessian @ shift.ravel(), 0.0, atol=1e-9)


def test_displacements_grow_with_temperature_and_keep_the_centre() -> None:
    atoms = ase_molecule("CH3CH2OH")
    rng = np.random.default_rng(0)
    spread = []
    for temperature in (100.0, 1000.0):
        moved = [displace(atoms, temperature, rng).positions - atoms.positions for _ in range(80)]
        spread.append(np.std(moved))
        np.testing.assert_allclose([m.mean(axis=0) for m in moved], 0.0, atol=1e-6)
    assert spread[1] / spread[0] == pytest.approx(10**0.5, rel=0.15)


def test_random_rotations_rotate() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        rotation = random_rotation(rng)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1.0)


@pytest.mark.parametrize(("closeness", "gap"), [(0.6, 0.0), (1.0, 0.0), (1.0, 2.5)])
def test_dimers_touch_as_asked(closeness: float, gap: float) -> None:
    first, second = ase_molecule("CH3OH"), ase_molecule("H2O")
    rng = np.random.default_rng(2)
    for _ in range(20):
        pair = place(first, second, closeness, gap, rng)
        n = len(first)
        distances = np.linalg.norm(pair.positions[:n, None] - pair.positions[None, n:], axis=-1)
        radii = vdw_radii[first.numbers][:, None] + vdw_radii[second.numbers][None, :]
        slack = distances - closeness * radii - gap
        assert slack.min() > -1e-9
        assert slack.min() < 1e-6 or np.isclose(slack.min(), 0.0, atol=2.0), "the pair touches or passes by"


def test_bond_scans_move_one_bond() -> None:
    atoms = embed("CF", np.random.default_rng(0))
    assert atoms is not None
    frames = bond_scans("CF", atoms, np.array([0.1, 0.8]))
    # C–F and one C–H, each at two lengths
    assert len(frames) == 4
    assert frames[0].get_distance(0, 1) == pytest.approx(0.5)
    assert frames[1].get_distance(0, 1) == pytest.approx(0.8 * atoms.get_distance(0, 1))


@pytest.mark.parametrize(
    "task",
    [
        Task("molecule", ("CCO",), (0,), "train", 0, md=True),
        Task("dimer", ("O", "[Cl-]"), (0, -1), "train", 0),
        Task("scan", ("F",), (0,), "train", 0),
        Task("atoms", (), (), "train", 0),
    ],
    ids=lambda task: task.kind,
)
def test_frames_are_deterministic_finite_and_distinct(task: Task) -> None:
    spec = FramesSpec(md_steps=30, displaced_per_molecule=4, relaxation_steps=3)
    frames, calls = make_frames(task, spec, "GFN2-xTB")
    again, _ = make_frames(task, spec, "GFN2-xTB")
    assert frames
    assert calls >= len(frames)
    assert len(again) == len(frames)
    for one, two in zip(frames, again, strict=True):
        np.testing.assert_array_equal(one.atoms.positions, two.atoms.positions)
        np.testing.assert_allclose(one.labels.forces, two.labels.forces, atol=1e-9)
        assert np.isfinite(one.labels.energy)
        assert one.charge == sum(task.charges)
    assert len({frame.labels.energy for frame in frames}) == len(frames)


def test_labels_belong_to_the_stored_geometry() -> None:
    frames, _ = make_frames(
        Task("molecule", ("CO",), (0,), "train", 0, md=True), FramesSpec(md_steps=15), "GFN2-xTB"
    )
    from tblite.ase import TBLite

    for frame in frames:
        atoms = Atoms(frame.atoms.numbers, positions=frame.atoms.positions.round(6))
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        assert atoms.get_potential_energy() == pytest.approx(frame.labels.energy, abs=1e-4)


def test_killed_labelling_resumes_with_the_same_bytes(tmp_path: Path) -> None:
    recipe = tiny()
    tasks = make_tasks(recipe)
    assert [task.kind for task in tasks] == ["atoms", "molecule", "molecule", "molecule"]
    whole = open_journal(recipe, tmp_path / "whole")
    all_calls = label_tasks(tasks, recipe, whole)
    text = whole.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(text) if byte == 10]
    assert len(ends) == 5
    # Two tasks are sound, the third is torn in the middle of its line.
    torn = tmp_path / "torn" / "labels.jsonl"
    torn.parent.mkdir()
    torn.write_bytes(text[: (ends[2] + ends[3]) // 2])
    resumed = open_journal(recipe, torn.parent)
    assert resumed.keys == {task.key for task in tasks[:2]}
    seen: list[int] = []
    calls = label_tasks(tasks, recipe, resumed, lambda done, *_: seen.append(done))
    assert seen == [3, 4]
    assert 0 < calls < all_calls - 8, "labels of the sound tasks are not computed again"
    assert torn.read_bytes() == text
    assert label_tasks(tasks, recipe, open_journal(recipe, torn.parent)) == 0


def test_two_processes_write_the_journal_of_one(tmp_path: Path) -> None:
    journals = []
    for processes in (1, 2):
        recipe = tiny(labelling={"processes": processes, "max_frames": 20})
        journal = open_journal(recipe, tmp_path / str(processes))
        label_tasks(make_tasks(recipe), recipe, journal)
        journals.append(journal.path.read_bytes())
    assert journals[0].count(b"\n") > 3
    assert journals[0] == journals[1]


def test_damage_inside_the_journal_cuts_what_follows(tmp_path: Path) -> None:
    recipe = tiny()
    journal = Journal(tmp_path / "j.jsonl", {"schema": 1})
    for key in "abc":
        journal.append(key, [])
    text = journal.path.read_bytes()
    journal.path.write_bytes(text.replace(b'"b"', b'"x"'))
    assert Journal(journal.path, {"schema": 1}).keys == {"a"}
    open_journal(recipe, tmp_path / "r")
    with pytest.raises(LabellingError, match="other settings"):
        open_journal(tiny(seed=3), tmp_path / "r")


def test_labelling_stops_at_the_frame_limit(tmp_path: Path) -> None:
    recipe = tiny(labelling={"processes": 1, "max_frames": 9})
    tasks = make_tasks(recipe)
    journal = open_journal(recipe, tmp_path)
    label_tasks(tasks, recipe, journal)
    assert len(journal.keys) == 2
    frames = read_splits(journal, tasks, 9)
    assert len(frames["atoms"]) == 8
    assert {a.info["config_type"] for a in frames["atoms"]} == {"IsolatedAtom"}


def test_an_empty_split_is_refused_before_labelling() -> None:
    with pytest.raises(ConfigError, match="no molecule falls into the split 'valid'"):
        check_tasks(make_tasks(tiny()))
    large = tiny(molecules={"count": 250, "max_heavy_atoms": 6}, split={"valid": 0.2, "held_out": 0.2})
    check_tasks(make_tasks(large))


def test_splits_are_by_molecule() -> None:
    recipe = tiny(
        molecules={"count": 250, "max_heavy_atoms": 6},
        frames={"dimers": 60},
        split={"valid": 0.2, "held_out": 0.2},
    )
    molecules = make_molecules(recipe.molecules, recipe.seed)
    splits = assign_splits(molecules, recipe)
    assert set(splits.values()) == set(SPLITS)
    assert all(splits[m.smiles] == "train" for m in molecules if m.heavy_atoms <= 3)
    for task in make_tasks(recipe):
        alone = set(task.smiles) & set(ALONE)
        assert {splits[s] for s in task.smiles if s not in alone} <= {task.split}


def test_ions_are_put_on_the_scale_of_neutral_molecules() -> None:
    energies = {1: -10.0, 8: -100.0}

    def frame(symbols: str, energy: float, charge: int) -> Atoms:
        atoms = Atoms(symbols, positions=np.zeros((len(Atoms(symbols)), 3)))
        atoms.info = {"REF_energy": energy, "total_charge": charge}
        return atoms

    frames = [
        frame("H2", -22.0, 0),
        frame("OH2", -124.0, 0),
        frame("OH3", -125.0 + 10.5 - 10.0, 1),
        frame("OH", -112.0 - 7.5, -1),
    ]
    references = charge_references(frames, energies)
    assert references == pytest.approx({-1: -6.5, 1: 10.5})
    subtract_references(frames, references)
    assert frames[3].info["REF_energy"] == pytest.approx(-119.5 + 6.5)
    assert frames[0].info["REF_energy"] == -22.0


def test_references_of_a_start_are_its_own_median_errors() -> None:
    class Known:
        def predict(self, structures: list[Atoms]) -> list[Labels]:
            return [
                Labels(energy=float(atoms.info["known"]), forces=np.zeros((1, 3))) for atoms in structures
            ]

    frames = []
    for charge, error in [(-1, -6.0), (-1, -6.5), (-1, 40.0), (0, 3.0), (1, 11.0), (1, 12.0)]:
        atoms = Atoms("H", positions=[[0.0, 0.0, 0.0]])
        atoms.info = {"total_charge": charge, "known": -20.0, "REF_energy": -20.0 + error}
        frames.append(atoms)
    assert references_of_start(frames, Known()) == {-1: -6.0, 1: 11.5}  # type: ignore[arg-type]
    assert references_of_start(frames[3:4], Known()) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("pretrain-*.yaml")))
def test_the_example_recipes_load(name: str) -> None:
    recipe = load_recipe(EXAMPLES / name)
    if recipe.training.start is not None and recipe.training.start.parent.name == "benchmarks":
        check_start(recipe)
    assert recipe.labelling.method == "GFN2-xTB"


def test_a_misspelt_key_is_named_with_the_closest(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("training: {epoch: 3}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'training\.epoch'\n(.|\n)*did you mean 'epochs'"):
        load_recipe(path)
    path.write_text("molecule: {count: 3}\n")
    with pytest.raises(ConfigError, match="did you mean 'molecules'"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: -1\n", "seed = -1"),
        ("- a\n", "mapping"),
        ("a: [\n", "is not YAML"),
        ("training: {lr: 0.001, lr_end: 0.01}\n", "lr_end"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)


def test_a_missing_recipe_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_recipe(tmp_path / "none.yaml")


def test_files_are_relative_to_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("checks: {extra_tests: more.extxyz}\ntraining: {start: ../first.model}\n")
    recipe = load_recipe(path)
    assert recipe.checks.extra_tests == tmp_path / "more.extxyz"
    assert recipe.training.start == tmp_path / "../first.model"
    absolute = tmp_path / "other" / "first.model"
    path.write_text(f"training: {{start: {absolute}}}\n")
    assert load_recipe(path).training.start == absolute


def test_a_recipe_takes_over_another(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    below = tmp_path / "below" / "a.yaml"
    below.write_text("seed: 4\nmodel: {channels: 16}\ntraining: {start: a.model, epochs: 3, batch_size: 5}\n")
    path = tmp_path / "b.yaml"
    path.write_text("extends: below/a.yaml\nname: b\ntraining: {epochs: 7}\n")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.seed, recipe.model.channels) == ("b", 4, 16)
    assert (recipe.training.epochs, recipe.training.batch_size) == (7, 5)
    assert recipe.training.start == below.parent / "a.model", "relative to the file that names it"
    below.write_text("training: {epoch: 3}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: unknown key 'training\.epoch'"):
        load_recipe(path)
    below.write_text("extends: ../b.yaml\n")
    with pytest.raises(ConfigError, match="which extends it"):
        load_recipe(path)
    path.write_text("extends: [a]\n")
    with pytest.raises(ConfigError, match="the file of another recipe"):
        load_recipe(path)


def test_a_missing_rdkit_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ConfigError, match=r"pip install 'surveyor\[pretrain\]'"):
        require_rdkit()


def test_the_replay_subset_is_representative_diverse_and_seeded() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for number in range(400):
        # Nine in ten are displaced hydrocarbons; one molecule alone has bromine.
        symbols = "CBrH3" if number == 17 else ("CH4" if rng.random() < 0.9 else "H2O")
        atoms = Atoms(symbols)
        atoms.info = {"config_type": "md" if number % 4 == 0 else "displaced", "number": number}
        frames.append(atoms)
    chosen = replay_subset(frames, 40, seed=1)
    numbers = [atoms.info["number"] for atoms in chosen]
    assert len(numbers) == len(set(numbers)) == 40
    assert numbers == sorted(numbers)
    assert 17 in numbers
    assert sum(atoms.info["config_type"] == "md" for atoms in chosen) == 10
    # Within a kind the combinations of elements come in turn: half of the frames are of the rare molecule.
    assert sum(str(atoms.symbols) == "H2O" for atoms in chosen) >= 15
    assert numbers == [atoms.info["number"] for atoms in replay_subset(frames, 40, seed=1)]
    assert numbers != [atoms.info["number"] for atoms in replay_subset(frames, 40, seed=2)]
    assert replay_subset(frames[:5], 40, seed=1) == frames[:5]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.data())
def test_shares_are_natural(counts: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, sum(counts)))
    shares = natural_shares(counts, size)
    assert sum(shares) == size
    for count, share in zip(counts, shares, strict=True):
        assert abs(share - count * size / sum(counts)) < 1
        assert share <= count


def test_the_held_out_sample_has_the_shares_and_the_error_of_the_set() -> None:
    frames = []
    for number in range(600):
        atoms = Atoms("H")
        atoms.info = {
            "config_type": "dimer" if number % 10 == 0 else "displaced",
            "total_charge": -1 if number % 20 == 0 else 0,
            "number": number,
        }
        frames.append(atoms)
    errors = np.random.default_rng(0).lognormal(sigma=1.0, size=600)
    sample = representative(frames, errors, 60)
    numbers = [atoms.info["number"] for atoms in sample]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 60
    assert sum(atoms.info["total_charge"] == -1 for atoms in sample) == 3
    assert sum(atoms.info["config_type"] == "dimer" for atoms in sample) == 6
    assert errors[numbers].mean() == pytest.approx(errors.mean(), rel=0.1)
    assert representative(frames[:60], errors[:60], 60) == frames[:60]
