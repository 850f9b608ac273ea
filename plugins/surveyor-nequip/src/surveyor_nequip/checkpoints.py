"""Checkpoints of `nequip-train`: how a model is built again, and written so that nequip goes on from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.utils import get_class, get_method
from nequip.nn import GraphModel
from nequip.train.lightning import _SOLE_MODEL_KEY as SOLE
from nequip.train.lightning import NequIPLightningModule
from nequip.utils import get_current_code_versions
from nequip.utils.global_dtype import _GLOBAL_DTYPE
from nequip.utils.global_state import set_global_state

from surveyor.errors import PotentialError
from surveyor.structures.writing import whole_file

BUILDERS = "nequip.model."
"""Where the functions live that build a model from its settings; `ModelFromCheckpoint` asks another file."""

Settings = Mapping[str, Any]


@contextlib.contextmanager
def nequips_state() -> Iterator[None]:
    """nequip works in its own global state; its default dtype is not left to others."""
    before = torch.get_default_dtype()
    set_global_state()
    torch.set_default_dtype(_GLOBAL_DTYPE)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def built(settings: Settings) -> GraphModel:
    """A model with the weights of its seed."""
    arguments = dict(settings)
    with nequips_state():
        model: GraphModel = get_method(arguments.pop("_target_"))(**arguments)
    return model


def read(path: Path, dtype: str | None) -> tuple[GraphModel, Settings]:
    """The model with the weights that nequip would predict with, and the settings it is built from.

    Raises:
        PotentialError: the model is no NequIP that is built from its settings.
    """
    content = _content(path)
    hyper = content["hyper_parameters"]
    settings = _settings(hyper["model"], path)
    if dtype is not None:
        settings = {**settings, "model_dtype": dtype}
    kind = get_class(hyper["info_dict"]["training_module"]["_target_"])
    with nequips_state():
        trained = kind.load_from_checkpoint(path, map_location="cpu", weights_only=False, model=settings)
    return trained.evaluation_model[SOLE], settings


def write(path: Path, model: GraphModel, settings: Settings) -> None:
    """What nequip's `ModelFromCheckpoint` opens."""
    target = f"{NequIPLightningModule.__module__}.{NequIPLightningModule.__name__}"
    content = {
        "state_dict": {
            "run_stage": torch.zeros(1, dtype=torch.long),
            **{f"model.{SOLE}.{name}": value for name, value in model.state_dict().items()},
        },
        "hyper_parameters": {
            "model": dict(settings),
            "num_datasets": {"train": 1, "val": 0, "test": 0, "predict": 0},
            "info_dict": {
                "versions": get_current_code_versions(verbose=False),
                "training_module": {"_target_": target},
            },
        },
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
    }
    with whole_file(path) as file:
        torch.save(content, file)


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return content


def _settings(settings: Settings, path: Path) -> Settings:
    """Those of the model itself, also where the training went on from another checkpoint."""
    target = str(settings["_target_"])
    if target.endswith(".ModelFromCheckpoint"):
        start = Path(settings["checkpoint_path"])
        beside = path.parent / start
        start = beside if beside.is_file() else start
        return _settings(_content(start)["hyper_parameters"]["model"], start)
    if target.startswith(BUILDERS) and "type_names" in settings:
        return settings
    raise PotentialError(
        f"the model of {path} is made by {target}",
        expected="one that is built from its settings: nequip.model.NequIPGNNModel, or alike",
        todo="train from a checkpoint of such a model, not from a package or a modified model",
    )
