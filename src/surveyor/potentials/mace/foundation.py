"""The published MACE models, through mace-torch's own loaders and cache."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from surveyor.potentials.mace import importing  # noqa: F401  # isort: skip  (before mace)
from mace.calculators import foundations_models

from surveyor.errors import PotentialError

FOUNDATION_MODELS: tuple[str, ...] = (
    *foundations_models.mace_mp_urls,
    *(f"off-{name}" for name in foundations_models.mace_off_urls),
    "omol",
)


def foundation_model_path(name: str) -> Path:
    """File of a published MACE model, downloaded into mace-torch's cache on first use.

    Raises:
        PotentialError: the download failed; the message names the file to pass instead.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            if name == "omol":
                model = foundations_models.mace_omol(device="cpu", return_raw_model=True)
            elif name.startswith("off-"):
                model = foundations_models.mace_off(
                    name.removeprefix("off-"), device="cpu", return_raw_model=True
                )
            else:
                return Path(foundations_models.download_mace_mp_checkpoint(name))
    except Exception as error:
        raise PotentialError(
            f"could not download the MACE model {name!r}: {error.__cause__ or error}",
            expected="a connection to the address that mace-torch downloads from",
            todo="download the .model file on a machine with a connection, copy it here and pass its path: "
            "--model PATH/TO/FILE.model",
        ) from error
    del model  # only its file is wanted; opening it again sets device and dtype
    found = re.findall(r"(?:with|to) (\S+\.model)", said.getvalue())
    return Path(found[-1])
