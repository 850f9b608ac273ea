"""From a `.model` file to a torch module."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

from surveyor.potentials.mace import importing  # noqa: F401  # isort: skip  (the pickle names mace's classes)
import torch

from surveyor.errors import PotentialError

UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, ImportError, KeyError, ValueError,
    OSError,
)  # fmt: skip
"""What torch.load raises for files that are damaged, something else, or of classes that are not here."""


def load_module(path: Path, device: str | None) -> torch.nn.Module:
    """Unpickle a `.model` file that the user named, on a device that works.

    Raises:
        PotentialError: the device cannot be used, or the file holds no torch module.
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript, inside e3nn
            # The user named this file as a model: unpickling it is what opening a .model means.
            model = torch.load(path, map_location=target, weights_only=False)
    except UNREADABLE as error:
        reason = (str(error).splitlines() or ["empty"])[0][:120]
        raise PotentialError(
            f"{path} is not a model file ({type(error).__name__}: {reason})",
            expected="a .model that mace-torch 0.3.x saved",
            todo="check the path; save a model of another mace-torch version again with that version",
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise PotentialError(
            f"{path} holds a {type(model).__name__}, not a model",
            expected="a .model that mace-torch saved",
            todo="pass the .model file, not a checkpoint",
        )
    return model
