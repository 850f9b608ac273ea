"""The potentials that a campaign saved itself: opened only if they are what it saved.

A `.model` file is a pickle, and opening one runs what stands in it. The checksum of each stands in the
`training.json` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surveyor.campaign.records import read_json
from surveyor.errors import CampaignError, notice
from surveyor.potentials.opening import checksum, open_potential
from surveyor.structures.writing import write_json
from surveyor.types import Potential

if TYPE_CHECKING:
    from surveyor.learner.choice import Choice

TRAINING = "training.json"
MODEL = "potential.model"
CORRECTION = "correction.json"
CORRECTED = "potential.tangent"
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


def save_correction(choice: Choice, folder: Path) -> None:
    """Keep what was found of a tangent correction, and the corrected potential where it is used."""
    record: dict[str, Any] = {
        "chosen": choice.chosen,
        "held_out": choice.held_out,
        "errors": {
            name: {"energy_mae": energy, "force_mae": force}
            for name, (energy, force) in choice.errors.items()
        },
        "says": str(choice),
        "sha256": None,
    }
    if choice.chosen != "none":
        choice.potential.save(folder / CORRECTED)
        record["sha256"] = checksum(folder / CORRECTED)
    write_json(folder / CORRECTION, record)


def open_correction(folder: Path, tuned: Potential, device: str | None) -> Potential:
    """The potential of a round with the correction that was kept, or as it is where none was.

    Raises:
        CampaignError: the correction's file is not the one that was saved.
    """
    recorded = correction_record(folder)
    if recorded.get("chosen") == "none":
        return tuned
    path = folder / CORRECTED
    if not path.is_file() or checksum(path) != recorded.get("sha256"):
        raise CampaignError(
            f"{path} is not the file that this campaign saved", expected="an untouched file", todo=RESTORE
        )
    return open_potential(f"tangent:{path}", device)


def potential_path(folder: Path) -> Path:
    """File of the potential of a round: with its correction, where one was kept."""
    kept = correction_record(folder).get("chosen", "none") != "none"
    return folder / (CORRECTED if kept else MODEL)


def correction_record(folder: Path) -> dict[str, Any]:
    """What stands in the `correction.json` of a round; empty where no correction was tried.

    Raises:
        CampaignError: it is damaged.
    """
    return _record(folder / CORRECTION)


def said_of_correction(folder: Path) -> list[str]:
    """The sentence about the tangent correction of a round; none where none was tried."""
    return [str(says) for says in (correction_record(folder).get("says"),) if says]


def training_record(folder: Path) -> dict[str, Any]:
    """What stands in the `training.json` of a round; empty where there is none.

    Raises:
        CampaignError: it is damaged.
    """
    return _record(folder / TRAINING)


def _record(path: Path) -> dict[str, Any]:
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
