"""The tangent correction: exact, conservative, grown in closed form, kept without pickles."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from hypothesis import given, settings
from hypothesis import strategies as st

import surveyor
from surveyor.campaign import Plan, Stopping, run
from surveyor.errors import PotentialError
from surveyor.features import ForceTangent, Tangent
from surveyor.learner.choice import ALONE, UNTRAINED, choose_correction
from surveyor.learner.potential import (
    TangentPotential,
    correction,
    fit_tangent,
    force_tangent,
    labelled_rows,
)
from surveyor.learner.regression import Regression
from surveyor.learner.settings import TangentSettings
from surveyor.linearised import Rows, fit
from surveyor.metrics import errors
from surveyor.potentials.fine_tuning import FineTuningSettings
from surveyor.selection import make_rule
from surveyor.testing import check_potential
from surveyor.types import Labels, Potential
from tiny import random_molecule, tiny_mace
from toy_family import FAMILY, ToyPotential, install

SETTINGS = TangentSettings(dim=96, probes=3)


def labelled(potential: Potential, count: int, seed: int) -> list[Atoms]:
    """Structures with the predictions of another potential as labels."""
    rng = np.random.default_rng(seed)
    structures = [random_molecule(rng, 4 + k % 4) for k in range(count)]
    for atoms, label in zip(structures, potential.predict(structures), strict=True):
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = label.energy, label.forces
    return structures


def toy(seed: int) -> ToyPotential:
    found = FAMILY.open("small", device=None, dtype=None, head=None)
    torch.manual_seed(seed)
    for parameter in found.model.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return found


@pytest.fixture(scope="module", params=["mace", "toy"])
def pair(request: pytest.FixtureRequest) -> tuple[Potential, Potential]:
    """A potential, and the one that makes the labels."""
    if request.param == "mace":
        return tiny_mace(seed=1), tiny_mace(seed=2)
    return toy(1), toy(2)


@pytest.fixture(scope="module")
def corrected(pair: tuple[Potential, Potential]) -> TangentPotential:
    return fit_tangent(pair[0], labelled(pair[1], 14, seed=0), SETTINGS)


def differences(corrected: TangentPotential, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """What the correction adds to energies, and to all force components one after the other."""
    pairs = list(zip(corrected.predict(structures), corrected.base.predict(structures), strict=True))
    energies = np.array([own.energy - base.energy for own, base in pairs])
    return energies, np.concatenate([(own.forces - base.forces).ravel() for own, base in pairs])


def test_energies_and_forces_are_the_explicit_rows_times_the_weights(corrected: TangentPotential) -> None:
    rng = np.random.default_rng(5)
    structures = [random_molecule(rng, n) for n in (3, 7, 5)]
    energies, forces = differences(corrected, structures)
    w = corrected.regression.weights
    counts = [
        [sum(z == int(number) for number in atoms.numbers) for z in corrected.elements]
        for atoms in structures
    ]
    explicit = Tangent(corrected.base, dim=96)(structures).values @ w + np.array(counts) @ corrected.shifts
    np.testing.assert_allclose(energies, explicit, rtol=0, atol=1e-8)
    rows = ForceTangent(corrected.base, "all", 96)(structures).values
    np.testing.assert_allclose(forces, rows @ w, rtol=0, atol=1e-8)
    assert np.abs(forces).max() > 1e-3


def test_two_copies_of_the_weights_say_the_same(corrected: TangentPotential) -> None:
    """E₀ + (E₊ − E₋)/2ε, of ordinary potentials with weights θ ± εΔθ."""
    structures = [random_molecule(np.random.default_rng(6), n) for n in (4, 6)]
    energies, forces = differences(corrected, structures)
    energies -= np.array(
        [sum(corrected.shifts[corrected.elements.index(z)] for z in atoms.numbers) for atoms in structures]
    )
    norm = float(torch.cat([part.flatten() for part in corrected.step.values()]).norm())

    def slope(epsilon: float) -> tuple[np.ndarray, np.ndarray]:
        sides = []
        for sign in (1, -1):
            moved = copy.deepcopy(corrected.base)
            for name, step in corrected.step.items():
                moved.model.get_parameter(name).add_(sign * epsilon * step)
            sides.append(moved.predict(structures))
        return (
            np.array([(a.energy - b.energy) / (2 * epsilon) for a, b in zip(*sides, strict=True)]),
            np.concatenate(
                [((a.forces - b.forces) / (2 * epsilon)).ravel() for a, b in zip(*sides, strict=True)]
            ),
        )

    epsilon = 2e-3 / norm
    coarse, fine = slope(2 * epsilon), slope(epsilon)
    for wanted, far, near in zip((energies, forces), coarse, fine, strict=True):
        richardson = near + (near - far) / 3  # the error of second order goes
        np.testing.assert_allclose(wanted, richardson, rtol=0, atol=1e-8 * max(1.0, np.abs(wanted).max()))


def test_the_contract_holds_and_energy_is_conserved(
    corrected: TangentPotential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    structures = labelled(corrected.base, 4, seed=9)
    check_potential(corrected, structures)
    atoms = structures[0].copy()
    drifts = []
    for potential in (corrected.base, corrected):
        trial = atoms.copy()
        trial.calc = potential.calculator()
        trial.set_momenta(0.05 * np.random.default_rng(2).standard_normal((len(atoms), 3)))
        dynamics = VelocityVerlet(trial, 0.1 * units.fs)
        before = trial.get_total_energy()
        dynamics.run(100)
        drifts.append(abs(trial.get_total_energy() - before))
    assert drifts[1] < 3 * drifts[0] + 1e-5, drifts


def test_learning_lowers_the_errors(corrected: TangentPotential, pair: tuple[Potential, Potential]) -> None:
    structures = labelled(pair[1], 14, seed=0)

    def error(potential: Potential) -> float:
        found: list[Labels] = potential.predict(structures)
        return float(
            np.mean(
                [
                    np.abs(own.forces - atoms.arrays["REF_forces"]).mean()
                    for own, atoms in zip(found, structures, strict=True)
                ]
            )
        )

    assert error(corrected) < 0.8 * error(pair[0])


def test_more_labels_are_the_fit_from_scratch(pair: tuple[Potential, Potential]) -> None:
    structures = labelled(pair[1], 12, seed=3)
    grown = fit_tangent(pair[0], structures[:9], SETTINGS)
    whole = fit_tangent(pair[0], structures, SETTINGS)
    r, noise = grown.regression.energy_weight, grown.regression.posterior.noise
    for atoms in structures[9:]:
        grown = grown.with_labels([atoms])
    from surveyor.learner.potential import labelled_rows

    rows = labelled_rows(whole.rows, structures)
    scratch = Regression.blank(96, 4, noise=noise, energy_weight=r).add(rows)
    other = TangentPotential(pair[0], scratch, SETTINGS)
    for a, b in zip(grown.predict(structures), other.predict(structures), strict=True):
        assert a.energy == pytest.approx(b.energy, abs=1e-8)
        np.testing.assert_allclose(a.forces, b.forces, rtol=0, atol=1e-8)


def made_rows(seed: int, m: int, dim: int, elements: int) -> Rows:
    rng = np.random.default_rng(seed)
    probes = rng.integers(0, 4, m)
    counts = rng.integers(0, 4, (m, elements)).astype(float) + 1
    counts[:elements] += np.eye(min(m, elements), elements)
    n = counts.sum(axis=1, keepdims=True)
    total = int(probes.sum())
    return Rows(
        energy=rng.standard_normal((m, dim)) / n,
        energy_residual=rng.standard_normal(m),
        composition=counts / n,
        forces=rng.standard_normal((total, dim)),
        force_residual=rng.standard_normal(total),
        owner=np.repeat(np.arange(m), probes),
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(2, 9),
    dim=st.integers(1, 12),
    elements=st.integers(1, 3),
    noise=st.floats(1e-3, 10),
    r=st.sampled_from([1.0, 10.0]),
)
def test_weights_shifts_and_spreads_are_those_of_the_dense_equations(
    seed: int, m: int, dim: int, elements: int, noise: float, r: float
) -> None:
    rows = made_rows(seed, m, dim, elements)
    found = Regression.blank(dim, elements, noise=noise, energy_weight=r).add(rows)
    # everything together, δ as columns of no penalty, by the pseudoinverse
    lower = np.zeros((len(rows.forces), elements))
    M = np.block([[r * rows.energy, r * rows.composition], [rows.forces, lower]])
    y = np.concatenate([r * rows.energy_residual, rows.force_residual])
    penalty = np.diag([noise] * dim + [0.0] * elements)
    inverse = np.linalg.pinv(M.T @ M + penalty, rcond=1e-11, hermitian=True)
    solution = inverse @ M.T @ y
    if np.linalg.matrix_rank(rows.composition) == elements:
        np.testing.assert_allclose(found.weights, solution[:dim], rtol=0, atol=1e-7)
        np.testing.assert_allclose(found.shifts, solution[dim:], rtol=0, atol=1e-7)
        power = max(0.0, y @ (y - M @ solution))  # of an exact fit rounding is left, of either sign
        sigma = np.sqrt(power / max(1, len(y) - elements))
        rounding = 1e-7 * max(1.0, float(np.linalg.norm(y)))
        assert found.noise_std == pytest.approx(sigma, rel=1e-6, abs=rounding)
        z = np.concatenate([rows.energy, rows.composition], axis=1)
        gain = np.sqrt(np.einsum("ij,jk,ik->i", z, inverse, z))
        spread = found.std(rows.energy, rows.composition)
        np.testing.assert_allclose(spread, sigma * gain, rtol=1e-6, atol=rounding * max(1.0, gain.max()))
    np.testing.assert_allclose(M @ np.concatenate([found.weights, found.shifts]), M @ solution, atol=1e-7)


def test_the_fit_and_its_updatable_form_agree() -> None:
    rows = made_rows(4, 20, 15, 3)
    one = fit(rows)
    other = Regression.blank(15, 3, noise=one.noise, energy_weight=one.energy_weight).add(rows)
    np.testing.assert_allclose(other.weights, one.weights, atol=1e-9)
    np.testing.assert_allclose(other.shifts, one.shifts, atol=1e-9)


def test_spreads_shrink_where_labels_come(corrected: TangentPotential) -> None:
    fresh = labelled(corrected.base, 3, seed=21)
    energies, forces = corrected.std(fresh)
    after, settled = corrected.with_labels(fresh).std(fresh)
    scale = corrected.with_labels(fresh).regression.noise_std / corrected.regression.noise_std
    assert (after / scale < energies).all()
    assert [f.shape for f in forces] == [(len(atoms), 3) for atoms in fresh]
    assert np.mean([s.mean() for s in settled]) / scale < np.mean([f.mean() for f in forces])


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[TangentPotential], Path]:
    install(tmp_path, monkeypatch)

    def save(potential: TangentPotential) -> Path:
        potential.save(tmp_path / "one.tangent")
        return tmp_path / "one.tangent"

    return save


def test_saved_and_opened_it_is_the_same(
    corrected: TangentPotential, saved: Callable[[TangentPotential], Path]
) -> None:
    path = saved(corrected)
    opened = surveyor.open_potential(str(path))
    assert opened.fingerprint == corrected.fingerprint
    structures = labelled(corrected.base, 3, seed=30)
    for a, b in zip(opened.predict(structures), corrected.predict(structures), strict=True):
        assert a.energy == b.energy
        np.testing.assert_array_equal(a.forces, b.forces)
    more = opened.with_labels(structures).predict(structures)
    wanted = corrected.with_labels(structures).predict(structures)
    assert [a.energy for a in more] == [b.energy for b in wanted]
    with zipfile.ZipFile(path) as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())
    shifted = opened.with_reference_shifts({1: 0.5})
    for a, b, atoms in zip(shifted.predict(structures), wanted, structures, strict=True):
        assert a.forces.shape == b.forces.shape
        base = opened.predict([atoms])[0]
        assert a.energy == pytest.approx(base.energy + 0.5 * (atoms.numbers == 1).sum())
    again = path.with_name("again.tangent")
    again.symlink_to(path.parent / "elsewhere" / "planted")
    opened.save(again)  # the base lies there already, and no link is followed
    assert not again.is_symlink()
    assert len(list(path.parent.glob("*.base*"))) == 1
    assert surveyor.open_potential(str(again)).fingerprint == corrected.fingerprint


def test_another_or_missing_base_is_refused_before_it_is_opened(
    corrected: TangentPotential, saved: Callable[[TangentPotential], Path]
) -> None:
    path = saved(corrected)
    (base,) = path.parent.glob("*.base*")
    content = base.read_bytes()
    base.write_bytes(b"cos\nsystem\n" + content)
    with pytest.raises(PotentialError, match=r"corrects another one\.base"):
        surveyor.open_potential(str(path))
    base.unlink()
    with pytest.raises(PotentialError, match="which is not there"):
        surveyor.open_potential(str(path))
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(PotentialError, match="no corrected potential"):
        surveyor.open_potential(str(path))


@pytest.mark.parametrize("prefix", ["", "mace:", "tangent:"])
def test_a_base_that_nobody_named_is_not_opened(
    corrected: TangentPotential, saved: Callable[[TangentPotential], Path], tmp_path: Path, prefix: str
) -> None:
    path = saved(corrected)
    (tmp_path / "elsewhere").mkdir()
    planted = tmp_path / "elsewhere" / "planted.model"
    planted.write_bytes(pickle.dumps(Planted(tmp_path / "was-run")))

    def plant(about: dict[str, Any]) -> None:
        about["base"] |= {"name": f"{prefix}{planted}", "file": None, "sha256": None}

    rewritten(path, plant)
    with pytest.raises(PotentialError, match="a published potential by name, or a file in the same folder"):
        surveyor.open_potential(str(path))
    assert not (tmp_path / "was-run").exists()


class Planted:
    """What a hostile pickle does."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.mark,)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], **arrays: np.ndarray) -> None:
    """Change what stands in a file of a corrected potential."""
    with np.load(path) as stored:
        content = {name: stored[name] for name in stored.files} | arrays
    about = json.loads(content["about"].tobytes())
    change(about)
    content["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    with path.open("wb") as file:
        np.savez(file, **content)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("base"),
        lambda about: about["base"].pop("fingerprint"),
        lambda about: about["base"].update(head=3),
        lambda about: about.update(noise=-1.0),
        lambda about: about["settings"].update(dim=0),
        lambda about: about["settings"].update(dim=10**12),
        lambda about: about["settings"].pop("dim"),
    ],
)
def test_a_corrected_potential_that_was_edited_is_a_message(
    corrected: TangentPotential,
    saved: Callable[[TangentPotential], Path],
    change: Callable[[dict[str, Any]], object],
) -> None:
    path = saved(corrected)
    rewritten(path, change)
    with pytest.raises(PotentialError, match="no corrected potential"):
        surveyor.open_potential(str(path))


def test_a_corrected_potential_of_odd_arrays_is_a_message(
    corrected: TangentPotential, saved: Callable[[TangentPotential], Path]
) -> None:
    path = saved(corrected)
    factor = corrected.regression.posterior.factor[np.tril_indices(SETTINGS.dim)]
    for odd in (factor[:-1], factor * np.nan, factor.astype(str), factor + 0j):
        rewritten(path, len, factor=odd)
        with pytest.raises(PotentialError, match="no corrected potential: factor"):
            surveyor.open_potential(str(path))
    for content in (b"", b"\x93NUMPY\x01\x00 torn", b"cos\nsystem\n"):
        path.write_bytes(content)
        with pytest.raises(PotentialError, match="no corrected potential"):
            surveyor.open_potential(str(path))


def test_a_correction_is_kept_where_held_out_structures_gain(pair: tuple[Potential, Potential]) -> None:
    structures = labelled(pair[1], 24, seed=40)
    choice = choose_correction(pair[0], structures[:18], structures[18:], SETTINGS)
    assert isinstance(choice.potential, TangentPotential)
    with_it, without = choice.errors[choice.chosen], choice.errors["none"]
    assert with_it[0] / without[0] + with_it[1] / without[1] < 2
    rows = choice.potential.regression.posterior.n_rows  # the held-out labels are learnt from in the end
    assert rows == 24 * (1 + SETTINGS.probes if choice.chosen == "energies and forces" else 1)
    own = labelled_rows(force_tangent(pair[0], SETTINGS), structures)
    seen = own if choice.chosen == "energies and forces" else own.of_energies()
    weight = choice.potential.regression.energy_weight
    again = correction(pair[0], seen, SETTINGS, energy_weight=weight)  # with a λ that is chosen anew
    assert choice.potential.fingerprint == again.fingerprint
    assert f"{choice.errors['none'][1]:.0f} without" in str(choice)


def test_a_correction_that_brings_nothing_is_not_kept(pair: tuple[Potential, Potential]) -> None:
    own = labelled(pair[0], 20, seed=41)  # the potential's own predictions: nothing is lacking but noise
    rng = np.random.default_rng(0)
    for atoms in own:
        atoms.info["REF_energy"] += 0.01 * len(atoms) * rng.standard_normal()
        atoms.arrays["REF_forces"] += 0.05 * rng.standard_normal((len(atoms), 3))
    choice = choose_correction(pair[0], own[:14], own[14:], SETTINGS)
    assert choice.chosen == "none"
    assert choice.potential is pair[0]
    assert set(choice.errors) == {"none", "energies", "energies and forces"}


def test_the_pretrained_potential_wins_where_a_training_spoilt_it(pair: tuple[Potential, Potential]) -> None:
    start, other = pair
    structures = labelled(start, 40, seed=43)
    for atoms, label in zip(structures, other.predict(structures), strict=True):
        atoms.info["REF_energy"] += 0.05 * label.energy
        atoms.arrays["REF_forces"] += 0.05 * label.forces
    spoilt = copy.deepcopy(start)
    with torch.no_grad():
        for parameter in spoilt.model.parameters():  # type: ignore[attr-defined]
            parameter.zero_()
    choice = choose_correction(spoilt, structures[:28], structures[28:], SETTINGS, pretrained=start)
    assert choice.chosen == UNTRAINED
    assert isinstance(choice.potential, TangentPotential)
    assert choice.potential.base is start
    assert choice.errors[UNTRAINED] < choice.errors["none"]
    assert "on the pretrained potential" in str(choice)


def test_without_a_training_nothing_needs_to_judge(pair: tuple[Potential, Potential]) -> None:
    structures = labelled(pair[1], 16, seed=44)
    shifted = pair[0].with_reference_shifts({1: 0.3})  # type: ignore[attr-defined]
    choice = choose_correction(shifted, structures[:15], structures[15:], SETTINGS, pretrained=pair[0])
    assert choice.chosen == ALONE
    assert choice.potential.fingerprint == fit_tangent(shifted, structures, SETTINGS).fingerprint
    assert "learnt from all labels" in str(choice)
    fresh = labelled(pair[1], 16, seed=45)
    assert errors(choice.potential, fresh).force_mae < 0.9 * errors(pair[0], fresh).force_mae


def test_too_few_held_out_structures(pair: tuple[Potential, Potential]) -> None:
    structures = labelled(pair[1], 12, seed=42)
    choice = choose_correction(pair[0], structures[:10], structures[10:], SETTINGS)
    assert choice.potential is pair[0]
    assert "2 held-out structures are too few" in str(choice)


def test_a_campaign_corrects_its_potentials_and_finds_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    reference, start = toy(2), toy(1)
    pool = labelled(reference, 40, seed=50)

    class Labeller:
        method = "toy"

        def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels]]:
            yield from zip(todo, reference.predict(list(todo.values())), strict=True)

    plan = Plan(
        potential=start,
        feature_map=Tangent(start, dim=32, normalise="atoms"),
        rule=partial(make_rule, "random"),
        noise=1e-4,
        batch=12,
        trainer=start.trainer(FineTuningSettings(updates=3, learning_rate=1e-3)),
        pool=[without_labels(atoms) for atoms in pool],
        start=pool[:12],
        test=labelled(reference, 8, seed=51),
        stopping=Stopping(rounds=1),
        valid_fraction=0.3,
        correction=SETTINGS,
    )
    outcome = run(tmp_path / "c", plan, Labeller())
    record = outcome.rounds[-1]
    assert any(note.startswith("tangent correction (") for note in record.notes)
    folder = tmp_path / "c" / "rounds" / "001"
    corrected = surveyor.open_potential(folder / "potential.tangent")
    tuned = surveyor.open_potential(f"toy:{folder / 'potential.model'}")
    assert errors(corrected, plan.test).force_mae == pytest.approx(record.force_mae)
    assert record.force_mae < 0.8 * errors(tuned, plan.test).force_mae

    (folder / "DONE").unlink()  # killed before the round was closed
    (folder / "metrics.json").unlink()
    before = (folder / "potential.tangent").stat().st_mtime_ns
    again = run(tmp_path / "c", plan, Labeller())
    assert again.rounds[-1].force_mae == record.force_mae
    assert again.rounds[-1].notes == record.notes
    assert (folder / "potential.tangent").stat().st_mtime_ns == before


def without_labels(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions)
