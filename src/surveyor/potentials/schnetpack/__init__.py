"""The family of SchNetPack's potentials: the only package that imports schnetpack, when one is opened."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from surveyor.errors import PotentialError
from surveyor.potentials.models import usable_device

if TYPE_CHECKING:
    from surveyor.potentials.base import Dtype
    from surveyor.potentials.schnetpack.potential import SchnetpackPotential


class Schnetpack:
    """Opens models that schnetpack's trainer saved (`best_model`): pickles, as MACE's; in eV and Å."""

    suffixes = (".spk",)

    def names(self) -> Sequence[str]:
        return ()

    def open(
        self, source: str, *, device: str | None, dtype: Dtype | None, head: str | None
    ) -> SchnetpackPotential:
        if head is not None:
            raise PotentialError(f"head {head!r} of a PaiNN", expected="no head: there is one energy")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript, inside schnetpack
            from surveyor.potentials.schnetpack.potential import SchnetpackPotential

        model = _from_file(Path(source)).to(usable_device(device))
        if dtype is not None:
            model.to(getattr(torch, dtype))
        return SchnetpackPotential(model, source=source)


def _from_file(path: Path) -> torch.nn.Module:
    try:
        # The user named this file as a model: unpickling it is what opening it means.
        model = torch.load(path, map_location="cpu", weights_only=False)
    # Damaged, or something else: torch and pickle raise anything.
    except Exception as error:
        reason = (str(error).splitlines() or ["empty"])[0][:120]
        raise PotentialError(
            f"{path} is no model of schnetpack ({type(error).__name__}: {reason})",
            expected="the file best_model that schnetpack's trainer wrote",
            todo="check the path",
        ) from error
    if isinstance(model, torch.nn.Module):
        return model
    raise PotentialError(
        f"{path} holds a {type(model).__name__}, not a model",
        expected="the file best_model that schnetpack's trainer wrote, not a checkpoint",
    )


FAMILY = Schnetpack()
