"""Per-structure parameter gradients of the modules that equivariant networks are built of.

Every module here is linear in its parameters, y_r = L(x_r) θ for each row r (a node or an edge), so that the
gradient of a structure's energy is a sum over its rows, ∂E_b/∂θ = Σ_{r∈b} L(x_r)ᵀ ∂E/∂y_r.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.func import functional_call, vjp, vmap
from torch.nn.functional import layer_norm, one_hot

from surveyor.potentials.rows import Rows
from surveyor.potentials.taps import Block, Rule, Tap

AT_ONCE = 2**22
"""Numbers of per-row gradients that are held at once."""


class Whole:
    """A module whose output is itself linear in the parameters: the class's own forward is recorded."""

    def __init__(self, name: str, module: torch.nn.Module, domain: str) -> None:
        self.name = name
        self.module = module
        self.domain = domain
        self.own_forward: Callable[..., torch.Tensor] = module.forward

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        return tap(inputs, self.own_forward(*inputs))

    def parameter(self, name: str) -> str:
        return f"{self.name}.{name}"


def _fields(values: torch.Tensor) -> torch.Tensor:
    """(rows, …, width) → (rows, m, width)."""
    return values[:, None] if values.ndim == 2 else values.flatten(1, -2)


class Affine(Whole):
    """torch's Linear: y = x Wᵀ + b, so ∂E/∂W = Σ_r g_r ⊗ x_r and ∂E/∂b = Σ_r g_r."""

    module: torch.nn.Linear

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = rows.domains[self.domain]
        x, g = _fields(inputs[0]), _fields(gradient)
        values = segments.outer(g, x)
        yield Block(self.parameter("weight"), slice(0, values[0].numel()), None, values.flatten(1))
        if self.module.bias is not None:
            yield Block(self.parameter("bias"), slice(0, g.shape[2]), None, segments.total(g.sum(dim=1)))


class Norm(Whole):
    """torch's LayerNorm over channels: y = x̂ w + b, so ∂E/∂w = Σ_r g_r x̂_r and ∂E/∂b = Σ_r g_r."""

    module: torch.nn.LayerNorm

    @staticmethod
    def fits(module: torch.nn.Module) -> bool:
        return isinstance(module, torch.nn.LayerNorm) and len(module.normalized_shape) == 1

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = rows.domains[self.domain]
        standard = layer_norm(inputs[0], self.module.normalized_shape, eps=self.module.eps)
        g = _fields(gradient)
        whole = slice(0, g.shape[2])
        moved = (g * _fields(standard)).sum(dim=1)
        yield Block(self.parameter("weight"), whole, None, segments.total(moved))
        if self.module.bias is not None:
            yield Block(self.parameter("bias"), whole, None, segments.total(g.sum(dim=1)))


class Lookup(Whole):
    """torch's Embedding: y_r = W_{k(r)}, so ∂E/∂W_k = Σ_{r: k(r) = k} g_r."""

    module: torch.nn.Embedding

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        chosen = one_hot(inputs[0].flatten(), self.module.num_embeddings).to(gradient.dtype)
        values = rows.domains[self.domain].outer(chosen[:, None], gradient.flatten(1)[:, None])
        yield Block(self.parameter("weight"), slice(0, values[0].numel()), None, values.flatten(1))


class NodeScalar:
    """A scalar θ that enters node by node, so that ∂E_b/∂θ = Σ_{r∈b} ∂E/∂θ_r with a copy θ_r per node."""

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("a scalar parameter is no module")

    def blocks(
        self,
        rows: Rows,
        inputs: tuple[torch.Tensor, ...],  # noqa: ARG002
        gradient: torch.Tensor,
    ) -> Iterator[Block]:
        yield Block(self.name, slice(0, 1), None, rows.nodes.total(gradient))


class RowLocal(Whole):
    """Any module whose output row depends on its own input row alone: ∂E_b/∂θ = Σ_{r∈b} (∂y_r/∂θ)ᵀ g_r.

    The vector–Jacobian product of each row, by `vmap(vjp)`, for the module's own parameters.
    """

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        own = dict(self.module.named_parameters(recurse=False))

        def pulled(g: torch.Tensor, *x: torch.Tensor) -> dict[str, torch.Tensor]:
            def output(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
                arguments = tuple(value[None] for value in x)
                found: torch.Tensor = functional_call(self.module, parameters, arguments)
                return found[0]

            return dict(vjp(output, own)[1](g)[0])

        owner = rows.domains[self.domain].owner
        if not len(owner):
            return
        at_once = max(1, AT_ONCE // sum(parameter.numel() for parameter in own.values()))
        parts = zip(*(torch.split(value, at_once) for value in (owner, gradient, *inputs)), strict=True)
        for whose, *values in parts:
            for name, each in vmap(pulled)(*values).items():
                flat = each.flatten(1)
                total = flat.new_zeros(rows.count, flat.shape[1]).index_add(0, whose, flat)
                yield Block(self.parameter(name), slice(0, flat.shape[1]), None, total)


def rule_for(name: str, module: torch.nn.Module, domain: str) -> Rule | None:
    """The rule of a module of torch or e3nn, by its class; None where there is none.

    Args:
        name: of the module in the model.
        module: one with parameters of its own.
        domain: what the rows of its input are.
    """
    if type(module) is torch.nn.Linear:
        return Affine(name, module, domain)
    if Norm.fits(module):
        return Norm(name, module, domain)
    if type(module) is torch.nn.Embedding:
        return Lookup(name, module, domain)
    if any(kind.__module__.partition(".")[0] == "e3nn" for kind in type(module).__mro__):
        from surveyor.potentials import e3nn_rules

        return e3nn_rules.rule_for(name, module, domain)
    return None
