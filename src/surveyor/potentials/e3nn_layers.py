"""Hidden features that e3nn's irreps describe.

Imported only for a model that holds such modules: e3nn is there then, and was imported by the family.
"""

from __future__ import annotations

from functools import partial

import torch
from e3nn import o3

from surveyor.potentials.base import Layer


def scalar_layer(module: torch.nn.Module, irreps: o3.Irreps, device: torch.device) -> Layer:
    """The rotation-invariant part (0e) of a module's output (atoms, irreps.dim)."""
    parts = zip(irreps.slices(), irreps, strict=True)
    scalars = [torch.arange(part.start, part.stop) for part, (_, ir) in parts if ir == o3.Irrep("0e")]
    columns = torch.cat(scalars).to(device)
    return Layer(module, len(columns), partial(_columns, columns))


def _columns(wanted: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    return output[:, wanted]
