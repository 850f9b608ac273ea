"""What a campaign waits for; reading only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ase import Atoms

from surveyor.campaign.candidates import structures_at
from surveyor.campaign.extension import LABELS, extended_pool, labels_in, read_extensions
from surveyor.campaign.records import read_campaign, read_picks, round_folder
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger
from surveyor.structures.identity import structure_id


def waiting(folder: Path, pool: Iterable[Atoms]) -> dict[str, Atoms]:
    """id → structure of the round in progress that has neither a label nor a failure.

    Raises:
        CampaignError: no batch has been chosen, or the pool is another one.
    """
    record = read_campaign(folder)
    path = round_folder(folder, len(record.rounds)) / "selection.json"
    if not path.is_file():
        raise CampaignError(
            f"{folder} has chosen no structures that wait for labels",
            expected="a campaign that stopped to wait for labels",
            todo="surveyor run its campaign file first",
        )
    ledger = Ledger(folder / "labels", str(record.state["method"]), read_only=True)
    added = (labels_in(folder, entry) for entry in read_extensions(folder) if entry.kind == LABELS)
    given = {structure_id(atoms) for frames in added for atoms in frames.structures}
    settled = {*ledger.structures, *ledger.failures, *given}
    left = {name: index for name, index in read_picks(path).items() if name not in settled}
    return structures_at(extended_pool(folder, pool), left)
