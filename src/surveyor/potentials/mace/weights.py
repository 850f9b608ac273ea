"""Which weights a training moved: the tuned potential against the one that it started from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from surveyor.errors import TrainingError
from surveyor.potentials.mace.potential import MacePotential
from surveyor.potentials.models import as_buffers

PARTS = ("node_embedding", "interactions", "products", "readouts")
"""The parts of a MACE that its trainer can train or freeze, from the bottom up."""


@dataclass(frozen=True)
class Moved:
    """Parameters in tensors that differ anywhere from the start, of how many, and by part of the model."""

    trained: int
    total: int
    parts: Mapping[str, int]


def moved_weights(start: MacePotential, tuned: MacePotential) -> Moved:
    """Compare bit by bit; the reference energies are no parameters and do not count.

    Raises:
        TrainingError: the two are not of one architecture, or a weight is NaN or inf.
    """
    before, after = start.model.state_dict(), tuned.model.state_dict()
    different = [
        name
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or before[name].numel() != after[name].numel()
    ]
    if different:
        raise TrainingError(
            f"the trainer returned another architecture: {different[0]} differs",
            expected="the architecture of the potential that it started from",
        )
    parts = dict.fromkeys(PARTS, 0)
    # mace turns a fixed buffer (the Bessel frequencies) into a parameter: the start says what a parameter is.
    for name, _ in start.model.named_parameters():
        if not torch.isfinite(after[name]).all():
            raise TrainingError(
                f"the training diverged: the weights {name} are NaN or inf",
                todo="lower the learning rate, or look for labels that are far off",
            )
        if not torch.equal(before[name].cpu(), after[name].cpu()):
            part = name.split(".", 1)[0]
            parts[part] = parts.get(part, 0) + after[name].numel()
    return Moved(sum(parts.values()), start.n_parameters, parts)


def fix_again(start: torch.nn.Module, tuned: torch.nn.Module) -> None:
    """Make buffers of the parameters that are buffers in the start, in place.

    mace builds a foundation model anew and turns the frequencies of its radial basis, which it does not
    train, into parameters: tangent features would have columns for them, each by a backward pass of its own.
    """
    parameters = {name for name, _ in start.named_parameters()}
    as_buffers(tuned, lambda name: name not in parameters)


def check_moved(moved: Moved, frozen: Sequence[str], model: MacePotential) -> None:
    """Frozen parts must be bit-identical to the start, all others must have moved.

    Raises:
        TrainingError: naming the part.
    """
    for part in PARTS:
        exists = any(name.startswith(f"{part}.") and p.numel() for name, p in model.model.named_parameters())
        if part in frozen and moved.parts[part]:
            raise TrainingError(f"the {part} were to be frozen, but {moved.parts[part]:,} parameters moved")
        if part not in frozen and exists and not moved.parts[part]:
            raise TrainingError(
                f"the training left the {part} as they were",
                expected="moved weights in every part that is not frozen",
                todo="raise the learning rate or the number of updates",
            )


def check_references(tuned: MacePotential, asked: Mapping[int, float]) -> None:
    """The tuned potential must have the reference energies that were asked for.

    Raises:
        TrainingError: naming the first element whose energy differs by more than its dtype's rounding.
    """
    unit = 1e-6 if tuned.dtype == "float32" else 1e-12
    for z, energy in tuned.reference_energies().items():
        if abs(energy - asked[z]) > unit * max(1.0, abs(asked[z])):
            raise TrainingError(
                f"the trained potential has the reference energy {energy:g} eV for element {z}",
                expected=f"{asked[z]:g} eV as asked",
                todo="take isolated atoms (config_type=IsolatedAtom) out of the training structures",
            )
