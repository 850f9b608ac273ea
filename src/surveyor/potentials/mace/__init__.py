"""The family of mace-torch's potentials: the only package that imports mace-torch, when one is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surveyor.potentials.base import Dtype
    from surveyor.potentials.mace.potential import MacePotential

__all__ = ["FAMILY", "MacePotential"]


class Mace:
    """Opens `.model` files of mace-torch 0.3.x, and its foundation models by name."""

    suffixes = (".model",)

    def names(self) -> Sequence[str]:
        from surveyor.potentials.mace.foundation import FOUNDATION_MODELS

        return FOUNDATION_MODELS

    def open(
        self, source: str, *, device: str | None, dtype: Dtype | None, head: str | None
    ) -> MacePotential:
        from surveyor.potentials.mace.foundation import FOUNDATION_MODELS, foundation_model_path
        from surveyor.potentials.mace.potential import MacePotential

        is_name = source in FOUNDATION_MODELS and not Path(source).is_file()
        path = foundation_model_path(source) if is_name else Path(source)
        return MacePotential.load(path, device=device, dtype=dtype, head=head)


FAMILY = Mace()


def __getattr__(name: str) -> Any:
    if name == "MacePotential":  # looked up when it is first used: it imports mace-torch
        from surveyor.potentials.mace.potential import MacePotential

        return MacePotential
    raise AttributeError(f"module 'surveyor.potentials.mace' has no attribute {name!r}")
