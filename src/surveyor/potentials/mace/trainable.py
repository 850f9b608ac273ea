"""Whether mace's trainer can start from a model: asked before anything is paid for."""

from __future__ import annotations

import torch

from surveyor.errors import TrainingError
from surveyor.potentials.mace.potential import MacePotential
from surveyor.potentials.mace.weights import PARTS


def check_trainable(potential: MacePotential) -> None:
    """Look at what the trainer needs of the model that it starts from; frozen weights do not matter to it.

    Raises:
        TrainingError: it is compiled or scripted, wrapped in LoRA adapters, in half precision,
            or of an architecture that mace-torch does not rebuild.
    """
    model, source = potential.model, potential.source
    # e3nn compiles parts of every model: what counts is whether a layer, or the whole, is compiled.
    scripted = any(isinstance(part, torch.jit.ScriptModule) for part in (model, *_layers(model)))
    if scripted or any("_orig_mod" in name for name in model.state_dict()):
        raise TrainingError(
            f"{source} is a compiled model: it can predict, but not be trained",
            expected="the plain .model file that mace_run_train wrote",
            todo="name that file; it mostly lies beside the one that ends in _compiled.model",
        )
    if any(type(part).__name__.startswith("LoRA") for part in model.modules()):
        raise TrainingError(
            f"{source} holds LoRA adapters, from which mace's trainer cannot start",
            expected="an ordinary MACE model",
            todo="merge them into the weights first: mace.modules.lora.merge_lora_weights, then torch.save",
        )
    if potential.dtype not in ("float32", "float64"):
        raise TrainingError(f"{source} is of {potential.dtype}", expected="float32 or float64")
    _check_architecture(potential)


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    parts = [part for name, part in model.named_children() if name in PARTS]
    return [layer for part in parts for layer in (part, *part.children())]


def _check_architecture(potential: MacePotential) -> None:
    """The trainer builds the model anew from what mace reads off it."""
    from mace.tools.scripts_utils import extract_config_mace_model

    try:
        reason = extract_config_mace_model(potential.model).get("error")
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        raise TrainingError(
            f"{potential.source} ({type(potential.model).__name__}) cannot be trained on: {reason}",
            expected="an architecture that mace-torch's fine-tuning rebuilds: ScaleShiftMACE",
            todo="take another model",
        )
