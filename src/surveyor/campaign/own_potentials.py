"""The potentials that a campaign saved itself: opened only if they are what it saved.

A `.model` file is a pickle, and opening one runs what stands in it. The checksum of each stands in the
`training.json` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from surveyor.campaign.records import read_json, write_json
from surveyor.errors import CampaignError, notice
from surveyor.potentials.opening import checksum
from surveyor.types import Potential

TRAINING = "training.json"
MODEL = "potential.model"
RESTORE = "restore it from a copy"


def save_own(potential: Potential, folder: Path, record: Mapping[str, Any]) -> None:
    """Save the potential of a round and then, in one step, let it stand: its record is there before it."""
    made = folder / f".{MODEL}"
    potential.save(made)
    write_json(folder / TRAINING, {**record, "sha256": checksum(made)})
    made.replace(folder / MODEL)


def open_own(folder: Path, opener: Callable[[Path], Potential]) -> Potential:
    """The potential of a round.

    Raises:
        CampaignError: its bytes are not those that were saved, or nothing says which were.
    """
    path = folder / MODEL
    if not path.is_file():
        raise CampaignError(f"there is no {path}", expected="the potential of the round", todo=RESTORE)
    recorded = training_record(folder).get("sha256")
    if recorded is None or checksum(path) != recorded:
        raise CampaignError(
            f"{path} is not the file that this campaign saved: its SHA-256 "
            + ("stands nowhere" if recorded is None else f"is not the one in {folder / TRAINING}"),
            expected="an untouched file: opening a model runs code that stands in it",
            todo=RESTORE,
        )
    return opener(path)


def training_record(folder: Path) -> dict[str, Any]:
    """What stands in the `training.json` of a round; empty where there is none.

    Raises:
        CampaignError: it is damaged.
    """
    path = folder / TRAINING
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise CampaignError(
            f"{path} holds a {type(content).__name__}", expected="a mapping", todo="restore it from a copy"
        )
    return content


def record_old_ones(folder: Path) -> None:
    """Take the potentials of a campaign whose version kept no checksums for what it saved, and say so."""
    without = [
        path
        for path in sorted((*folder.glob(f"rounds/*/{MODEL}"), *folder.glob(f"control/*/{MODEL}")))
        if "sha256" not in training_record(path.parent)
    ]
    for path in without:
        write_json(path.parent / TRAINING, {**training_record(path.parent), "sha256": checksum(path)})
    if without:
        names = ", ".join(str(path.relative_to(folder)) for path in without)
        notice(
            f"the campaign {folder} was started by a version that kept no checksums of its potentials; they "
            f"are recorded as they are now: {names}"
        )
