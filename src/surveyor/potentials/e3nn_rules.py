"""Per-structure parameter gradients of e3nn's modules.

Imported only for a model that holds such modules: e3nn is there then, and was imported by the family.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod, sqrt

import torch
from e3nn import o3
from e3nn.nn._fc import _Layer
from torch.nn.functional import one_hot

from surveyor.potentials.rows import Rows
from surveyor.potentials.rules import Whole
from surveyor.potentials.taps import Block, Tap


class IrrepsLinear(Whole):
    """e3nn's Linear: y_rwi = c Σ_u x_rui W_uw (+ b_w) for each path, so ∂E/∂W_uw = c Σ_ri x_rui g_rwi."""

    module: o3.Linear

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = rows.domains[self.domain]
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


class AttributeProduct(Whole):
    """e3nn's FullyConnectedTensorProduct with scalars a of each row: y_rwi = c Σ_uv x_rui a_rv W_uvw.

    ∂E_b/∂W_uvw = c Σ_{r∈b} Σ_i x_rui a_rv g_rwi.
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
        segments = rows.domains[self.domain]
        attributes = inputs[1][:, None, None, :]
        for entries, scale, x, g in self._paths(inputs[0], gradient):
            pairs = (x[..., None] * attributes).flatten(2)
            whole = slice(entries.start, entries.stop)
            yield Block(self.parameter("weight"), whole, None, scale * segments.outer(pairs, g).flatten(1))

    def _paths(
        self, inputs: torch.Tensor, gradient: torch.Tensor
    ) -> Iterator[tuple[range, float, torch.Tensor, torch.Tensor]]:
        """Entries of the weight, c, x (rows, 2l + 1, u) and g (rows, 2l + 1, w) of each path."""
        fields_in = irreps_fields(inputs, self.module.irreps_in1)
        fields_out = irreps_fields(gradient, self.module.irreps_out)
        offset = 0
        for path in self.module.instructions:
            size = prod(path.path_shape)
            scale = path.path_weight / sqrt(self.module.irreps_out[path.i_out].ir.dim)
            entries = range(offset, offset + size)
            offset += size
            yield entries, scale, fields_in[path.i_in1], fields_out[path.i_out]


class ElementProduct(AttributeProduct):
    """The same with one-hot elements, a_rv = [z(r) = v]: ∂E_b/∂W_uvw = c Σ_{r∈b, z(r)=v} Σ_i x_rui g_rwi."""

    def holds(self, rows: Rows, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor, /) -> bool:
        wanted = one_hot(rows.elements, self.module.irreps_in2.dim)
        return inputs[1].shape == wanted.shape and bool((inputs[1] == wanted).all())

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        groups = rows.by_element
        for entries, scale, x, g in self._paths(inputs[0], gradient):
            values = scale * groups.outer(x, g).flatten(1)
            where = torch.arange(entries.start, entries.stop, device=values.device)
            where = where.view(x.shape[2], -1, g.shape[2])
            for element in groups.present:
                members = groups.members(element)
                yield Block(
                    self.parameter("weight"),
                    where[:, element].flatten(),
                    groups.structure[members],
                    values[members],
                )


class RadialLayer(Whole):
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
        values = rows.domains[self.domain].outer(inputs[0][:, None], gradient[:, None])
        whole = slice(0, values[0].numel())
        yield Block(self.parameter("weight"), whole, None, self.scale * values.flatten(1))


def rules_for(name: str, module: torch.nn.Module, domain: str) -> Iterator[Whole]:
    """Rules of a module of e3nn, the fastest first; see `rules.rules_for`."""
    if isinstance(module, o3.Linear) and _has_own_weights(module):
        yield IrrepsLinear(name, module, domain)
    elif AttributeProduct.fits(module) and _has_own_weights(module):
        yield ElementProduct(name, module, domain)
        yield AttributeProduct(name, module, domain)
    elif isinstance(module, _Layer):
        yield RadialLayer(name, module, domain)


def _has_own_weights(module: torch.nn.Module) -> bool:
    return bool(module.internal_weights and module.shared_weights)


def irreps_fields(values: torch.Tensor, irreps: o3.Irreps) -> list[torch.Tensor]:
    """(rows, irreps.dim) → for each irrep (rows, 2l + 1, multiplicity)."""
    return [
        values[:, part].reshape(len(values), mul, irrep.dim).transpose(1, 2)
        for part, (mul, irrep) in zip(irreps.slices(), irreps, strict=True)
    ]
