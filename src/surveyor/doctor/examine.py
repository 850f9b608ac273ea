"""Model, data files, test set and campaign, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from surveyor.config import CampaignConfig
from surveyor.doctor.campaign import examine_campaign, read_campaign_file
from surveyor.doctor.card import check_card
from surveyor.doctor.checks import examine_file, examine_overlaps
from surveyor.doctor.dataset import Dataset, Role
from surveyor.doctor.findings import Finding, fault
from surveyor.errors import PotentialError, SurveyorError
from surveyor.potentials import open_potential
from surveyor.potentials.opening import BUILTIN
from surveyor.progress import Progress
from surveyor.types import Potential


@dataclass(frozen=True)
class Examination:
    """What is to be examined.

    Args:
        data: files of structures, labelled or not.
        test: labelled structures that errors are measured on.
        campaign: a campaign file, or the folder of a campaign.
        model: None takes the campaign's, or else the built-in potential.
        seed: of the sample that is predicted.
        time_limit: seconds that the calculator gets for one frame.
    """

    data: Sequence[Path] = ()
    test: Path | None = None
    campaign: Path | None = None
    model: str | None = None
    device: str | None = None
    seed: int = 0
    time_limit: float = 60.0


def examine(wanted: Examination, progress: Progress) -> Iterator[Finding]:
    """Every finding, as it is made; what cannot be read or opened is a finding too."""
    config: CampaignConfig | None = None
    folder = Path()
    if wanted.campaign is not None:
        try:
            config, folder = read_campaign_file(wanted.campaign)
        except SurveyorError as problem:
            yield Finding(wanted.campaign.resolve().name, "configuration", fault(problem))
    model = wanted.model or (config.model if config else BUILTIN)
    potential: Potential | None = None
    try:
        potential = open_potential(
            model,
            wanted.device or (config.device if config else None),
            head=config.head if config and model == config.model else None,
        )
    except PotentialError as problem:
        yield Finding(f"model {Path(model).name}", "opens", fault(problem))
    if potential is not None:
        progress.start("measuring the errors on held-out frames")
        yield from check_card(model, potential)
        progress.finish()
    sets: list[Dataset] = []
    for path in wanted.data:
        yield from examine_file(path, Role.DATA, potential, progress, sets, seed=wanted.seed)
    if wanted.test is not None:
        yield from examine_file(wanted.test, Role.TEST, potential, progress, sets, seed=wanted.seed)
    yield from examine_overlaps(sets, progress)
    if config is not None:
        yield from examine_campaign(
            config, folder, potential, progress, seed=wanted.seed, time_limit=wanted.time_limit
        )
