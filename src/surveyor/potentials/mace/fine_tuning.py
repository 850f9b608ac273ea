"""Fine-tuning a MACE potential on a few labelled structures, with mace-torch's trainer."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ase import Atoms

from surveyor.errors import TrainingError
from surveyor.potentials.fine_tuning import FineTuningSettings
from surveyor.potentials.mace.effective import TrainerRun, effective_settings
from surveyor.potentials.mace.potential import MacePotential
from surveyor.potentials.mace.replay import TRAIN_FILE, VALID_FILE, Mix, cut_out_head, write_replay
from surveyor.potentials.mace.run import run_mace_trainer
from surveyor.potentials.mace.weights import PARTS, check_moved, check_references, fix_again, moved_weights
from surveyor.potentials.references import refit_reference_energies, shifts_to
from surveyor.progress import OnStep
from surveyor.structures.identity import with_state
from surveyor.structures.label_keys import is_isolated_atom, without_acting_keys
from surveyor.structures.labels import STRESS_KEY, labels_of
from surveyor.structures.writing import emptied, write_json, write_structures
from surveyor.types import TRAINING_SETTINGS, Potential

FREEZE = {"embedding": 1, "interactions": 5, "products": 6}
"""Up to which part mace freezes, and its number for it. Each part is that of *all* layers."""


class FineTuning:
    """Trainer: pretrained weights and labelled structures in, a better potential out.

    Per-element reference energies are re-fitted to the training labels first, or those that are given; the
    potential keeps all its elements, and the weights of the last epoch win unless those of the first
    validate better. What the trainer really
    did is checked against what it was told, and left in `workdir/settings.json`.

    Args:
        settings: see `FineTuningSettings`.
        replay: with mode replay, labelled structures of the pretraining level.
        on_step: told how far it is; see `Telling`.

    Raises:
        TrainingError: no structure, a training that failed, a setting that had no effect, or a potential
            that predicts NaN.
    """

    def __init__(
        self,
        settings: FineTuningSettings | None = None,
        *,
        replay: Sequence[Atoms] = (),
        on_step: OnStep | None = None,
    ) -> None:
        self.settings = settings or FineTuningSettings()
        self.replay = replay
        self.on_step = on_step

    def telling(self, on_step: OnStep) -> FineTuning:
        """The same trainer, which tells how far it is."""
        return FineTuning(self.settings, replay=self.replay, on_step=on_step)

    def __call__(
        self,
        start: Potential,
        train: Sequence[Atoms],
        valid: Sequence[Atoms],
        *,
        seed: int,
        workdir: Path,
        references: Mapping[int, float] | None = None,
    ) -> MacePotential:
        if not isinstance(start, MacePotential):
            raise TrainingError(f"a {type(start).__name__} to fine-tune", expected="a MACE potential")
        if not train:
            raise TrainingError("no labelled structure to train on", expected="at least one")
        for number, atoms in enumerate([*train, *valid]):
            _check_structure(atoms, f"training structure {number}")
        # A checkpoint of an interrupted training would be taken for the best one of this training.
        emptied(workdir)
        # Nothing that mace's reader acts on goes with the labels: every label counts alike.
        train, valid = ([without_acting_keys(atoms) for atoms in part] for part in (train, valid))
        shifts = (
            shifts_to(start.reference_energies(), references, [*train, *valid])
            if references
            else refit_reference_energies(start, train)
        )
        energies = {z: energy + shifts[z] for z, energy in start.reference_energies().items()}
        foundation = workdir / "start.model"
        # mace copies everything of the same shape from the model that it starts from: with one head also the
        # reference energies, over those of E0s. With replay they are those of the replay head.
        (start if self.settings.mode == "replay" else start.with_reference_shifts(shifts)).save(foundation)
        mix, of_mode = self._mode(start, len(train), seed, workdir)
        write_structures(workdir / "train.extxyz", [with_state(atoms) for atoms in train] * mix.repeats)
        write_structures(workdir / "valid.extxyz", map(with_state, valid or train))
        n_epoch = len(train) * mix.repeats + mix.replayed
        options = {**self._options(start, foundation, n_epoch, energies, seed), **of_mode}
        path = run_mace_trainer(
            options,
            workdir=workdir,
            threads=self.settings.threads or os.cpu_count() or 1,
            on_step=self._told(n_epoch, options),
        )
        device = start.device.type
        tuned = (
            cut_out_head(path, train, device=device)
            if self.settings.mode == "replay"
            else MacePotential.load(path, device=device)
        )
        fix_again(start.model, tuned.model)
        settings = {
            **self._check(start, tuned, energies),
            "references": "isolated atoms" if references else "fitted to the labels",
            "replayed_structures": mix.replayed,
            "repeats": mix.repeats,
            **(used := effective_settings(TrainerRun.read(workdir, "potential", seed), options)),
            **_stress(train, used),
        }
        write_json(workdir / TRAINING_SETTINGS, settings)
        return tuned

    def _told(self, n_epoch: int, options: Mapping[str, object]) -> Callable[[int, str], None] | None:
        """What tells how many of all updates are done."""
        if (on_step := self.on_step) is None:
            return None
        total = cast(int, options["max_num_epochs"]) * (n_epoch // cast(int, options["batch_size"]))
        return lambda done, note: on_step(done, total, note)

    def _mode(
        self, start: MacePotential, n_train: int, seed: int, workdir: Path
    ) -> tuple[Mix, dict[str, object]]:
        """What an epoch holds, and the trainer's options that make the mode; writes the replay files."""
        settings = self.settings
        if settings.mode == "replay":
            visits = settings.updates * settings.batch_size
            mix = write_replay(self.replay, start, workdir, n_train=n_train, visits=visits, seed=seed)
            return mix, {
                "multiheads_finetuning": True,
                "pt_train_file": TRAIN_FILE,
                "pt_valid_file": VALID_FILE,
                "force_mh_ft_lr": True,  # mace changes the learning rate otherwise
                "real_pt_data_ratio_threshold": 0.0,  # and repeats structures by a rule of its own
            }
        alone: dict[str, object] = {"multiheads_finetuning": False}
        if settings.freeze is not None:
            alone["freeze"] = FREEZE[settings.freeze]
        if settings.mode == "lora":
            alone |= {
                "lora": True,
                "lora_rank": settings.lora_rank,
                "lora_alpha": float(settings.lora_rank or 1),
            }
        return Mix(replayed=0, repeats=1), alone

    def _check(
        self, start: MacePotential, tuned: MacePotential, references: dict[int, float]
    ) -> dict[str, Any]:
        """What the weights say about the training.

        Raises:
            TrainingError: frozen weights moved, others did not, or the reference energies are others.
        """
        upto = self.settings.freeze
        frozen = () if upto is None else PARTS[: list(FREEZE).index(upto) + 1]
        moved = moved_weights(start, tuned)
        check_moved(moved, frozen, tuned)
        check_references(tuned, references)
        return {
            "mode": self.settings.mode,
            "frozen": ", ".join(frozen) or "nothing",
            "trained_parameters": moved.trained,
            "parameters": moved.total,
        }

    def _options(
        self,
        start: MacePotential,
        foundation: Path,
        n_epoch: int,
        references: dict[int, float],
        seed: int,
    ) -> dict[str, object]:
        settings = self.settings
        batch_size = min(settings.batch_size, n_epoch)  # mace drops an incomplete batch
        epochs = max(1, math.ceil(settings.updates / (n_epoch // batch_size)))
        return {
            "name": "potential",
            "seed": seed,
            "foundation_model": foundation.resolve(),
            "foundation_head": start.head,
            "foundation_model_elements": True,
            "train_file": "train.extxyz",
            "valid_file": "valid.extxyz",
            "E0s": repr(references),
            "energy_key": "REF_energy",
            "forces_key": "REF_forces",
            "stress_key": "REF_stress",
            "loss": settings.loss,
            "energy_weight": settings.energy_weight,
            "forces_weight": settings.forces_weight,
            "lr": settings.learning_rate,
            "scheduler": "ExponentialLR",
            "lr_scheduler_gamma": settings.decay ** (1 / epochs),
            "ema": True,
            "ema_decay": settings.ema_decay,
            "weight_decay": settings.weight_decay,
            "clip_grad": settings.clip_grad,
            "batch_size": batch_size,
            "valid_batch_size": 16,
            "max_num_epochs": epochs,
            # mace keeps the best validation: of the first epoch and of the last. In between few structures
            # would choose by chance, and mostly one of before the rate had fallen.
            "eval_interval": max(1, epochs - 1),
            "patience": epochs,
            "default_dtype": start.dtype,
            "device": start.device.type,
            "plot": False,
            "save_cpu": True,
            "log_level": "INFO",
        }


def _stress(train: Sequence[Atoms], used: Mapping[str, object]) -> dict[str, object]:
    """How many training structures carry a stress, and whether the loss has a term for it."""
    n = sum(STRESS_KEY in atoms.info for atoms in train)
    return {"stress_structures": n, "stress_used": bool(n and used.get("stress_weight"))}


def _check_structure(atoms: Atoms, where: str) -> None:
    labels_of(atoms, where)
    if is_isolated_atom(atoms):
        raise TrainingError(
            f"{where} is an isolated atom (config_type=IsolatedAtom)",
            expected="molecules or crystals: mace would set all reference energies by isolated atoms alone, "
            "and to zero where there is none",
            todo="take it out; reference energies are fitted to the other labels",
        )
