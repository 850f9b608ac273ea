"""The same architecture with fresh weights, as a baseline."""

from __future__ import annotations

import copy

from surveyor.potentials.mace import importing  # noqa: F401  # isort: skip  (before mace)
import numpy as np
import torch
from mace.modules.symmetric_contraction import Contraction, EmptyParam


def randomly_initialised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The same architecture with fresh weights: what a representation is worth without pretraining.

    Weights are drawn as mace and e3nn draw them before training: standard normal ones in equivariant layers
    and radial networks (the layers bring their own scales), U(−1/√fan, 1/√fan) in torch's layers, normal ones
    over the number of paths in symmetric contractions; biases are zero, norms one. Buffers (atomic energies,
    scale, shift, couplings) stay, and so do scalar parameters.

    Args:
        model: left as it is.
        seed: of numpy's generator; the same weights on every device.
    """
    model = copy.deepcopy(model)
    rng = np.random.default_rng(seed)
    for module in model.modules():
        own = dict(module.named_parameters(recurse=isinstance(module, Contraction)))
        for name, parameter in own.items():
            if isinstance(parameter, EmptyParam) or isinstance(module, torch.nn.ParameterList):
                continue  # a contraction draws those of its lists itself
            shape = tuple(parameter.shape)
            if isinstance(module, Contraction):
                fresh = rng.standard_normal(shape) / shape[1]
            elif isinstance(module, torch.nn.LayerNorm):
                fresh = np.full(shape, 1.0 if name == "weight" else 0.0)
            elif name == "bias":
                fresh = np.zeros(shape)
            elif isinstance(module, torch.nn.Linear):
                fresh = rng.uniform(-1.0, 1.0, shape) / np.sqrt(shape[1])
            elif parameter.ndim == 0:
                continue
            else:
                fresh = rng.standard_normal(shape)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.asarray(fresh)))
    return model
