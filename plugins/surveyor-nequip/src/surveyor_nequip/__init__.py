"""The family of NequIP's potentials: `.ckpt` checkpoints of `nequip-train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surveyor.potentials.base import Dtype
    from surveyor_nequip.potential import NequIPPotential

__all__ = ["FAMILY"]


class NequIP:
    """Opens checkpoints with nequip 0.19; it comes with no weights."""

    suffixes = (".ckpt",)

    def names(self) -> Sequence[str]:
        return ()

    def open(
        self, source: str, *, device: str | None, dtype: Dtype | None, head: str | None
    ) -> NequIPPotential:
        from surveyor.errors import PotentialError
        from surveyor_nequip.potential import NequIPPotential

        if head is not None:
            raise PotentialError(f"head {head!r} of a NequIP", expected="no head: there is one energy")
        return NequIPPotential.load(Path(source), device=device, dtype=dtype)


FAMILY = NequIP()
