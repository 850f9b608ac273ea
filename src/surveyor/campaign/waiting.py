"""What a campaign waits for; reading only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ase import Atoms

from surveyor.campaign.candidates import structures_at
from surveyor.campaign.records import read_campaign, read_json, round_folder
from surveyor.errors import CampaignError
from surveyor.labelling.ledger import Ledger


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
    chosen = {pick["id"]: pick["index"] for pick in read_json(path)["picks"]}
    settled = {*ledger.structures, *ledger.failures}
    return structures_at(pool, {name: index for name, index in chosen.items() if name not in settled})
