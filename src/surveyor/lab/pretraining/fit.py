"""From a recipe and extxyz files to a trained `.model`, by mace-torch's own trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from surveyor.lab.pretraining.recipe import ModelSpec, Recipe
from surveyor.lab.pretraining.start import into_start
from surveyor.potentials.mace.run import run_mace_trainer


def trainer_options(recipe: Recipe, atom_energies: Mapping[int, float], *, resume: bool) -> dict[str, object]:
    """The options of `mace.cli.run_train` for a recipe.

    `model: MACE` is mace's name for a ScaleShiftMACE without shift: an isolated atom then has exactly its E0,
    and energies of far-apart parts add up. The learning rate falls by the same factor after each epoch:

        γ = (lr_end / lr)^(1 / (epochs − 1))
    """
    training = recipe.training
    gamma = (training.lr_end / training.lr) ** (1.0 / max(training.epochs - 1, 1))
    return {
        "name": recipe.name,
        "seed": recipe.seed,
        "train_file": "train.extxyz",
        "valid_file": "valid.extxyz",
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "E0s": str({int(number): energy for number, energy in atom_energies.items()}),
        **(_random_weights(recipe.model) if training.start is None else _going_on(training.start)),
        "loss": training.loss,
        "energy_weight": training.energy_weight,
        "forces_weight": training.forces_weight,
        "batch_size": training.batch_size,
        "valid_batch_size": training.valid_batch_size,
        "lr": training.lr,
        "scheduler": "ExponentialLR",
        "lr_scheduler_gamma": gamma,
        "weight_decay": training.weight_decay,
        "clip_grad": training.clip_grad,
        "max_num_epochs": training.epochs,
        "ema": training.ema_decay > 0,
        "ema_decay": training.ema_decay or None,
        "default_dtype": "float32",
        "device": "cpu",
        "error_table": "PerAtomMAE",
        "plot": False,
        "pin_memory": False,
        "skip_evaluate_heads": "Default",  # an error table of all training frames, which nobody reads
        "restart_latest": resume,
    }


def _random_weights(model: ModelSpec) -> dict[str, object]:
    return {
        "model": "MACE",
        "r_max": model.cutoff,
        "num_channels": model.channels,
        "max_L": model.max_L,
        "max_ell": model.max_ell,
        "correlation": model.correlation,
        "num_interactions": model.interactions,
        "num_radial_basis": model.radial_basis,
        "radial_MLP": str(list(model.radial_mlp)),
        "MLP_irreps": model.readout,
        "pair_repulsion": model.pair_repulsion,
    }


def _going_on(start: Path) -> dict[str, object]:
    """All of the start's weights and its architecture; one head, no replay."""
    return {
        "foundation_model": str(start.resolve()),
        "foundation_model_elements": True,
        "multiheads_finetuning": False,
    }


def fit(
    recipe: Recipe,
    atom_energies: Mapping[int, float],
    workdir: Path,
    on_line: Callable[[str], None] | None = None,
) -> Path:
    """Train, or go on with the training that `workdir` holds; returns the model file.

    `check_start` comes before: it is cheap, and what precedes the training is not.
    """
    resume = any((workdir / "checkpoints").glob(f"{recipe.name}_run-{recipe.seed}_epoch-*.pt"))
    options = trainer_options(recipe, atom_energies, resume=resume)
    made = run_mace_trainer(options, workdir=workdir, threads=recipe.training.threads, on_line=on_line)
    if recipe.training.start is not None:
        into_start(recipe.training.start, made)
    return made
