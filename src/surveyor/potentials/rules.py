"""Per-structure parameter gradients of the modules that equivariant networks are built of.

Every module here is linear in its parameters, y_r = L(x_r) θ for each row r (a node or an edge), so that the
gradient of a structure's energy is a sum over its rows, ∂E_b/∂θ = Σ_{r∈b} L(x_r)ᵀ ∂E/∂y_r.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.autograd import forward_ad
from torch.func import functional_call, vjp, vmap
from torch.nn.functional import layer_norm, linear, one_hot

from surveyor.potentials.rows import Rows
from surveyor.potentials.taps import Block, Rule, Tap

AT_ONCE = 2**22
"""Numbers of per-row gradients that are held at once."""


class Whole(Rule):
    """A module whose output is itself linear in the parameters: the class's own forward is recorded."""

    def __init__(self, name: str, module: torch.nn.Module, domain: str) -> None:
        self.name = name
        self.module = module
        self.domain = domain
        self.own_forward: Callable[..., torch.Tensor] = module.forward

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        return tap(inputs, self.own_forward(*inputs))

    def holds(self, _rows: Rows, _inputs: tuple[torch.Tensor, ...], _output: torch.Tensor, /) -> bool:
        """Whether what the rule takes for granted is so in a call of the module."""
        return True

    def parameter(self, name: str) -> str:
        return f"{self.name}.{name}"


def _fields(values: torch.Tensor) -> torch.Tensor:
    """(rows, …, width) → (rows, m, width)."""
    return values[:, None] if values.ndim == 2 else values.flatten(1, -2)


class Affine(Whole):
    """torch's Linear: y = x Wᵀ + b, so ∂E/∂W = Σ_r g_r ⊗ x_r and ∂E/∂b = Σ_r g_r; any axes between."""

    module: torch.nn.Linear

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = rows.domains[self.domain]
        x, g = _fields(inputs[0]), _fields(gradient)
        values = segments.outer(g, x)
        yield Block(self.parameter("weight"), slice(0, values[0].numel()), None, values.flatten(1))
        if self.module.bias is not None:
            yield Block(self.parameter("bias"), slice(0, g.shape[2]), None, segments.total(g.sum(dim=1)))


class Activated(Affine):
    """A Linear with its activation inside, y = act(z) with z = x Wᵀ + b: as `Affine`, of ∂E/∂z."""

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        return self._activated(tap(inputs, self._z(inputs[0])))

    def holds(self, _rows: Rows, inputs: tuple[torch.Tensor, ...], output: torch.Tensor, /) -> bool:
        return torch.equal(self._activated(self._z(inputs[0])), output)

    def _z(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.module.weight, self.module.bias)

    def _activated(self, z: torch.Tensor) -> torch.Tensor:
        return self.module.activation(z)  # type: ignore[no-any-return, operator]


class Norm(Whole):
    """torch's LayerNorm over channels: y = x̂ w + b, so ∂E/∂w = Σ_r g_r x̂_r and ∂E/∂b = Σ_r g_r."""

    module: torch.nn.LayerNorm

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
    """torch's Embedding: y_rm = W_{k(r,m)}, so ∂E/∂W_k = Σ_{rm: k(r,m) = k} g_rm; but of a padding none."""

    module: torch.nn.Embedding

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        places = inputs[0].long().reshape(len(gradient), -1)
        chosen = one_hot(places, self.module.num_embeddings).to(gradient.dtype)
        if self.module.padding_idx is not None:
            chosen[..., self.module.padding_idx] = 0
        fields = gradient.reshape(len(gradient), -1, gradient.shape[-1])
        values = rows.domains[self.domain].outer(chosen, fields)
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

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        # A copy: what exp or tanh gives is part of their own backward formula, too, which is not downstream.
        return tap(inputs, self.own_forward(*inputs).clone())

    def holds(self, rows: Rows, inputs: tuple[torch.Tensor, ...], output: torch.Tensor, /) -> bool:
        count = len(rows.domains[self.domain].owner)
        if not all(value.ndim and len(value) == count for value in (*inputs, output)):
            return False
        with torch.no_grad():
            alone = self.own_forward(*(value[: count // 2] for value in inputs))
        if not torch.allclose(alone, output[: count // 2], rtol=1e-4, atol=1e-6):
            return False
        with forward_ad.dual_level():  # what stands in the way of vmap, or of a derivative of it, raises here
            dual = forward_ad.make_dual(output, output)  # type: ignore[no-untyped-call]
            return all(len(block.values) == rows.count for block in self.blocks(rows, inputs, dual))

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


def rules_for(name: str, module: torch.nn.Module, domain: str) -> Iterator[Whole]:
    """Rules that may fit a module, the fastest first: those of its class in torch or e3nn, then `RowLocal`.

    Args:
        name: of the module in the model.
        module: one with parameters of its own.
        domain: what the rows of its input are.
    """
    forward = type(module).forward
    if forward is torch.nn.Linear.forward:
        yield Affine(name, module, domain)
    elif isinstance(module, torch.nn.Linear) and callable(getattr(module, "activation", None)):
        yield Activated(name, module, domain)
    elif forward is torch.nn.LayerNorm.forward and len(module.normalized_shape) == 1:  # type: ignore[arg-type]
        yield Norm(name, module, domain)
    elif forward is torch.nn.Embedding.forward and module.max_norm is None:
        yield Lookup(name, module, domain)
    elif any(kind.__module__.partition(".")[0] == "e3nn" for kind in type(module).__mro__):
        from surveyor.potentials import e3nn_rules

        yield from e3nn_rules.rules_for(name, module, domain)
    yield RowLocal(name, module, domain)
