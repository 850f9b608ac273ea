"""The model card: what a pretrained potential was made from, how good it is, and what it is not for."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surveyor.lab.pretraining.molecules import ELEMENTS
from surveyor.lab.pretraining.recipe import Recipe
from surveyor.potentials.opening import checksum
from surveyor.structures import atomic_write

LICENCE = "MIT"
LIMITS = (
    "Made to be cheap and to be fine-tuned: a start for active learning, not a potential for production.",
    "Trained on single molecules and pairs near equilibrium and up to about 1200 K; bonds were stretched to "
    "1.35 and squeezed to 0.45 of their length in small molecules only. Reactions are not covered.",
    "Energies carry the level of theory of the labels, a semi-empirical method.",
    "No charge or spin goes in: an ion is known by its hydrogen count and surroundings only; closed shells. "
    "Energies of ions are relative to data.charge_references (eV), which were taken off before training.",
    "Nothing beyond the cutoff times the number of interactions is seen: no long-range electrostatics.",
    "No periodic systems, no other elements.",
)


def make_card(
    recipe: Recipe,
    model: Path,
    counts: Mapping[str, Any],
    errors: Mapping[str, Any],
    checks: Mapping[str, Any],
    training: Mapping[str, Any],
) -> dict[str, Any]:
    """The card as plain JSON values; files that the recipe names are named without their folders."""
    used = recipe.model_dump(mode="json", exclude={"checks": {"extra_tests"}, "training": {"start"}})
    start = recipe.training.start
    if start is not None:
        used["training"]["start"] = {"file": start.name, "sha256": checksum(start)}
    return {
        "schema": 1,
        "name": recipe.name,
        "family": "MACE",
        "licence": LICENCE,
        "elements": list(ELEMENTS),
        "sha256": checksum(model),
        "level_of_theory": recipe.labelling.method,
        "units": {"energy": "eV", "forces": "eV/Å", "energy errors": "meV/atom", "force errors": "meV/Å"},
        "seed": recipe.seed,
        "command": "surveyor pretrain RECIPE -o FOLDER",
        "recipe": used,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("mace-torch", "torch", "tblite", "rdkit", "ase", "e3nn")
        },
        "data": dict(counts),
        "training": dict(training),
        "errors": dict(errors),
        "checks": dict(checks),
        "limits": list(LIMITS),
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """In place only when it is whole."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    atomic_write(path, lambda file: file.write(f"{text}\n"))


def read_json(path: Path) -> dict[str, Any]:
    """The counterpart of `write_json`."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
