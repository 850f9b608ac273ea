"""Is a potential what its card says, and as good here as there?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from surveyor.doctor.findings import Finding, Verdict, error, fault, not_checked, ok
from surveyor.errors import SurveyorError
from surveyor.metrics import errors
from surveyor.potentials.opening import BUILTIN, beside, builtin_path, checksum
from surveyor.structures import read_structures
from surveyor.types import Potential

TOLERANCE = 0.1
"""Relative; the sample is smaller than the set that the card's figures come from."""


def check_card(source: str, potential: Potential) -> Iterator[Finding]:
    """Where a card and a sample of held-out frames lie beside the weights, compare them."""
    subject = f"model {Path(source).name}"
    yield Finding(subject, "opens", ok(repr(potential)))
    path = builtin_path() if source == BUILTIN else Path(source)
    card_path, sample = path.with_suffix(".json"), beside(source, "held-out")
    if sample is None or not card_path.is_file():
        why = "no card with a sample of held-out frames beside this model"
        yield Finding(subject, "errors", not_checked(why))
        return
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        yield Finding(subject, "weights", weights(path, card))
        total = card["errors"]["held_out"]["total"]
        stated = float(total["energy_mae"]), float(total["forces_mae"])
    except (ValueError, KeyError, TypeError) as problem:
        todo = "install the package again, or make model and card again with `surveyor pretrain`"
        yield Finding(subject, "weights", error(f"{card_path.name} is not a whole card: {problem!r}", todo))
        return
    try:
        found = errors(potential, list(read_structures(sample)))
    except SurveyorError as problem:
        yield Finding(subject, "errors", fault(problem))
        return
    yield Finding(subject, "energy error", compared(stated[0], found.energy_mae, "meV/atom"))
    yield Finding(subject, "force error", compared(stated[1], found.force_mae, "meV/Å"))


def weights(path: Path, card: dict[str, Any]) -> Verdict:
    """SHA-256 of the file = SHA-256 on the card."""
    digest = checksum(path)
    if digest != card["sha256"]:
        return error(
            f"{path.name} is not the file of its card: sha256 {digest[:12]}…, not {card['sha256'][:12]}…",
            "install the package again, or make the pair again with `surveyor pretrain`",
        )
    frames = card["data"]["train"]["frames"]
    return ok(f"those of the card: {card['level_of_theory']}, seed {card['seed']}, {frames:,} frames")


def compared(stated: float, measured: float, unit: str) -> Verdict:
    """|MAE here − MAE on the card| ≤ 10 % of the card's, on held-out frames."""
    found = f"{measured:.2f} {unit} on held-out frames, {stated:.2f} on the card"
    if abs(measured - stated) <= TOLERANCE * stated:
        return ok(found)
    return error(
        f"{found}: off by {100 * (measured / stated - 1):+.0f} %",
        "check versions (torch, e3nn, mace-torch) and device; install the package again",
    )
