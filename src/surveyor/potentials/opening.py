"""From what a user names to an opened potential."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from surveyor.errors import PotentialError

if TYPE_CHECKING:
    from surveyor.potentials.mace import MacePotential

BUILTIN = "builtin"


def builtin_path() -> Path:
    """The weights that come with the package."""
    return Path(str(resources.files("surveyor"))) / "potentials" / "weights" / "builtin.model"


def beside(model: str, part: str) -> Path | None:
    """The `held-out` or `replay` frames beside a `.model` file, as `surveyor pretrain` writes them."""
    path = builtin_path() if model == BUILTIN else Path(model)
    frames = path.with_name(f"{path.stem}-{part}.extxyz.gz")
    return frames if frames.is_file() else None


def checksum(path: Path) -> str:
    """SHA-256 of a `.model` file, as a card states it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def open_potential(
    source: str | Path,
    device: str | None = None,
    dtype: Literal["float32", "float64"] | None = None,
    *,
    head: str | None = None,
) -> MacePotential:
    """Open a pretrained potential.

    A `.model` file is a Python pickle: opening one runs code that it holds. Open only files from people
    you trust.

    Args:
        source: `"builtin"` (in the package), the path of a mace-torch `.model`, or the name of a MACE
            foundation model such as `"medium-mpa-0"`, `"off-small"` or `"omol"`, which mace-torch
            downloads once into its cache.
        device: `"cpu"`, `"cuda"`, …; None takes a GPU where there is one.
        dtype: None keeps the dtype that the model was saved with.
        head: which head of a multi-head model; None takes the only one, or the one named "default".

    Raises:
        PotentialError: no such file or name, not a MACE model, an unusable device or dtype, or no network.
    """
    if dtype not in (None, "float32", "float64"):
        raise PotentialError(f"dtype {dtype!r}", expected="float32 or float64")
    from surveyor.potentials.mace import MacePotential
    from surveyor.potentials.mace_foundation import FOUNDATION_MODELS, foundation_model_path

    name = str(source)
    if name == BUILTIN:
        path = builtin_path()
    elif Path(name).is_file():
        path = Path(name)
    elif name in FOUNDATION_MODELS:
        path = foundation_model_path(name)
    else:
        if Path(name).is_dir():
            why = ": that is a folder"
        elif Path(name).exists():
            why = ": that is no file, but a pipe, socket or device"
        else:
            why = ": no such file" if Path(name).suffix != "" or "/" in name else ""
        raise PotentialError(
            f"no potential {name!r}{why}",
            expected="'builtin', the path of a .model file, or one of " + ", ".join(FOUNDATION_MODELS),
            todo=f"check the spelling; the current folder is {Path.cwd()}",
        )
    return MacePotential.load(path, device=device, dtype=dtype, head=head)
