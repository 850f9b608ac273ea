"""Training that goes on for as long as held-out labels gain: with a real trainer of the toy family."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from surveyor.metrics import Errors, enough_held_out, errors, pays
from surveyor.potentials.fine_tuning import STAGES, FineTuningSettings
from surveyor.training import Lengthening, trainer_for
from surveyor.types import Potential
from test_learner import labelled, toy
from toy_family import Descent, ToyPotential


def test_it_goes_on_while_it_pays_and_keeps_the_best(tmp_path: Path) -> None:
    structures = labelled(toy(2), 40, seed=1)
    train, valid = structures[:28], structures[28:]
    start = toy(1)
    settings = FineTuningSettings(quality="best", updates=20, learning_rate=2e-3)
    tuned = trainer_for(start, settings)(start, train, valid, seed=0, workdir=tmp_path / "w")
    # The slow way: every stage by hand, from what the one before made.
    by_hand: Potential = start
    for factor in STAGES["best"]:
        by_hand = Descent(20 * factor, 2e-3)(by_hand, train, valid, seed=0, workdir=tmp_path)
    assert errors(tuned, valid).force_mae == pytest.approx(errors(by_hand, valid).force_mae)
    told = json.loads((tmp_path / "w" / "settings.json").read_text())
    assert told["updates_in_all"] == 20 * sum(STAGES["best"])
    assert told["stage_3"].endswith("kept")
    assert "240 updates" in told["stage_3"]


class Spoiling:
    """A trainer that makes things worse from its second call on."""

    def __init__(self) -> None:
        self.starts: list[Potential] = []

    def __call__(
        self,
        start: Potential,
        train: Sequence[Atoms],
        valid: Sequence[Atoms],
        *,
        seed: int,
        workdir: Path,
        references: Mapping[int, float] | None = None,
    ) -> ToyPotential:
        self.starts.append(start)
        rate = 1e-2 if len(self.starts) == 1 else 0.5
        return Descent(10, rate)(start, train, valid, seed=seed, workdir=workdir)


def test_what_does_not_pay_is_not_kept(tmp_path: Path) -> None:
    structures = labelled(toy(2), 30, seed=3)
    train, valid = structures[:20], structures[20:]
    trainer, start = Spoiling(), toy(1)
    tuned = Lengthening([(10, trainer)] * 3)(start, train, valid, seed=0, workdir=tmp_path / "w")
    assert len(trainer.starts) == 2  # nothing follows one that did not pay
    assert tuned is trainer.starts[1]
    told = json.loads((tmp_path / "w" / "settings.json").read_text())
    assert told["updates_in_all"] == 10
    assert told["stage_2"].endswith("no gain, not kept")


@pytest.mark.parametrize("held_out", [0, 2])
def test_too_few_held_out_structures_leave_it_at_the_first(tmp_path: Path, held_out: int) -> None:
    structures = labelled(toy(2), 12, seed=4)
    trainer = Spoiling()
    Lengthening([(10, trainer)] * 2)(
        toy(1), structures[held_out:], structures[:held_out], seed=0, workdir=tmp_path / "w"
    )
    assert len(trainer.starts) == 1


def test_a_stage_that_would_outlast_the_limit_is_not_begun(tmp_path: Path) -> None:
    structures = labelled(toy(2), 30, seed=5)
    start, settings = toy(1), FineTuningSettings(updates=30, learning_rate=2e-3)
    begin = time.perf_counter()
    limited = settings.model_copy(update={"time_limit": 1e-6})
    trainer_for(start, limited)(start, structures[:20], structures[20:], seed=0, workdir=tmp_path / "a")
    once = time.perf_counter() - begin
    told = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert "stage_2" not in told
    roomy = settings.model_copy(update={"time_limit": 1000 * once})
    trainer_for(start, roomy)(start, structures[:20], structures[20:], seed=0, workdir=tmp_path / "b")
    assert "stage_2" in json.loads((tmp_path / "b" / "settings.json").read_text())


def test_quick_is_the_family_s_trainer_alone() -> None:
    assert isinstance(trainer_for(toy(1), FineTuningSettings(quality="quick")), Descent)
    assert FineTuningSettings().quality == "standard"


def of(each: Sequence[float]) -> Errors:
    values = np.array(each)
    return Errors(float(values.mean()), 0.0, float(values.mean()), 0.0, values, values)


def test_a_gain_must_be_more_than_chance_between_groups() -> None:
    rng = np.random.default_rng(0)
    noisy = 10 + rng.standard_normal(18)
    alone = [Atoms("H")] * 18
    assert pays(of(noisy), of(0.8 * noisy), alone)
    assert not pays(of(noisy), of(noisy), alone)
    assert not pays(of(noisy), of(noisy + rng.standard_normal(18)), alone)
    # Twelve structures of one reaction gain, one of each of six others loses: that is one group against six.
    grouped = [Atoms("H", info={"reaction": "a" if k < 12 else f"b{k}"}) for k in range(18)]
    change = np.where(np.arange(18) < 12, 0.6, 1.05)
    assert pays(of(noisy), of(change * noisy), alone)
    assert not pays(of(noisy), of(change * noisy), grouped)
    # Of two reactions alone each structure judges: nothing else will be asked of the potential.
    two = [Atoms("H", info={"reaction": "a" if k < 12 else "b"}) for k in range(18)]
    assert pays(of(noisy), of(change * noisy), two)
    assert enough_held_out(two)
    assert not enough_held_out(two[:2])


def test_three_held_out_structures_take_a_clearer_gain_than_many() -> None:
    """Student's quantile at the level of one standard error: 1.32 for three structures, 1.02 for eighteen."""
    before, drops = np.full(3, 10.0), np.array([0.7, 0.8, 1.05])
    change = 2 * np.log((drops * 10 + 10) / 20)  # energies and forces alike
    ratio = -change.mean() / (change.std(ddof=1) / np.sqrt(3))
    assert 1.32 < ratio < 2
    assert pays(of(before), of(drops * before), [Atoms("H")] * 3)
    less = np.array([0.7, 0.8, 1.15])
    assert -np.log((less + 1) / 2).mean() > 0
    assert not pays(of(before), of(less * before), [Atoms("H")] * 3)
    assert pays(of(np.full(18, 10.0)), of(np.tile(less, 6) * 10), [Atoms("H")] * 18)


def test_one_large_error_does_not_hide_a_gain_nor_pay_for_a_loss() -> None:
    before = np.full(18, 10.0)
    before[0] = 300.0
    most = np.where(np.arange(18) == 0, 1.0, 0.8)
    assert pays(of(before), of(most * before), [Atoms("H")] * 18)
    worse = np.where(np.arange(18) == 0, 1.3, 0.8)  # seventeen gain two, one loses ninety
    assert not pays(of(before), of(worse * before), [Atoms("H")] * 18)


def test_mode_none_fits_reference_energies_and_moves_no_weight(tmp_path: Path) -> None:
    structures = labelled(toy(2), 12, seed=3)
    for atoms in structures:
        atoms.info["REF_energy"] += 1.5 * len(atoms)
    start = toy(1)
    trainer = trainer_for(start, FineTuningSettings(mode="none"))
    tuned = trainer(start, structures[:9], structures[9:], seed=0, workdir=tmp_path / "w")
    assert isinstance(tuned, ToyPotential)
    own = dict(start.model.named_parameters())
    assert all(torch.equal(own[name], value) for name, value in tuned.model.named_parameters())
    before, after = errors(start, structures[:9]), errors(tuned, structures[:9])
    assert after.energy_mae < 0.5 * before.energy_mae
    assert after.force_mae == pytest.approx(before.force_mae)
    assert json.loads((tmp_path / "w" / "settings.json").read_text())["mode"] == "none"
    for idle in ({"updates": 500}, {"learning_rate": 0.1}, {"quality": "best"}):
        with pytest.raises(ValueError, match="has no effect with mode: none"):
            FineTuningSettings.model_validate({"mode": "none", **idle})
