"""Per-structure parameter gradients of the modules that equivariant networks are built of.

Every module here is linear in its parameters, y_r = L(x_r) θ for each row r (a node or an edge), so that the
gradient of a structure's energy is a sum over its rows, ∂E_b/∂θ = Σ_{r∈b} L(x_r)ᵀ ∂E/∂y_r.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod, sqrt
from typing import Literal

import torch
from e3nn import o3
from e3nn.nn._fc import _Layer
from torch.nn.functional import layer_norm, one_hot

from surveyor.potentials.rows import Rows, Segments
from surveyor.potentials.taps import Block, Rule, Tap

Domain = Literal["nodes", "edges"]


def _segments(rows: Rows, domain: Domain) -> Segments:
    return rows.nodes if domain == "nodes" else rows.edges


class _Whole:
    """A module whose output is itself linear in the parameters: the class's own forward is recorded."""

    def __init__(self, name: str, module: torch.nn.Module, domain: Domain) -> None:
        self.name = name
        self.module = module
        self.domain: Domain = domain
        self.own_forward: Callable[..., torch.Tensor] = module.forward

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        return tap(inputs, self.own_forward(*inputs))

    def parameter(self, name: str) -> str:
        return f"{self.name}.{name}"


class IrrepsLinear(_Whole):
    """e3nn's Linear: y_rwi = c Σ_u x_rui W_uw (+ b_w) for each path, so ∂E/∂W_uw = c Σ_ri x_rui g_rwi."""

    module: o3.Linear

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = _segments(rows, self.domain)
        fields_in = irreps_fields(inputs[0], self.module.irreps_in)
        fields_out = irreps_fields(gradient, self.module.irreps_out)
        offsets = {"weight": 0, "bias": 0}
        for path in self.module.instructions:
            kind = "bias" if path.i_in == -1 else "weight"
            size = prod(path.path_shape)
            entries = slice(offsets[kind], offsets[kind] + size)
            offsets[kind] += size
            if size == 0:
                continue
            right = fields_out[path.i_out]
            if kind == "bias":
                values = segments.total(right.flatten(1))
            else:
                values = segments.outer(fields_in[path.i_in], right).flatten(1)
            yield Block(self.parameter(kind), entries, None, path.path_weight * values)


class ElementProduct(_Whole):
    """e3nn's FullyConnectedTensorProduct with one-hot elements: y_rwi = c Σ_u x_rui W_{u,z(r),w}.

    A skip connection of MACE. ∂E_b/∂W_uvw = c Σ_{r∈b, z(r)=v} Σ_i x_rui g_rwi.
    """

    module: o3.FullyConnectedTensorProduct

    @staticmethod
    def fits(module: torch.nn.Module) -> bool:
        return (
            isinstance(module, o3.FullyConnectedTensorProduct)
            and len(module.irreps_in2) == 1
            and module.irreps_in2[0].ir == o3.Irrep("0e")
        )

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        groups = rows.by_element
        fields_in = irreps_fields(inputs[0], self.module.irreps_in1)
        fields_out = irreps_fields(gradient, self.module.irreps_out)
        offset = 0
        for path in self.module.instructions:
            u, v, w = path.path_shape
            scale = path.path_weight / sqrt(self.module.irreps_out[path.i_out].ir.dim)
            values = scale * groups.outer(fields_in[path.i_in1], fields_out[path.i_out]).flatten(1)
            where = torch.arange(offset, offset + u * v * w, device=values.device).view(u, v, w)
            offset += u * v * w
            for element in groups.present:
                members = groups.members(element)
                yield Block(
                    self.parameter("weight"),
                    where[:, element].flatten(),
                    groups.structure[members],
                    values[members],
                )


class RadialLayer(_Whole):
    """A layer of e3nn's FullyConnectedNet, y = act(z) with z = c x W: ∂E/∂W = c Σ_r x_r ⊗ ∂E/∂z_r."""

    @property
    def scale(self) -> float:
        fan = self.module.h_in * self.module.var_in  # type: ignore[operator]
        if self.module.act is None:
            fan /= self.module.var_out
        return float(fan**-0.5)

    def forward(self, tap: Tap, *inputs: torch.Tensor) -> torch.Tensor:
        z = tap(inputs, inputs[0] @ (self.module.weight * self.scale))  # type: ignore[operator]
        if self.module.act is None:
            return z
        return self.module.act(z) * self.module.var_out**0.5  # type: ignore[no-any-return, operator]

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        values = _segments(rows, self.domain).outer(inputs[0][:, None], gradient[:, None])
        whole = slice(0, values[0].numel())
        yield Block(self.parameter("weight"), whole, None, self.scale * values.flatten(1))


class Affine(_Whole):
    """torch's Linear: y = x Wᵀ + b, so ∂E/∂W = Σ_r g_r ⊗ x_r and ∂E/∂b = Σ_r g_r."""

    module: torch.nn.Linear

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = _segments(rows, self.domain)
        x, g = inputs[0].flatten(1), gradient.flatten(1)
        values = segments.outer(g[:, None], x[:, None])
        yield Block(self.parameter("weight"), slice(0, values[0].numel()), None, values.flatten(1))
        if self.module.bias is not None:
            yield Block(self.parameter("bias"), slice(0, g.shape[1]), None, segments.total(g))


class Norm(_Whole):
    """torch's LayerNorm over channels: y = x̂ w + b, so ∂E/∂w = Σ_r g_r x̂_r and ∂E/∂b = Σ_r g_r."""

    module: torch.nn.LayerNorm

    @staticmethod
    def fits(module: torch.nn.Module) -> bool:
        return isinstance(module, torch.nn.LayerNorm) and len(module.normalized_shape) == 1

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = _segments(rows, self.domain)
        standard = layer_norm(inputs[0], self.module.normalized_shape, eps=self.module.eps)
        whole = slice(0, gradient.shape[1])
        yield Block(self.parameter("weight"), whole, None, segments.total(gradient * standard))
        if self.module.bias is not None:
            yield Block(self.parameter("bias"), whole, None, segments.total(gradient))


class Lookup(_Whole):
    """torch's Embedding: y_r = W_{k(r)}, so ∂E/∂W_k = Σ_{r: k(r) = k} g_r."""

    module: torch.nn.Embedding

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        chosen = one_hot(inputs[0].flatten(), self.module.num_embeddings).to(gradient.dtype)
        values = _segments(rows, self.domain).outer(chosen[:, None], gradient.flatten(1)[:, None])
        yield Block(self.parameter("weight"), slice(0, values[0].numel()), None, values.flatten(1))


class NodeScalar:
    """A scalar θ that enters node by node, so that ∂E_b/∂θ = Σ_{r∈b} ∂E/∂θ_r with a copy θ_r a node."""

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


def rule_for(name: str, module: torch.nn.Module, domain: Domain) -> Rule | None:
    """The rule of a module of e3nn or torch, if there is one.

    Args:
        name: of the module in the model.
        module: one with parameters of its own.
        domain: what the rows of its input are.
    """
    if isinstance(module, o3.Linear) and _has_own_weights(module):
        return IrrepsLinear(name, module, domain)
    if ElementProduct.fits(module) and _has_own_weights(module):
        return ElementProduct(name, module, domain)
    if isinstance(module, _Layer):
        return RadialLayer(name, module, domain)
    if type(module) is torch.nn.Linear:
        return Affine(name, module, domain)
    if Norm.fits(module):
        return Norm(name, module, domain)
    if type(module) is torch.nn.Embedding:
        return Lookup(name, module, domain)
    return None


def _has_own_weights(module: torch.nn.Module) -> bool:
    return bool(module.internal_weights and module.shared_weights)


def irreps_fields(values: torch.Tensor, irreps: o3.Irreps) -> list[torch.Tensor]:
    """(rows, irreps.dim) → for each irrep (rows, 2l + 1, multiplicity)."""
    return [
        values[:, part].reshape(len(values), mul, irrep.dim).transpose(1, 2)
        for part, (mul, irrep) in zip(irreps.slices(), irreps, strict=True)
    ]
