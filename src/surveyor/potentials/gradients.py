"""Parameter gradients of every structure of a batch, from one forward and one backward pass.

A backward pass of the whole batch to the outputs of the modules (not to their parameters) gives all that each
structure's gradient is made of: the inputs of its own nodes and edges, and the gradients at their outputs.
The gradients are handed on in blocks, a parameter at a time, so that a sketch of them never needs them whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.autograd import forward_ad

from surveyor.potentials.rows import Rows
from surveyor.potentials.taps import Block, Capture, Rule, tapped

if TYPE_CHECKING:
    from surveyor.potentials.base import Batch

Energies = Callable[["Batch"], torch.Tensor]


@dataclass(frozen=True, eq=False)
class GradientPlan:
    """Which module's rule gives which parameter's gradient.

    | variable | meaning                                                                          |
    |----------|----------------------------------------------------------------------------------|
    | model    | the model                                                                        |
    | energies | batch → energy of each structure, (structures,) eV                               |
    | rules    | module name → rule                                                               |
    | spread   | scalar parameters that multiply or shift every node: parameter name → rule        |
    | wanted   | names of the parameters whose gradients are asked for                            |
    | rest     | those of them that no rule covers: a backward pass per structure                 |
    """

    model: torch.nn.Module
    energies: Energies
    rules: Mapping[str, Rule]
    spread: Mapping[str, Rule]
    wanted: frozenset[str]
    rest: tuple[str, ...]

    def energy_blocks(self, batch: Batch) -> Iterator[Block]:
        """∂E_b/∂θ of every structure b, in blocks."""
        rows = Rows.of(batch)
        with tapped(self.model, self.rules, self.spread, rows) as captures:
            total = self.energies(batch).sum()
        gradients = gradients_of(total, [capture.output for capture in captures])
        del total  # the graph holds every hidden tensor
        while captures:
            capture, gradient = captures.pop(), gradients.pop()
            if gradient is not None:
                inputs = tuple(value.detach() for value in capture.inputs)
                yield from self._chosen(capture.rule.blocks(rows, inputs, gradient))
        if self.rest:
            yield from self._rest_of_energies(batch)

    def force_blocks(self, batch: Batch, probes: torch.Tensor) -> Iterator[tuple[int, Block]]:
        """∂(v·F_b)/∂θ of every structure b and probe v, in blocks with the probe's number.

        v·F = −D with D = dE(x + εv)/dε, so its parameter gradient is minus the tangent along v of the blocks
        of ∂E/∂θ. Those are made of a module's input h and of ȳ = ∂E/∂y at its output. Their tangents are
        ∂D/∂h̄, with h̄ = ∂E/∂h, and ∂D/∂y: a second backward pass gives both, for all structures.

        | variable | shape              | meaning                              |
        |----------|--------------------|--------------------------------------|
        | probes   | (probes, atoms, 3) | directions v, for all atoms at once  |
        """
        rows = Rows.of(batch)
        positions = batch.positions.requires_grad_(True)
        with tapped(self.model, self.rules, self.spread, rows) as captures:
            energies = self.energies(batch)
        # The factor lets every h̄ be part of the second graph, even where it is a constant (the last layer).
        total = energies @ torch.ones_like(energies).requires_grad_(True)
        inputs = _distinct(value for capture in captures for value in capture.inputs if value.requires_grad)
        outputs = [capture.output for capture in captures]
        first = gradients_of(total, [positions, *inputs, *outputs], create_graph=True)
        slope, slopes_of_inputs, gradients = first[0], first[1 : len(inputs) + 1], first[len(inputs) + 1 :]
        if slope is not None:
            for number, probe in enumerate(probes):
                second = gradients_of((slope * probe).sum(), [*outputs, *slopes_of_inputs], retain_graph=True)
                tangents = {
                    id(value): tangent for value, tangent in zip(inputs, second[len(outputs) :], strict=True)
                }
                for capture, gradient, change in zip(captures, gradients, second, strict=False):
                    for block in self._chosen(_tangent(rows, capture, gradient, change, tangents)):
                        yield number, block
        if self.rest:
            yield from self._rest_of_forces(batch, probes)

    def _chosen(self, blocks: Iterator[Block]) -> Iterator[Block]:
        return (block for block in blocks if block.name in self.wanted)

    def _rest_of_energies(self, batch: Batch) -> Iterator[Block]:
        with differentiable(self.model, self.rest) as parameters:
            for number, energy in enumerate(self.energies(batch)):
                gradients = gradients_of(energy, parameters, retain_graph=True)
                yield from _single(self.rest, gradients, number)

    def _rest_of_forces(self, batch: Batch, probes: torch.Tensor) -> Iterator[tuple[int, Block]]:
        positions = batch.positions.requires_grad_(True)
        with differentiable(self.model, self.rest) as parameters:
            slope = gradients_of(self.energies(batch).sum(), [positions], create_graph=True)[0]
            if slope is None:
                return
            for number, probe in enumerate(probes):
                works = -(slope * probe).sum(dim=1)
                for structure in range(batch.count):
                    work = works[batch.owners["nodes"] == structure].sum()
                    for block in _single(
                        self.rest, gradients_of(work, parameters, retain_graph=True), structure
                    ):
                        yield number, block


@contextlib.contextmanager
def differentiable(model: torch.nn.Module, names: Sequence[str]) -> Iterator[list[torch.Tensor]]:
    """Named parameters require gradients inside only: force predictions are cheaper without."""
    parameters: list[torch.Tensor] = [model.get_parameter(name) for name in names]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield parameters
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def gradients_of(
    value: torch.Tensor,
    inputs: Sequence[torch.Tensor | None],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[torch.Tensor | None]:
    """∂value/∂input for each input; None where it does not depend on it."""
    usable = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    found: Sequence[torch.Tensor | None] = [None] * len(usable)
    if usable and value.requires_grad:
        keep = retain_graph or create_graph
        found = torch.autograd.grad(
            value, usable, retain_graph=keep, create_graph=create_graph, allow_unused=True
        )
    by_id = {id(tensor): gradient for tensor, gradient in zip(usable, found, strict=True)}
    return [None if tensor is None else by_id.get(id(tensor)) for tensor in inputs]


def _tangent(
    rows: Rows,
    capture: Capture,
    gradient: torch.Tensor | None,
    change: torch.Tensor | None,
    tangents: Mapping[int, torch.Tensor | None],
) -> Iterator[Block]:
    """−d/dε of a capture's blocks, by forward-mode differentiation of its rule."""
    if gradient is None:
        return
    with forward_ad.dual_level():
        inputs = tuple(_dual(value, tangents.get(id(value))) for value in capture.inputs)
        dual = _dual(gradient, change)
        moved = []
        for block in capture.rule.blocks(rows, inputs, dual):
            tangent = forward_ad.unpack_dual(block.values).tangent  # type: ignore[no-untyped-call]
            if tangent is not None:
                moved.append(Block(block.name, block.entries, block.owner, -tangent.clone()))
    yield from moved


def _dual(value: torch.Tensor, tangent: torch.Tensor | None) -> torch.Tensor:
    if tangent is None:
        return value.detach()
    primal, along = value.detach(), tangent.detach()
    dual: torch.Tensor = forward_ad.make_dual(primal, along)  # type: ignore[no-untyped-call]
    return dual


def _distinct(values: Iterator[torch.Tensor]) -> list[torch.Tensor]:
    return list({id(value): value for value in values}.values())


def _single(
    names: Sequence[str], gradients: Sequence[torch.Tensor | None], structure: int
) -> Iterator[Block]:
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None:
            owner = torch.tensor([structure], device=gradient.device)
            yield Block(name, slice(0, gradient.numel()), owner, gradient.reshape(1, -1))
