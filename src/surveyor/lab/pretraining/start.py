"""The model that a training goes on from."""

from __future__ import annotations

from pathlib import Path

from surveyor.potentials.mace import importing  # noqa: F401  # isort: skip  (before torch)
import torch
from mace.tools.scripts_utils import extract_config_mace_model

from surveyor.errors import ConfigError, PotentialError
from surveyor.lab.pretraining.recipe import Recipe
from surveyor.potentials.mace.loading import load_module
from surveyor.potentials.mace.weights import fix_again
from surveyor.structures.writing import whole_file


def check_start(recipe: Recipe) -> None:
    """Refuse a start of another architecture than the recipe's: the trainer would take that in silence.

    Raises:
        PotentialError: the file is missing or is no model.
        ConfigError: it is not the model that the recipe describes.
    """
    start, wanted = recipe.training.start, recipe.model
    if start is None:
        return
    if not start.is_file():
        raise PotentialError(f"no file {start}", todo="mend or remove training.start in the recipe")
    module = load_module(start, "cpu")
    found = extract_config_mace_model(module)
    if "error" in found:
        raise PotentialError(f"{start.name} holds a {type(module).__name__}", expected="a ScaleShiftMACE")
    hidden = {irrep.ir.l: irrep.mul for irrep in found["hidden_irreps"]}
    is_ = {
        "channels": hidden[0],
        "max_L": max(hidden),
        "max_ell": int(found["max_ell"]),
        "correlation": int(found["correlation"]),
        "interactions": int(found["num_interactions"]),
        "cutoff": round(float(found["r_max"]), 6),
        "radial_basis": int(found["num_bessel"]),
        "radial_mlp": tuple(int(width) for width in found["radial_MLP"]),
        "readout": str(found["MLP_irreps"]),
        "pair_repulsion": bool(found["pair_repulsion"]),
    }
    wrong = {key: value for key, value in wanted.model_dump().items() if value != is_[key]}
    if wrong:
        keys = ", ".join(f"model.{key}: {value!r} ({is_[key]!r} there)" for key, value in wrong.items())
        raise ConfigError(
            f"the recipe has not the architecture of training.start ({start.name}): {keys}",
            expected="the architecture of the model to go on from",
            todo="set these keys as they are there, or leave out training.start",
        )


def into_start(start: Path, made: Path) -> None:
    """Leave in a trained model no more parameters than the start has; see `fix_again`."""
    module = load_module(made, "cpu")
    fix_again(load_module(start, "cpu"), module)
    with whole_file(made) as file:
        torch.save(module, file)
