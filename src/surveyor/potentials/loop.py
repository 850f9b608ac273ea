"""Parameter gradients one structure at a time: slow and plain, for comparison with the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from ase import Atoms

from surveyor.potentials.base import Differentiable
from surveyor.potentials.gradients import differentiable, gradients_of
from surveyor.types import Float64Array


def energy_gradients(
    potential: Differentiable, structures: Sequence[Atoms], names: Sequence[str]
) -> Iterator[torch.Tensor]:
    """∇θ E of each structure, (Σ sizes,), by one backward pass per structure: slow and plain."""
    for atoms in structures:
        with differentiable(potential.model, names) as parameters:
            found = gradients_of(potential.energies(potential.batch([atoms])).sum(), parameters)
            yield _flat(parameters, found)


def force_gradients(
    potential: Differentiable, atoms: Atoms, probes: Float64Array, names: Sequence[str]
) -> torch.Tensor:
    """∇θ (v·F) of one structure for every probe v, (probes, Σ sizes), differentiated twice: slow."""
    with differentiable(potential.model, names) as parameters:
        batch = potential.batch([atoms])
        positions = batch.positions.requires_grad_(True)
        slope = gradients_of(potential.energies(batch).sum(), [positions], create_graph=True)[0]
        rows = []
        for probe in probes:
            found: list[torch.Tensor | None] = [None] * len(parameters)
            if slope is not None:
                work = -(slope * torch.as_tensor(probe).to(slope)).sum()
                found = gradients_of(work, parameters, retain_graph=True)
            rows.append(_flat(parameters, found))
        return torch.stack(rows)


def _flat(parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
    ).detach()
