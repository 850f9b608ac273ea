"""The family of SevenNet's potentials: `.pth` checkpoints of sevenn, and its published models by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surveyor.potentials.base import Dtype
    from surveyor_sevennet.potential import SevenNetPotential

__all__ = ["FAMILY"]


class SevenNet:
    """Opens checkpoints with sevenn 0.13; the first three names come with it, it downloads the others."""

    suffixes = (".pth",)

    def names(self) -> Sequence[str]:
        return ("7net-0", "7net-l3i5", "7net-mf-0", "7net-mf-ompa", "7net-omat", "7net-omni")

    def open(
        self, source: str, *, device: str | None, dtype: Dtype | None, head: str | None
    ) -> SevenNetPotential:
        from surveyor_sevennet.potential import SevenNetPotential

        named = source in self.names() and not Path(source).is_file()
        return SevenNetPotential.load(
            source if named else Path(source), device=device, dtype=dtype, head=head
        )


FAMILY = SevenNet()
