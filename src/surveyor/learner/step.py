"""How energies and forces change along a step of the parameters, to first order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from surveyor.potentials.base import Batch, Differentiable
from surveyor.potentials.gradients import differentiable, gradients_of


@dataclass(frozen=True, eq=False)
class Moved:
    """A batch as the potential predicts it, and the change along the step.

    | variable       | shape      | meaning                 | unit |
    |----------------|------------|-------------------------|------|
    | energies       | (count,)   | E(x; θ)                 | eV   |
    | forces         | (atoms, 3) | −∇E                     | eV/Å |
    | energy_changes | (count,)   | Δθ·∇θE                  | eV   |
    | force_changes  | (atoms, 3) | −∇(Δθ·∇θE)              | eV/Å |
    """

    energies: torch.Tensor
    forces: torch.Tensor
    energy_changes: torch.Tensor
    force_changes: torch.Tensor


def along_step(potential: Differentiable, batch: Batch, step: Mapping[str, torch.Tensor]) -> Moved:
    """Energies and forces of a batch, and their derivatives along Δθ.

        D(u, x) = Δθ·∇θ Σ_b u_b E_b(x)       ∂D/∂u_b = Δθ·∇θE_b       −∂D/∂x = change of the forces (u = 1)

    One forward pass, a backward pass to parameters and positions, and one more through both: what a training
    on forces does too, so that every model that can be trained on forces can do it.

    | symbol | variable  | shape                 |
    |--------|-----------|-----------------------|
    | Δθ     | step      | each parameter's own  |
    | u      | `weights` | (count,), all 1       |
    """
    positions = batch.positions.requires_grad_(True)
    with differentiable(potential.model, list(step)) as parameters:
        energies = potential.energies(batch)
        weights = torch.ones_like(energies).requires_grad_(True)
        slope, *gradients = gradients_of(energies @ weights, [positions, *parameters], create_graph=True)
        parts = [
            (gradient * move.to(gradient)).sum()
            for gradient, move in zip(gradients, step.values(), strict=True)
            if gradient is not None
        ]
        along = torch.stack(parts).sum() if parts else energies.new_zeros(())
        changes, turn = gradients_of(along, [weights, positions])
    return Moved(
        energies.detach(),
        _or_zeros(slope, positions).neg(),
        _or_zeros(changes, weights),
        _or_zeros(turn, positions).neg(),
    )


def _or_zeros(found: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if found is None else found.detach()
