"""A campaign folder of any state, written with the campaign's own writers; no potential needed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms

from conftest import emt_labelled, rattled
from surveyor.acquisition import Featurised, Pick
from surveyor.campaign.latent_map import write_map
from surveyor.campaign.records import RoundRecord, round_folder, write_json, write_round
from surveyor.labelling import Ledger
from surveyor.structures import labels_of, structure_id, write_structures
from surveyor.types import Failure, Features

METHOD = "emt"
BATCH = 5


class MadeCampaign:
    """Step by step: state, map, rounds; each call leaves a folder as a campaign at that point leaves it."""

    def __init__(self, folder: Path, *, test: bool = True, start: int = 6, group: str | None = None) -> None:
        self.folder = folder
        self.pool = rattled(60, seed=1)
        self.start = emt_labelled(rattled(start, seed=2))
        self.test = emt_labelled(rattled(24, seed=3)) if test else []
        for atoms in self.test:
            atoms.info["reaction"] = group or atoms.info["reaction"]
        self._rng = np.random.default_rng(0)
        self._paid = self._failed = 0
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "state.json", {"schema": 1, "method": METHOD, "potential": "p"})
        (folder / "config.yaml").write_text(yaml.safe_dump({"stop": {"rounds": 3, "force_mae": 50.0}}))
        self.ledger = Ledger(folder / "labels", METHOD)

    def map(self) -> MadeCampaign:
        parts = [self._featurised(part) for part in (self.pool, self.start, self.test)]
        structures = {"pool": self.pool, "start": self.start, "test": self.test}
        write_map(self.folder, *parts, structures, seed=0)
        return self

    def _featurised(self, structures: list[Atoms]) -> Featurised:
        values = self._rng.normal(size=(len(structures), 8)) * np.geomspace(3, 0.1, 8)
        return Featurised(Features.one_row_each(values), tuple(structure_id(atoms) for atoms in structures))

    def select(self, number: int) -> list[Atoms]:
        """The picks of a round, written as the campaign does."""
        chosen = self.pool[BATCH * (number - 1) : BATCH * number]
        nearest = structure_id(self.start[0]) if self.start else None
        picks = [
            Pick(
                index=BATCH * (number - 1) + rank, id=structure_id(atoms), rank=rank,
                std=0.5 / (rank + number), nearest=nearest,
                similarity=0.9 if nearest else None, removes=0.1 / (rank + 1),
            )
            for rank, atoms in enumerate(chosen)
        ]  # fmt: skip
        folder = round_folder(self.folder, number)
        write_structures(folder / "picks.extxyz", chosen)
        write_json(folder / "selection.json", {"picks": [asdict(p) for p in picks], "stopped": "filled"})
        return chosen

    def label(self, chosen: list[Atoms], reason: str | None = None) -> None:
        """Labels for all of them; with a reason, the last one fails."""
        for atoms in emt_labelled(chosen[:-1] if reason else chosen):
            self.ledger.append(structure_id(atoms), atoms, labels_of(atoms))
            self._paid += 1
        if reason:
            self.ledger.append_failure(structure_id(chosen[-1]), Failure(reason))
            self._failed += 1

    def close(self, number: int, *, stopped: str | None = None, **more: Any) -> None:
        """The metrics of a round; `more` are keys that not every campaign writes."""
        errors: dict[str, Any] = {}
        if self.test:
            n = len(self.test)
            std = self._rng.uniform(0.05, 0.5, n)
            energy, force = (
                scale * std * self._rng.uniform(0.5, 1.5, n) / (1 + number) for scale in (200, 900)
            )
            errors = {
                "energy_mae": float(energy.mean()), "energy_rmse": float(np.sqrt((energy**2).mean())),
                "force_mae": float(force.mean()), "force_rmse": float(np.sqrt((force**2).mean())),
                "pearson_energy": 0.5, "pearson_force": 0.6, "std": std.tolist(),
                "energy_each": energy.tolist(), "force_each": force.tolist(),
            }  # fmt: skip
        seconds = {"selection": 0.5, "labelling": 36.0, "training": 90.0} if number else {"evaluation": 2.0}
        labels = len(self.start) + self._paid
        write_round(
            self.folder,
            RoundRecord(number, labels, self._paid, seconds=seconds, stopped=stopped, **errors),
        )
        if more:
            path = round_folder(self.folder, number) / "metrics.json"
            write_json(path, {**json.loads(path.read_text()), **more})

    def rounds(self, n: int, reason: str | None = None) -> MadeCampaign:
        """Round 0 and n more, the last of which ends the campaign."""
        self.close(0)
        for number in range(1, n + 1):
            self.label(self.select(number), reason)
            self.close(number, stopped=f"all {n} rounds done" if number == n else None)
        return self
