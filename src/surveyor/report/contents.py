"""All that a campaign folder says, read once; a campaign at work may go on writing meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ase import Atoms

from surveyor.campaign import CampaignRecord, read_campaign
from surveyor.campaign.extension import Extension, read_extensions
from surveyor.campaign.latent_map import LatentMap, read_map
from surveyor.campaign.records import read_json, read_picks, round_folder
from surveyor.labelling import Ledger
from surveyor.specs import read_yaml
from surveyor.structures import read_structures, structure_id


@dataclass(frozen=True)
class Pick:
    """One choice of one round, and what became of it: labelled, quarantined, failed or waiting."""

    round: int
    id: str
    index: int
    rank: int
    std: float | None
    removes: float | None
    nearest: str | None
    similarity: float | None
    outcome: str


@dataclass(frozen=True, eq=False)
class Contents:
    """A campaign, its labels, its choices, and its map (None before the first round is done).

    The metrics are those of finished rounds, with keys that not every campaign writes; picks and extensions
    are of the round in progress too; config is empty for campaigns that were started from Python.
    """

    folder: Path
    record: CampaignRecord
    metrics: tuple[Mapping[str, Any], ...]
    ledger: Ledger
    picks: tuple[Pick, ...]
    map: LatentMap | None
    config: Mapping[str, Any]
    config_text: str
    extensions: tuple[Extension, ...] = ()

    @cached_property
    def labelled(self) -> dict[str, Atoms]:
        """Labels that were paid for, by id."""
        return self.ledger.structures

    @cached_property
    def failures(self) -> dict[str, list[str]]:
        """Structures without a label after all attempts: id → reasons."""
        return self.ledger.failures

    @cached_property
    def quarantined(self) -> dict[str, str]:
        """Labels that were paid for and are held back from training: id → reason."""
        return self.ledger.quarantined

    @cached_property
    def chosen(self) -> dict[str, Atoms]:
        """Picked structures that have no label (yet), by id."""
        found: dict[str, Atoms] = {}
        for number in sorted({pick.round for pick in self.picks}):
            path = round_folder(self.folder, number) / "picks.extxyz"
            if path.is_file():
                for atoms in read_structures(path, check=False):
                    found.setdefault(structure_id(atoms), atoms)
        return {name: atoms for name, atoms in found.items() if name not in self.labelled}


def read_contents(folder: Path) -> Contents:
    """Read a campaign folder, finished or not, without owning it.

    Raises:
        CampaignError: it is not a campaign folder, or a file in it is damaged.
        LabellingError: the journal is damaged.
    """
    record = read_campaign(folder)
    ledger = Ledger(folder / "labels", record.state["method"], read_only=True)
    metrics = [read_json(round_folder(folder, r.number) / "metrics.json") for r in record.rounds]
    config = folder / "config.yaml"
    return Contents(
        folder=folder,
        record=record,
        metrics=tuple(metrics),
        ledger=ledger,
        picks=tuple(_picks(folder, len(record.rounds), ledger)),
        map=read_map(folder),
        config=dict(read_yaml(config) or {}) if config.is_file() else {},
        config_text=config.read_text(encoding="utf-8") if config.is_file() else "",
        extensions=read_extensions(folder),
    )


def _picks(folder: Path, in_progress: int, ledger: Ledger) -> list[Pick]:
    found = []
    failures, quarantined = ledger.failures, ledger.quarantined
    for number in range(1, in_progress + 1):
        path = round_folder(folder, number) / "selection.json"
        if not path.is_file():
            continue
        _ = read_picks(path)  # ids and indices are what they should be
        for pick in read_json(path)["picks"]:
            name = pick["id"]
            outcome = "failed" if name in failures else "waiting"
            if name in ledger:
                outcome = "quarantined" if name in quarantined else "labelled"
            found.append(
                Pick(
                    number, name, pick["index"], pick["rank"], pick.get("std"), pick.get("removes"),
                    pick.get("nearest"), pick.get("similarity"), outcome,
                )
            )  # fmt: skip
    return found
