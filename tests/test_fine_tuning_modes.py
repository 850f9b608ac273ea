"""What each mode of fine-tuning trains, and that a setting without effect is never passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import emt_labelled, rattled
from surveyor.errors import TrainingError
from surveyor.potentials.mace import MacePotential
from surveyor.potentials.mace.effective import TrainerRun, check_effective
from surveyor.potentials.mace.fine_tuning import FineTuning, FineTuningSettings
from surveyor.potentials.mace.replay import cut_out_head, plan_mix, write_replay
from surveyor.potentials.mace.run import run_mace_trainer
from surveyor.potentials.mace.weights import check_moved, check_references, moved_weights
from surveyor.potentials.references import refit_reference_energies
from surveyor.structures import with_labels
from surveyor.structures.labels import labels_of
from surveyor.types import Labels
from tiny import tiny_mace

QUICK: dict[str, Any] = {"updates": 6, "threads": 1}


def settings_of(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / "settings.json").read_text())


def differing(a: MacePotential, b: MacePotential) -> set[str]:
    """The obvious twin of `moved_weights`: names of the tensors of which any entry differs."""
    after = b.model.state_dict()
    names = {name for name, _ in a.model.named_parameters()}
    return {
        name
        for name, tensor in a.model.state_dict().items()
        if name in names and (tensor != after[name]).any()
    }


@pytest.mark.slow
def test_lora_changes_linear_maps_by_matrices_of_low_rank(tmp_path: Path, potential: MacePotential) -> None:
    labelled = emt_labelled(rattled(8, seed=0))
    tune = FineTuning(FineTuningSettings(mode="lora", lora_rank=1, **QUICK))
    tuned = tune(potential, labelled, [], seed=0, workdir=tmp_path / "w")
    moved = differing(potential, tuned)
    # mace adapts linear maps and radial networks; the symmetric contractions stay.
    assert moved
    assert all(".linear" in name or "conv_tp_weights" in name or "skip_tp" in name for name in moved)
    before, after = dict(potential.model.named_parameters()), dict(tuned.model.named_parameters())
    networks = [name for name in moved if "conv_tp_weights" in name]
    assert networks
    for name in networks:
        change = (after[name] - before[name]).detach().double().numpy()
        singular = np.linalg.svd(change, compute_uv=False)
        assert singular[1] < 1e-3 * singular[0]  # rank 1, but for the rounding of float32 weights
    assert settings_of(tmp_path / "w")["mode"] == "lora"


@pytest.mark.parametrize(
    "freeze",
    [
        pytest.param("embedding", marks=pytest.mark.slow),
        "interactions",
        pytest.param("products", marks=pytest.mark.slow),
    ],
)
def test_frozen_parts_stay_bit_identical_and_the_others_move(
    tmp_path: Path, potential: MacePotential, freeze: Any
) -> None:
    labelled = emt_labelled(rattled(8, seed=0))
    tune = FineTuning(FineTuningSettings(mode="frozen", freeze=freeze, **QUICK))
    tuned = tune(potential, labelled, [], seed=0, workdir=tmp_path / "w")
    moved = differing(potential, tuned)
    parts = ["node_embedding", "interactions", "products", "readouts"]
    frozen = parts[: ["embedding", "interactions", "products"].index(freeze) + 1]
    assert {name.split(".")[0] for name in moved} == set(parts) - set(frozen)
    settings = settings_of(tmp_path / "w")
    sizes = {name: parameter.numel() for name, parameter in potential.model.named_parameters()}
    assert settings["trained_parameters"] == sum(sizes[name] for name in moved)
    assert settings["parameters"] == potential.n_parameters
    assert settings["frozen"] == ", ".join(frozen)


@pytest.mark.slow
def test_replay_ends_in_an_ordinary_potential(tmp_path: Path, potential: MacePotential) -> None:
    labelled = emt_labelled(rattled(5, seed=0))
    pretraining = [
        with_labels(atoms, labels)
        for atoms, labels in zip(rattled(30, seed=4), potential.predict(rattled(30, seed=4)), strict=True)
    ]
    tune = FineTuning(
        FineTuningSettings(mode="replay", loss="universal", updates=20, threads=1), replay=pretraining
    )
    tuned = tune(potential, labelled, [], seed=1, workdir=tmp_path / "w")
    assert tuned.heads == ("Default",)
    assert tuned.n_parameters == potential.n_parameters
    both = MacePotential.load(tmp_path / "w" / "potential.model", head="Default")
    assert both.heads == ("pt_head", "Default")
    for a, b in zip(both.predict(labelled), tuned.predict(labelled), strict=True):
        assert a.energy == pytest.approx(b.energy, abs=1e-4)
        np.testing.assert_allclose(a.forces, b.forces, atol=1e-4)
    tuned.save(tmp_path / "saved.model")
    assert MacePotential.load(tmp_path / "saved.model").fingerprint == tuned.fingerprint
    atoms = labelled[0].copy()
    atoms.calc = tuned.calculator()
    assert atoms.get_potential_energy() == pytest.approx(tuned.predict([labelled[0]])[0].energy, abs=1e-4)

    settings = settings_of(tmp_path / "w")
    assert settings["mode"] == "replay"
    assert settings["loss"] == "UniversalLoss"
    assert settings["learning_rate"] == 5e-3
    assert settings["training_structures"] == 5 * settings["repeats"]
    assert settings["replayed_structures"] == 5
    assert settings["best_epoch"] is not None


def test_replayed_labels_come_to_the_reference_energies_of_the_start(
    tmp_path: Path, potential: MacePotential
) -> None:
    """Labels that differ from the start by constants per element are replayed as if they did not."""
    frames = rattled(24, seed=7)
    constants = {1: 1.5, 6: -30.0, 7: 4.0, 8: 100.0}
    shifted = [
        with_labels(a, Labels(p.energy + sum(constants[z] for z in a.numbers), p.forces))
        for a, p in zip(frames, potential.predict(frames), strict=True)
    ]
    write_replay(shifted, potential, tmp_path, n_train=4, visits=80, seed=0)
    from ase.io import read

    written = [*read(tmp_path / "replay.extxyz", ":"), *read(tmp_path / "replay-valid.extxyz", ":")]
    assert len(written) > 10
    for atoms, predicted in zip(written, potential.predict(written), strict=True):
        assert labels_of(atoms).energy == pytest.approx(predicted.energy, abs=1e-3)
    with pytest.raises(TrainingError, match="1 structures to replay"):
        write_replay(shifted[:1], potential, tmp_path, n_train=4, visits=80, seed=0)


def test_half_of_the_visits_are_replayed() -> None:
    assert (plan_mix(20, 1200, 4000).replayed, plan_mix(20, 1200, 4000).repeats) == (200, 10)
    assert (plan_mix(300, 1200, 4000).replayed, plan_mix(300, 1200, 4000).repeats) == (300, 1)
    assert (plan_mix(3000, 1200, 4000).replayed, plan_mix(3000, 1200, 4000).repeats) == (1200, 1)
    assert plan_mix(5, 8, 4000).repeats == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_head_is_cut_out_as_it_was(tmp_path: Path, dtype: str) -> None:
    both = tiny_mace(heads=("pt_head", "Default"), dtype=dtype, max_L=1)
    model = both.model
    with torch.no_grad():  # heads that differ
        model.atomic_energies_fn.atomic_energies[1] += 5.0
        model.scale_shift.scale[1] = 1.3
    both.save(tmp_path / "both.model")
    structures = rattled(4, seed=0)
    alone = cut_out_head(tmp_path / "both.model", structures, device="cpu")
    wanted = MacePotential(model, head="Default").predict(structures)
    other = MacePotential(model, head="pt_head").predict(structures)
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for a, b, c in zip(alone.predict(structures), wanted, other, strict=True):
        assert a.energy == pytest.approx(b.energy, abs=tolerance)
        np.testing.assert_allclose(a.forces, b.forces, atol=tolerance)
        assert abs(a.energy - c.energy) > 1.0
    assert alone.dtype == dtype


def test_the_effective_settings_are_those_of_the_trainer(tmp_path: Path) -> None:
    # Models that mace trained hold a row of reference energies per head, and mace copies it from the start.
    potential = tiny_mace(dtype="float32")
    energies = potential.model.atomic_energies_fn
    energies.atomic_energies = energies.atomic_energies.unsqueeze(0)
    labelled = emt_labelled(rattled(10, seed=0))
    tune = FineTuning(FineTuningSettings(learning_rate=2e-3, batch_size=3, forces_weight=7.0, **QUICK))
    tuned = tune(potential, labelled[:8], labelled[8:], seed=5, workdir=tmp_path / "w")
    settings = settings_of(tmp_path / "w")
    expected = {
        "mode": "naive", "loss": "WeightedEnergyForcesL1L2Loss", "energy_weight": 3.0, "forces_weight": 7.0,
        "learning_rate": 2e-3, "batch_size": 3, "epochs": 3, "updates": 6, "ema_decay": 0.99, "seed": 5,
        "dtype": "float32", "training_structures": 8, "trained_parameters": potential.n_parameters,
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected
    assert 0 <= settings["best_epoch"] < 3
    found = tuned.reference_energies()
    shifts = refit_reference_energies(potential, labelled[:8])
    assert [found[z] for z in (1, 6, 7, 8)] == pytest.approx(
        [shifts[z] - 3.0 for z in (1, 6, 7, 8)], abs=1e-5
    )
    used = [settings[f"E0_{symbol}"] for symbol in "HCNO"]
    assert used == pytest.approx([found[z] for z in (1, 6, 7, 8)], abs=1e-5)


def test_isolated_atoms_would_win_over_the_reference_energies(
    tmp_path: Path, potential: MacePotential
) -> None:
    labelled = emt_labelled(rattled(4, seed=0))
    atom = with_labels(labelled[0][:1], Labels(-1.0, np.zeros((1, 3))))
    atom.info["config_type"] = "IsolatedAtom"
    with pytest.raises(TrainingError, match="training structure 4 is an isolated atom"):
        FineTuning()(potential, [*labelled, atom], [], seed=0, workdir=tmp_path / "w")


# ---- planted faults: each of these settings has no effect, and each is refused ------------------------


def planted(tmp_path: Path, potential: MacePotential, **changes: object) -> None:
    from surveyor.structures import write_structures

    labelled = emt_labelled(rattled(6, seed=0))
    atom = with_labels(labelled[0][:1], Labels(-1.0, np.zeros((1, 3))))
    atom.info["config_type"] = "IsolatedAtom"
    potential.save(tmp_path / "start.model")
    write_structures(tmp_path / "train.extxyz", labelled)
    write_structures(tmp_path / "with_atom.extxyz", [*labelled, atom])
    options: dict[str, object] = {
        "name": "potential", "seed": 0, "foundation_model": tmp_path / "start.model",
        "foundation_model_elements": True, "multiheads_finetuning": False, "train_file": "train.extxyz",
        "valid_file": "train.extxyz", "E0s": "{1: -3.0, 6: -3.0, 7: -3.0, 8: -3.0}",
        "energy_key": "REF_energy", "forces_key": "REF_forces", "loss": "weighted", "lr": 1e-3,
        "batch_size": 3, "max_num_epochs": 2, "default_dtype": "float32", "device": "cpu", "plot": False,
    }  # fmt: skip
    run_mace_trainer(options | changes, workdir=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": -1}, "freeze=-1 would have no effect"),
        ({"pt_train_file": "train.extxyz"}, "pt_train_file='train.extxyz' would have no effect"),
        (
            {"multiheads_finetuning": True, "pt_train_file": "train.extxyz", "force_mh_ft_lr": True},
            "loss='weighted' would have no effect",
        ),
        (
            {"multiheads_finetuning": True, "pt_train_file": "train.extxyz", "loss": "universal"},
            "lr=0.001 would have no effect",
        ),
    ],
)
def test_idle_flags_are_refused_before_the_start(
    tmp_path: Path, potential: MacePotential, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        planted(tmp_path, potential, **changes)
    assert not (tmp_path / "mace.log").exists()


@pytest.mark.slow
def test_reference_energies_without_effect_are_found_after_the_training(
    tmp_path: Path, potential: MacePotential
) -> None:
    with pytest.raises(TrainingError, match="used the reference energy 0 eV for element 1"):
        planted(tmp_path, potential, train_file="with_atom.extxyz")


@pytest.mark.slow
def test_what_a_log_may_reveal(tmp_path: Path, potential: MacePotential) -> None:
    """A log of a run that did something else than asked, for what mace 0.3.16 cannot be made to do here."""
    planted(tmp_path, potential)
    from surveyor.potentials.mace.run import _flags, _mace_parser, _parse

    parser, actions = _mace_parser()
    options: dict[str, object] = {
        "name": "potential", "loss": "weighted", "lr": 1e-3, "batch_size": 3, "max_num_epochs": 2,
        "E0s": "{1: -3.0, 6: -3.0, 7: -3.0, 8: -3.0}",
    }  # fmt: skip
    wanted = _parse(parser, _flags(options, actions))
    names = {option: action.dest for option, action in actions.items()}
    run = TrainerRun.read(tmp_path, "potential", 0)
    check_effective(options, wanted, names, run)

    def doctored(old: str, new: str) -> TrainerRun:
        assert old in run.text
        return TrainerRun(run.text.replace(old, new), run.updates, run.losses)

    for old, new, message in (
        ("Learning rate: 0.001", "Learning rate: 0.0001", "changed lr to 0.0001"),
        ("WeightedEnergyForcesLoss(", "UniversalLoss(", "used the loss UniversalLoss"),
        ("training dataset size: 6", "training dataset size: 2", "made no update: batch_size=3 with 2"),
        ("head Default: {1: -3.0", "head Default: {1: -9.0", "reference energy -9 eV for element 1"),
        ("Learning rate: ", "Freezing product weights\nLearning rate: ", "froze the product weights"),
    ):
        with pytest.raises(TrainingError, match=message):
            check_effective(options, wanted, names, doctored(old, new))
    with pytest.raises(TrainingError, match="ended after 1 epochs"):
        check_effective(options, wanted, names, TrainerRun(run.text, {0: 2}, run.losses))
    wanted.freeze = 5
    with pytest.raises(TrainingError, match="did not freeze the embedding weights"):
        check_effective(options, wanted, names, run)


def test_weights_tell_what_was_trained(potential: MacePotential) -> None:
    same = tiny_mace(dtype="float32")
    moved = moved_weights(potential, same)
    assert (moved.trained, moved.total) == (0, potential.n_parameters)
    with pytest.raises(TrainingError, match="left the node_embedding as they were"):
        check_moved(moved, (), same)
    with torch.no_grad():
        weight = same.model.readouts[0].linear.weight
        weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))  # by one bit
    moved = moved_weights(potential, same)
    assert dict(moved.parts) == {"node_embedding": 0, "interactions": 0, "products": 0, "readouts": 8}
    check_moved(moved, ("node_embedding", "interactions", "products"), same)
    with pytest.raises(TrainingError, match="the readouts were to be frozen, but 8 parameters moved"):
        check_moved(moved, ("node_embedding", "interactions", "products", "readouts"), same)
    with torch.no_grad():
        same.model.readouts[0].linear.weight[0] = float("nan")
    with pytest.raises(TrainingError, match="diverged"):
        moved_weights(potential, same)
    with pytest.raises(TrainingError, match="another architecture"):
        moved_weights(potential, tiny_mace(dtype="float32", channels=4))
    check_references(potential, dict.fromkeys((1, 6, 7, 8), -3.0))
    with pytest.raises(TrainingError, match="reference energy -3 eV for element 6"):
        check_references(potential, {1: -3.0, 6: -3.001, 7: -3.0, 8: -3.0})


def test_shifts_that_nearly_cancel_the_energies_lose_no_digits() -> None:
    """Labels as atomisation energies: −2041 eV become a few eV, where float32 sums end three digits early."""
    deep = tiny_mace(dtype="float32").with_reference_shifts({1: -10.6, 6: -1033.7, 7: -1483.3, 8: -2038.4})
    shifts = {1: 14.1234567, 6: 1037.7654321, 7: 1487.1357911, 8: 2042.1928374}
    asked = {z: energy + shifts[z] for z, energy in deep.reference_energies().items()}
    check_references(deep.with_reference_shifts(shifts), asked)


def test_replay_takes_one_loss_only() -> None:
    assert FineTuningSettings(mode="replay").loss == "universal"
    assert FineTuningSettings(mode="lora").lora_rank == 4
    with pytest.raises(ValueError, match="lora_rank has no effect"):
        FineTuningSettings(lora_rank=4)
    with pytest.raises(ValueError, match="mode replay trains with the loss universal"):
        FineTuningSettings(mode="replay", loss="weighted")
