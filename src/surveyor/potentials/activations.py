"""Hidden features of a model's layers, and how they change along displacements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from surveyor.potentials.base import Batch, Layered
from surveyor.potentials.gradients import gradients_of


def activations(potential: Layered, batch: Batch, layers: Sequence[int]) -> torch.Tensor:
    """Hidden features of the chosen layers side by side, (atoms, Σ widths)."""
    chosen = [potential.layers()[number] for number in layers]
    outputs: dict[int, Any] = {}
    with contextlib.ExitStack() as stack:
        for number, layer in enumerate(chosen):

            def keep(_module: torch.nn.Module, _inputs: object, output: Any, number: int = number) -> None:
                outputs[number] = output

            stack.callback(layer.module.register_forward_hook(keep).remove)
        potential.energies(batch)
    return torch.cat([layer.pick(outputs[number]) for number, layer in enumerate(chosen)], dim=1)


def activation_slopes(
    potential: Layered, batch: Batch, layers: Sequence[int], probes: torch.Tensor
) -> Iterator[torch.Tensor]:
    """d/dε of the activations h at x + εv, for each probe v (atoms, 3): (atoms, Σ widths).

    With u of the shape of h, dh/dε is the gradient with respect to u of v·∂(u·h)/∂x.
    """
    positions = batch.positions.requires_grad_(True)
    nodes = activations(potential, batch, layers)
    weights = torch.zeros_like(nodes).requires_grad_(True)
    slope = gradients_of((weights * nodes).sum(), [positions], create_graph=True)[0]
    for probe in probes.to(positions):
        found = None
        if slope is not None:
            found = gradients_of((slope * probe).sum(), [weights], retain_graph=True)[0]
        yield (torch.zeros_like(nodes) if found is None else found).detach()
