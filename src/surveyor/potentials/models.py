"""What the families do alike to a torch model: its device, fresh weights, parameters that are none."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from surveyor.errors import PotentialError


def usable_device(device: str | None) -> torch.device:
    """The named device; None takes a GPU where there is one.

    Raises:
        PotentialError: it cannot be used.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.zeros(1, device=target)
    except (RuntimeError, AssertionError) as error:
        raise PotentialError(
            f"device {device!r} cannot be used: {str(error).splitlines()[0]}",
            expected="cpu, or a GPU of this machine",
        ) from error
    return target


def as_buffers(model: torch.nn.Module, chosen: Callable[[str], object]) -> None:
    """Make buffers of the parameters whose names are chosen: they stay in the state and are no features.

    For the scalars of a radial basis, whose gradients drown those of all weights and tell less, and for heads
    that the energy does not pass through.
    """
    for name in [name for name, _ in model.named_parameters() if chosen(name)]:
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        value = module._parameters.pop(own)
        assert value is not None  # noqa: S101
        module.register_buffer(own, value.detach())


def redrawn(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy in which each module that knows how draws its weights anew; all else stays."""
    fresh = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in fresh.cpu().modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return fresh.to(next(model.parameters()).device)
