"""What mace's trainer really did, read back from its log and its record of steps.

| file in the working folder            | what is read from it                                        |
|---------------------------------------|-------------------------------------------------------------|
| logs/<name>_run-<seed>_debug.log      | the options as parsed, and the values in use where they differ |
| results/<name>_run-<seed>_train.txt   | a JSON line for each gradient update and each validation    |
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from surveyor.errors import TrainingError

HEAD = "Default"
"""mace's name for the head of the training file."""

# mace changes some settings after it has logged them; these later lines tell the values in use.
_LOGGED_LATER = {
    "lr": r"Learning rate: ([^,\s]+),",
    "weight_decay": r"weight decay: (\S+)",
    "batch_size": r"Batch size: (\d+)",
    "ema_decay": r"Exponential Moving Average with decay: (\S+)",
    "clip_grad": r"gradient clipping with tolerance=([\d.]+)",
}
_LOSS_CLASSES = {
    "weighted": "WeightedEnergyForcesLoss",
    "l1l2energyforces": "WeightedEnergyForcesL1L2Loss",
    "huber": "WeightedHuberEnergyForcesStressLoss",
    "universal": "UniversalLoss",
}
_THREE_DECIMALS = 5e-4
FROZEN_BY = {1: ("embedding",), 5: ("interaction linear",), 6: ("product",), 7: ("readout",)}
"""mace's `freeze` → the words of the log for what it adds to the levels below."""


@dataclass(frozen=True)
class TrainerRun:
    """One run of the trainer: its debug log from the options on, updates and validation losses by epoch."""

    text: str
    updates: Mapping[int, int] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def read(cls, workdir: Path, name: str, seed: int) -> TrainerRun:
        """Read the last run in a working folder.

        Raises:
            TrainingError: the log does not start with the options.
        """
        debug_log = workdir / "logs" / f"{name}_run-{seed}_debug.log"
        text = debug_log.read_text(encoding="utf-8", errors="replace") if debug_log.is_file() else ""
        start = text.rfind("Configuration: Namespace(")
        if start < 0:
            raise TrainingError(
                f"no 'Configuration: Namespace(...)' line in {debug_log}",
                todo="this version of mace-torch logs in another way; use the version in pyproject.toml",
            )
        updates: dict[int, int] = {}
        losses: dict[int, float] = {}
        results = workdir / "results" / f"{name}_run-{seed}_train.txt"
        lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # torn by a kill
            epoch = entry.get("epoch")
            if entry.get("mode") == "opt":
                updates[epoch] = updates.get(epoch, 0) + 1
            elif epoch is not None and entry.get("head") == HEAD:
                losses[epoch] = float(entry["loss"])
        return cls(text[start:], updates, losses)

    def later(self, option: str) -> float | None:
        """The value in use of an option that mace may change after parsing; None if it logs none."""
        found = re.search(_LOGGED_LATER[option], self.text) if option in _LOGGED_LATER else None
        return float(found[1]) if found else None

    @property
    def loss(self) -> tuple[str, dict[str, float]] | None:
        """Class and weights of the loss in use."""
        found = re.search(r"INFO: (\w*Loss)\(([^)]*)\)", self.text)
        if not found:
            return None
        pairs = re.findall(r"(\w+)=([\d.e+-]+)", found[2])
        return found[1], {key: float(value) for key, value in pairs}

    @property
    def best_epoch(self) -> int | None:
        """Epoch of the weights that were saved."""
        found = re.findall(r"Loaded Stage \w+ model from epoch (\d+) for evaluation", self.text)
        return int(found[-1]) if found else None

    @property
    def references(self) -> dict[int, float]:
        """Reference energies in use, of the elements of the training file, eV."""
        found = re.search(rf"Atomic Energies used \(z: eV\) for head {HEAD}: (\{{.*?\}})", self.text)
        return {int(z): float(energy) for z, energy in ast.literal_eval(found[1]).items()} if found else {}

    @property
    def sizes(self) -> dict[str, int]:
        """Training structures of each head."""
        found = re.findall(r"Head '(\w+)' training dataset size: (\d+)", self.text)
        return {head: int(size) for head, size in found}


def check_effective(
    options: Mapping[str, object],
    wanted: argparse.Namespace,
    destinations: Mapping[str, str],
    run: TrainerRun,
) -> None:
    """Compare the options, as they were asked for, with what the trainer logged about its last run.

    Args:
        wanted: as mace's parser reads them.
        destinations: option → name in the parser's result.

    Raises:
        TrainingError: naming the first option that did not come into effect.
    """
    line = run.text.split("\n", 1)[0]
    for key, value in options.items():
        name = destinations[key]
        if value is None or name == "hidden_irreps":
            continue
        expected = getattr(wanted, name)
        logged = _logged_value(line, name)
        if logged != repr(expected):
            raise TrainingError(
                f"the trainer ran with {name}={logged}", expected=f"{name}={expected!r} as asked"
            )
        used = run.later(name)
        # The clipping tolerance is logged with three decimals.
        tolerance = _THREE_DECIMALS if name == "clip_grad" else 1e-6 * abs(_number(expected))
        if used is not None and abs(used - float(expected)) > tolerance:
            raise TrainingError(
                f"the trainer changed {name} to {used:g}", expected=f"{name}={expected!r} as asked"
            )
    _check_loss(options, wanted, run)
    _check_references(wanted, run)
    _check_freezing(wanted, run)
    _check_steps(options, wanted, run)
    if wanted.lora != (f"Injecting LoRA layers with rank={wanted.lora_rank}" in run.text):
        raise TrainingError(
            f"the trainer {'left the LoRA adapters out' if wanted.lora else 'trained LoRA adapters'}",
            expected=f"lora={wanted.lora}, of rank {wanted.lora_rank}",
        )
    asked_heads = wanted.foundation_model and options.get("multiheads_finetuning") in (True, "True", "true")
    if asked_heads and "Using multiheads finetuning mode" not in run.text:
        raise TrainingError(
            "the trainer switched multiheads_finetuning off",
            todo="give pt_train_file, or leave multiheads_finetuning out",
        )


def _check_loss(options: Mapping[str, object], wanted: argparse.Namespace, run: TrainerRun) -> None:
    if run.loss is None or "loss" not in options:
        return
    name, weights = run.loss
    if name != _LOSS_CLASSES.get(wanted.loss, name):
        raise TrainingError(f"the trainer used the loss {name}", expected=f"loss={wanted.loss!r} as asked")
    for key, used in weights.items():
        asked = options.get(key)
        if asked is not None and abs(used - _number(asked)) > _THREE_DECIMALS:
            raise TrainingError(
                f"the trainer changed {key} to {used:g}", expected=f"{key}={asked!r} as asked"
            )


def _check_references(wanted: argparse.Namespace, run: TrainerRun) -> None:
    """Isolated atoms in the training file silently win over the option E0s."""
    try:
        asked = ast.literal_eval(wanted.E0s or "")
    except (ValueError, SyntaxError):
        return  # a name, such as "average"
    for z, used in run.references.items():
        if z not in asked or not math.isclose(used, float(asked[z]), rel_tol=1e-9, abs_tol=1e-9):
            raise TrainingError(
                f"the trainer used the reference energy {used:g} eV for element {z}",
                expected=f"{asked.get(z)} eV, as E0s says",
                todo="take isolated atoms (config_type=IsolatedAtom) out of the training file",
            )


def _check_freezing(wanted: argparse.Namespace, run: TrainerRun) -> None:
    for level, parts in FROZEN_BY.items():
        for part in parts:
            frozen = f"Freezing {part} weights" in run.text
            if frozen != bool(wanted.freeze and wanted.freeze >= level):
                raise TrainingError(
                    f"the trainer {'froze' if frozen else 'did not freeze'} the {part} weights",
                    expected=f"freeze={wanted.freeze!r} as asked",
                )


def _check_steps(options: Mapping[str, object], wanted: argparse.Namespace, run: TrainerRun) -> None:
    """As many epochs as asked for, and at least one update in each."""
    if wanted.dry_run or wanted.lbfgs or not run.sizes:
        return
    total = sum(run.sizes.values())
    if total < wanted.batch_size:
        raise TrainingError(
            f"the trainer made no update: batch_size={wanted.batch_size} with {total} training structures, "
            "and mace leaves an incomplete batch out",
            expected="a batch no larger than the training set",
        )
    may_end_early = options.get("patience") is not None and wanted.patience < wanted.max_num_epochs
    last = max(run.updates, default=-1)
    if last + 1 < wanted.max_num_epochs and not may_end_early:
        raise TrainingError(
            f"the trainer ended after {last + 1} epochs", expected=f"{wanted.max_num_epochs} epochs as asked"
        )


def effective_settings(run: TrainerRun, wanted: Mapping[str, object]) -> dict[str, Any]:
    """A flat record of the settings in use, for people and for JSON.

    Args:
        run: the run.
        wanted: the options that were checked by `check_effective`, for values that the log has only once.
    """
    name, weights = run.loss or (str(wanted.get("loss")), {})
    used = {option: run.later(option) for option in _LOGGED_LATER}
    loss = None if run.best_epoch is None else run.losses.get(run.best_epoch)
    return {
        "learning_rate": used["lr"],
        "learning_rate_factor": wanted.get("lr_scheduler_gamma"),
        "loss": name,
        **weights,
        "batch_size": None if used["batch_size"] is None else int(used["batch_size"]),
        "weight_decay": used["weight_decay"],
        "ema_decay": used["ema_decay"],
        "clip_grad": used["clip_grad"],
        "epochs": len(run.updates),
        "updates": sum(run.updates.values()),
        "best_epoch": run.best_epoch,
        "validation_loss": loss if loss is not None and math.isfinite(loss) else None,
        "training_structures": run.sizes.get(HEAD),
        "seed": wanted.get("seed"),
        "dtype": wanted.get("default_dtype"),
        **{f"E0_{chemical_symbols[z]}": energy for z, energy in run.references.items()},
    }


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _logged_value(line: str, key: str) -> str | None:
    """The text of `key=...` in a logged Namespace, up to the next key."""
    found = re.search(rf"[(, ]{re.escape(key)}=(.*?)(?=, \w+=|\)$)", line)
    return found.group(1) if found else None
