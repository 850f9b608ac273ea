"""Fine-tuning a MACE potential on a few labelled structures, with mace-torch's trainer."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from surveyor.errors import TrainingError
from surveyor.potentials.mace import MacePotential
from surveyor.structures.labels import labels_of
from surveyor.structures.writing import write_structures
from surveyor.training.mace_run import run_mace_trainer
from surveyor.training.references import refit_reference_energies
from surveyor.types import Potential

EVALUATIONS = 25
"""Validations during a training: often enough to catch the best epoch, seldom enough to cost little."""


@dataclass(frozen=True)
class FineTuningSettings:
    """How a potential is fine-tuned.

    | field          | meaning                                                        | unit |
    |----------------|----------------------------------------------------------------|------|
    | updates        | gradient steps, whatever the number of labels                  |      |
    | batch_size     | structures a step                                              |      |
    | learning_rate  | of the first step (Adam); decays exponentially                 |      |
    | decay          | last learning rate as a share of the first                     |      |
    | loss           | mace's name of the loss                                        |      |
    | energy_weight  | weight of the energy term of the loss                          |      |
    | forces_weight  | weight of the force term of the loss                           |      |
    | ema_decay      | of the exponential moving average of the weights               |      |
    | threads        | CPU threads; None takes all cores                              |      |
    | device         | where to train; None takes a GPU where there is one            |      |
    """

    updates: int = 1000
    batch_size: int = 4
    learning_rate: float = 5e-3
    decay: float = 0.05
    loss: str = "l1l2energyforces"
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    ema_decay: float = 0.99
    threads: int | None = None
    device: str | None = None


class FineTuning:
    """Trainer: pretrained weights and labelled structures in, a better potential out.

    Per-element reference energies are re-fitted to the training labels first, the potential keeps all its
    elements, and the weights of the best validation loss win.

    Args:
        settings: see `FineTuningSettings`.
        on_line: called with each line of the trainer's output.

    Raises:
        TrainingError: no structure, a training that failed, or a potential that predicts NaN.
    """

    def __init__(
        self, settings: FineTuningSettings | None = None, *, on_line: Callable[[str], None] | None = None
    ) -> None:
        self.settings = settings or FineTuningSettings()
        self.on_line = on_line

    def __call__(
        self,
        start: Potential,
        train: Sequence[Atoms],
        valid: Sequence[Atoms],
        *,
        seed: int,
        workdir: Path,
    ) -> MacePotential:
        if not isinstance(start, MacePotential):
            raise TrainingError(f"a {type(start).__name__} to fine-tune", expected="a MACE potential")
        if not train:
            raise TrainingError("no labelled structure to train on", expected="at least one")
        for number, atoms in enumerate([*train, *valid]):
            labels_of(atoms, f"training structure {number}")
        # A checkpoint of an interrupted training would be taken for the best one of this training.
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir(parents=True)
        foundation = workdir / "start.model"
        start.save(foundation)
        write_structures(workdir / "train.extxyz", train)
        write_structures(workdir / "valid.extxyz", valid or train)
        shifts = refit_reference_energies(start, train)
        references = {z: energy + shifts[z] for z, energy in start.reference_energies().items()}
        path = run_mace_trainer(
            self._options(start, foundation, len(train), references, seed),
            workdir=workdir,
            threads=self.settings.threads or os.cpu_count() or 1,
            on_line=self.on_line,
        )
        return MacePotential.load(path, device=start.device.type)

    def _options(
        self,
        start: MacePotential,
        foundation: Path,
        n_train: int,
        references: dict[int, float],
        seed: int,
    ) -> dict[str, object]:
        settings = self.settings
        batch_size = min(settings.batch_size, n_train)  # mace drops an incomplete batch
        epochs = max(1, math.ceil(settings.updates / (n_train // batch_size)))
        interval = max(1, epochs // EVALUATIONS)
        return {
            "name": "potential",
            "seed": seed,
            "foundation_model": foundation.resolve(),
            "foundation_head": start.head,
            "foundation_model_elements": True,
            "multiheads_finetuning": False,
            "train_file": "train.extxyz",
            "valid_file": "valid.extxyz",
            "E0s": repr(references),
            "energy_key": "REF_energy",
            "forces_key": "REF_forces",
            "loss": settings.loss,
            "energy_weight": settings.energy_weight,
            "forces_weight": settings.forces_weight,
            "lr": settings.learning_rate,
            "scheduler": "ExponentialLR",
            "lr_scheduler_gamma": settings.decay ** (1 / epochs),
            "ema": True,
            "ema_decay": settings.ema_decay,
            "batch_size": batch_size,
            "valid_batch_size": 16,
            "max_num_epochs": epochs,
            "eval_interval": interval,
            "patience": epochs,
            "default_dtype": start.dtype,
            "device": settings.device or start.device.type,
            "plot": False,
            "save_cpu": True,
            "log_level": "INFO",
        }
