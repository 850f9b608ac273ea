"""Is a potential as good here as its card says?"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from surveyor.errors import PotentialError
from surveyor.metrics import errors
from surveyor.potentials import open_potential
from surveyor.potentials.opening import BUILTIN, builtin_path
from surveyor.structures import read_structures

TOLERANCE = 0.1
"""Relative; the sample is smaller than the set that the card's figures come from."""


@dataclass(frozen=True)
class Comparison:
    """One figure of the card, measured again."""

    what: str
    unit: str
    card: float
    measured: float

    @property
    def verdict(self) -> str:
        if abs(self.measured - self.card) <= TOLERANCE * self.card:
            return "ok"
        return f"off by {100 * (self.measured / self.card - 1):+.0f} %"


@dataclass(frozen=True)
class Checkup:
    """What a potential is, and how its measured errors compare with its card; no rows without a card."""

    description: str
    rows: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        return all(row.verdict == "ok" for row in self.rows)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        rows = [{**asdict(row), "verdict": row.verdict} for row in self.rows]
        return {"description": self.description, "errors": rows, "ok": self.ok}


def sample_path(model: Path) -> Path:
    """The sample of held-out frames beside a `.model` file."""
    return model.with_name(f"{model.stem}-held-out.extxyz.gz")


def check_potential(source: str) -> Checkup:
    """Open a potential and, where a card and a sample lie beside it, measure its errors on the sample.

    Raises:
        PotentialError: it cannot be opened, or the weights are not those that the card describes.
        StructureError: the sample is damaged.
    """
    potential = open_potential(source)
    path = builtin_path() if source == BUILTIN else Path(source)
    card_path, sample = path.with_suffix(".json"), sample_path(path)
    if not (card_path.is_file() and sample.is_file()):
        return Checkup(repr(potential), ())
    card = json.loads(card_path.read_text(encoding="utf-8"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card["sha256"]:
        raise PotentialError(
            f"{path} is not the file of its card: sha256 {digest[:12]}…, not {card['sha256'][:12]}…",
            expected="weights and card of one training",
            todo="install the package again, or make the pair again with `surveyor pretrain`",
        )
    total = card["errors"]["held_out"]["total"]
    found = errors(potential, list(read_structures(sample)))
    made_from = f"{card['level_of_theory']}, seed {card['seed']}, {card['data']['train']['frames']:,} frames"
    return Checkup(
        f"{potential!r}\n{made_from}",
        (
            Comparison("energy MAE", "meV/atom", total["energy_mae"], found.energy_mae),
            Comparison("force MAE", "meV/Å", total["forces_mae"], found.force_mae),
        ),
    )
