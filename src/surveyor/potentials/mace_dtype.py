"""mace-torch builds models and graphs in torch's default dtype; here it is set for a while only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def default_dtype(dtype: Any) -> Iterator[None]:
    """torch's default dtype within a block."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
