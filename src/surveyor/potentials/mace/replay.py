"""Replay: labelled structures of the pretraining level are trained on along with the new ones.

mace-torch trains one body with two heads, `pt_head` on the replayed structures and `Default` on the new ones;
afterwards the head of the new ones is cut out into an ordinary single-head potential.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from surveyor.errors import TrainingError
from surveyor.potentials.mace.effective import HEAD
from surveyor.potentials.mace.potential import MacePotential
from surveyor.potentials.references import refit_reference_energies
from surveyor.structures.labels import labels_of, with_labels
from surveyor.structures.writing import write_structures
from surveyor.types import Labels

MIN_EPOCHS = 10
"""A validation ends each epoch, and the best epoch is kept: so many there should be to choose from."""
MAX_VALID = 32
TRAIN_FILE, VALID_FILE = "replay.extxyz", "replay-valid.extxyz"


@dataclass(frozen=True)
class Mix:
    """How many replayed structures an epoch holds, and how often each new one comes in it."""

    replayed: int
    repeats: int


def plan_mix(n_train: int, n_replay: int, visits: int) -> Mix:
    """Half of all visits go to replayed structures, half to new ones, as far as there are enough of them.

    Args:
        n_train: new structures.
        n_replay: replay structures that may be trained on.
        visits: structures seen in the whole training, updates times batch size.
    """
    replayed = min(n_replay, max(n_train, visits // (2 * MIN_EPOCHS)))
    return Mix(replayed, max(1, math.floor(replayed / n_train + 0.5)))


def write_replay(
    frames: Sequence[Atoms], start: MacePotential, workdir: Path, *, n_train: int, visits: int, seed: int
) -> Mix:
    """Draw a part of the replay set and write mace's two files of it.

    Per-element reference energies of the labels are brought to those of the potential that the training
    starts from, whose energies mace gives to the replay head whatever the labels say.

    Raises:
        TrainingError: fewer than two structures.
        StructureError: one is not labelled, or has an element that the potential does not know.
    """
    if len(frames) < 2:
        raise TrainingError(
            f"{len(frames)} structures to replay",
            expected="at least two labelled structures of the pretraining level",
            todo="give training: {replay: file.extxyz}, or take mode naive or frozen",
        )
    n_valid = min(MAX_VALID, len(frames) // 2)
    mix = plan_mix(n_train, len(frames) - n_valid, visits)
    order = np.random.default_rng([seed, 11]).permutation(len(frames))[: n_valid + mix.replayed]
    chosen = [frames[i] for i in order]
    shifts = refit_reference_energies(start, chosen)
    shifted = []
    for number, atoms in enumerate(chosen):
        labels = labels_of(atoms, f"replay structure {number}")
        energy = labels.energy - sum(shifts[int(z)] for z in atoms.numbers)
        shifted.append(with_labels(atoms, Labels(energy, labels.forces, labels.stress)))
    write_structures(workdir / VALID_FILE, shifted[:n_valid])
    write_structures(workdir / TRAIN_FILE, shifted[n_valid:])
    return mix


def cut_out_head(path: Path, structures: Sequence[Atoms], *, device: str | None) -> MacePotential:
    """The potential of the fine-tuned head of a multi-head `.model` file, with that head alone.

    Args:
        structures: on these the cut-out potential must predict what the head predicts.

    Raises:
        TrainingError: its predictions are not those of the head.
    """
    from mace.tools.scripts_utils import remove_pt_head

    both = MacePotential.load(path, device=device, head=HEAD)
    with _default_dtype(getattr(torch, both.dtype)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about copying tensors and TorchScript, inside mace
        model = remove_pt_head(both.model, HEAD).to(both.device)
    alone = MacePotential(model, source=str(path))
    tolerance = 1e-4 if both.dtype == "float32" else 1e-9
    for number, (a, b) in enumerate(zip(both.predict(structures), alone.predict(structures), strict=True)):
        scale = max(1.0, float(np.abs(a.forces).max()))
        off = max(abs(a.energy - b.energy) / len(a.forces), float(np.abs(a.forces - b.forces).max()) / scale)
        if not off <= tolerance:
            raise TrainingError(
                f"the head {HEAD!r} cut out of {path.name} predicts structure {number} off by {off:g}",
                expected=f"the predictions of the head itself, within {tolerance:g}",
                todo="take mode naive or frozen for this architecture",
            )
    return alone


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """mace builds a model in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
