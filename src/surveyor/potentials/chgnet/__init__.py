"""The family of CHGNet's potentials: the only package that imports chgnet, when one is opened."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from surveyor.errors import PotentialError
from surveyor.potentials.models import usable_device

if TYPE_CHECKING:
    from chgnet.model import CHGNet

    from surveyor.potentials.base import Dtype
    from surveyor.potentials.chgnet.potential import ChgnetPotential

NAMES = ("0.3.0", "0.2.0", "r2scan")
"""Weights that come with the package chgnet."""


class Chgnet:
    """Opens CHGNet's own weights by name, and files that chgnet's trainer or Surveyor saved."""

    suffixes = (".pth.tar",)

    def names(self) -> Sequence[str]:
        return NAMES

    def open(
        self, source: str, *, device: str | None, dtype: Dtype | None, head: str | None
    ) -> ChgnetPotential:
        if head is not None:
            raise PotentialError(f"head {head!r} of a CHGNet", expected="no head: CHGNet has one")
        with _quietly():
            from chgnet.model import CHGNet

            from surveyor.potentials.chgnet.potential import ChgnetPotential
        target = usable_device(device)
        with _quietly():
            if source in NAMES and not Path(source).is_file():
                model = CHGNet.load(model_name=source, use_device="cpu", verbose=False)
            else:
                model = _from_file(CHGNet, Path(source))
        if dtype is not None:
            model.to(getattr(torch, dtype))
        return ChgnetPotential.of(model.to(target), source=source)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the lines that chgnet prints, and the warnings that no user can act on."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _from_file(kind: type[CHGNet], path: Path) -> CHGNet:
    """A CHGNet from a file of its settings and weights; code that the file may hold is not run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)["model"]
        weights = content["state_dict"]
        model = kind(**content["model_args"]).to(next(iter(weights.values())).dtype)
        model.load_state_dict(weights)
    # Damaged, or something else: torch, pickle and chgnet raise anything.
    except Exception as error:
        reason = (str(error).splitlines() or ["empty"])[0][:120]
        raise PotentialError(
            f"{path} is no CHGNet ({type(error).__name__}: {reason})",
            expected=f"a .pth.tar that chgnet's trainer saved, or one of {', '.join(NAMES)}",
            todo="check the path",
        ) from error
    return model


FAMILY = Chgnet()
