"""Hidden inputs and outputs of a model's modules, recorded while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from surveyor.potentials.rows import Rows


@dataclass(frozen=True, eq=False)
class Block:
    """Part of the parameter gradients of a batch.

    | variable | shape           | meaning                                                           |
    |----------|-----------------|-------------------------------------------------------------------|
    | name     |                 | the parameter                                                     |
    | entries  | (n,) or a slice | which entries of the flattened parameter                          |
    | owner    | (rows,) or None | structure of each row; None: row i belongs to structure i         |
    | values   | (rows, n)       | contribution to the gradient; blocks that overlap add up          |
    """

    name: str
    entries: slice | torch.Tensor
    owner: torch.Tensor | None
    values: torch.Tensor


class Rule(Protocol):
    """How the parameters of one module enter the gradient, given its inputs and output gradient."""

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        """The module's own result; calls `tap` on the quantity in which it is linear in its parameters."""

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        """Blocks from the tapped inputs and the gradient of the tapped output."""


@dataclass(frozen=True, eq=False)
class Capture:
    """One call of a module: what went in, and what came out."""

    rule: Rule
    inputs: tuple[torch.Tensor, ...]
    output: torch.Tensor


@dataclass(frozen=True, eq=False)
class Tap:
    """Records the calls of one module."""

    rule: Rule
    captures: list[Capture] = field(default_factory=list)

    def __call__(self, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Record, and return the output with which the model goes on."""
        if output.requires_grad:
            self.captures.append(Capture(self.rule, inputs, output))
            return output
        # Nothing upstream asks for gradients: the output becomes a leaf, and the backward pass ends here.
        # The model goes on with a copy, since it may change a tensor in place and a leaf may not be changed.
        output = output.detach().requires_grad_(True)
        self.captures.append(Capture(self.rule, inputs, output))
        return output.clone()


@contextlib.contextmanager
def tapped(
    model: torch.nn.Module, rules: Mapping[str, Rule], spread: Mapping[str, Rule], rows: Rows
) -> Iterator[list[Capture]]:
    """Inside, the named modules record their calls; the list fills as the model runs.

    Args:
        model: the model.
        rules: module name → rule.
        spread: scalar parameter → rule; inside, the parameter has a row for each node, (nodes, 1), which
            is recorded as an output without inputs.
        rows: of the batch that will run.
    """
    captures: list[Capture] = []
    with contextlib.ExitStack() as stack:
        for name, rule in rules.items():
            module = model.get_submodule(name)
            stack.callback(_put_back, module.__dict__, "forward", module.__dict__.get("forward"))
            module.forward = _tapped_forward(rule, Tap(rule, captures))
        for name, rule in spread.items():
            path, _, own_name = name.rpartition(".")
            own = model.get_submodule(path)._parameters
            stack.callback(_put_back, own, own_name, own[own_name])
            value = model.get_parameter(name).detach()
            leaf = value.expand(len(rows.elements), 1).clone().requires_grad_(True)
            captures.append(Capture(rule, (), leaf))
            own[own_name] = leaf  # type: ignore[assignment]
        yield captures


@contextlib.contextmanager
def detached(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Inside, the backward pass does not go back through these modules."""
    handles = [module.register_forward_hook(_detach) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _detach(_module: torch.nn.Module, _inputs: object, output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(None if part is None else part.detach() for part in output)
    return output.detach()


def _put_back(where: MutableMapping[str, Any], name: str, value: object) -> None:
    if value is None:
        where.pop(name, None)  # the class's own comes back
    else:
        where[name] = value


def _tapped_forward(rule: Rule, tap: Tap) -> Callable[..., torch.Tensor]:
    def forward(*inputs: torch.Tensor) -> torch.Tensor:
        return rule.forward(tap, *inputs)

    return forward
