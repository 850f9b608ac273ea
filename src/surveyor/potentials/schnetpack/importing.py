"""Import schnetpack under any torch, without warnings that no user can act on.

It takes a type variable out of torch's data loader that newer versions of torch spell `_T_co`.
"""

from __future__ import annotations

import warnings

from torch.utils.data import dataloader

if not hasattr(dataloader, "T_co"):
    dataloader.T_co = dataloader._T_co  # type: ignore[attr-defined]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schnetpack

__all__ = ["schnetpack"]
