"""From a `.model` file to a torch module."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from surveyor.potentials.mace import importing  # noqa: F401  # isort: skip  (the pickle names mace's classes)
import torch

from surveyor.errors import PotentialError
from surveyor.potentials.models import usable_device

WANTED = "pass the .model file that mace_run_train wrote (not …_compiled.model, not a checkpoint)"


def load_module(path: Path, device: str | None) -> torch.nn.Module:
    """Unpickle a `.model` file that the user named, on a device that works.

    Raises:
        PotentialError: the device cannot be used, or the file holds no torch module.
    """
    target = usable_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript, inside e3nn
            # The user named this file as a model: unpickling it is what opening a .model means.
            model = torch.load(path, map_location=target, weights_only=False)
    # Damaged, something else, or of classes that are not here: torch and pickle raise anything.
    except Exception as error:
        reason = (str(error).splitlines() or ["empty"])[0][:120]
        raise PotentialError(
            f"{path} is not a model file ({type(error).__name__}: {reason})",
            expected="a .model that mace-torch 0.3.x saved",
            todo="check the path; save a model of another mace-torch version again with that version",
        ) from error
    if (what := _no_trained_model(model)) is not None:
        raise PotentialError(
            f"{path} holds {what}",
            expected="a trained model as mace-torch 0.3.x saves it (.model)",
            todo=WANTED,
        )
    assert isinstance(model, torch.nn.Module)  # noqa: S101
    return model.to(target)  # e3nn keeps compiled parts as bytes, which map_location does not reach


def _no_trained_model(found: object) -> str | None:
    """What a file holds in place of a torch module in Python; None where it is one."""
    if isinstance(found, torch.jit.ScriptModule):
        name = getattr(found, "original_name", "model")
        return f"a compiled model (TorchScript of {name}): it can be run, but not trained or looked into"
    if hasattr(found, "_orig_mod"):
        return "a model compiled by torch.compile"
    if isinstance(found, torch.fx.GraphModule) or type(found).__name__ == "ExportedProgram":
        return f"an exported model ({type(found).__name__})"
    if isinstance(found, torch.nn.Module):
        return None
    if isinstance(found, Mapping):
        keys = ", ".join(sorted(map(str, found)))
        tensors = found and all(isinstance(value, torch.Tensor) for value in found.values())
        what = "the parameters alone (a state dict" if tensors else "a checkpoint or settings (a dict"
        return f"{what} of {keys[:80]}), not a model"
    return f"a {type(found).__name__}, not a model"
