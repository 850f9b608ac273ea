"""What a campaign waits for; reading only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ase import Atoms

from surveyor.campaign.candidates import structures_at
from surveyor.campaign.extension import LABELS, extended_pool, labels_in, read_extensions
from surveyor.campaign.records import CampaignRecord, read_campaign, read_picks, round_folder
from surveyor.errors import CampaignError
from surveyor.structures.identity import structure_id


def waiting(folder: Path, pool: Iterable[Atoms]) -> dict[str, Atoms]:
    """id → structure of the round in progress that has neither a label nor a failure.

    Raises:
        CampaignError: no batch has been chosen, or the pool is another one.
    """
    left = awaited(folder, read_campaign(folder))
    if left is None:
        raise CampaignError(
            f"{folder} has chosen no structures that wait for labels",
            expected="a campaign that stopped to wait for labels",
            todo="surveyor run its campaign file first",
        )
    return structures_at(extended_pool(folder, pool), left)


def awaited(folder: Path, record: CampaignRecord) -> dict[str, int] | None:
    """id → pool index of the same structures; None where the round in progress has chosen none yet."""
    path = round_folder(folder, len(record.rounds)) / "selection.json"
    if not path.is_file():
        return None
    added = (labels_in(folder, entry) for entry in read_extensions(folder) if entry.kind == LABELS)
    given = {structure_id(atoms) for frames in added for atoms in frames.structures}
    settled = {*record.ledger.structures, *record.failures, *given}
    return {name: index for name, index in read_picks(path).items() if name not in settled}
