"""Model, data files, test set and campaign, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def examine(
    progress: Progress,
    *,
    data: Sequence[Path] = (),
    test: Path | None = None,
    campaign: Path | None = None,
    model: str | None = None,
    device: str | None = None,
    python: Path | None = None,
    seed: int = 0,
    time_limit: float = 60.0,
) -> Iterator[Finding]:
    """Every finding, as it is made; what cannot be read or opened is a finding too.

    Args:
        data: files of structures, labelled or not.
        test: labelled structures that errors are measured on.
        campaign: a campaign file, or the folder of a campaign.
        model: None takes the campaign's, or else the built-in potential.
        python: of another environment that opens the model; None takes the campaign's with its model.
        seed: of the sample that is predicted.
        time_limit: seconds that the calculator gets for one frame.
    """
    config: CampaignConfig | None = None
    folder = Path()
    if campaign is not None:
        try:
            config, folder = read_campaign_file(campaign)
        except SurveyorError as problem:
            yield Finding(campaign.resolve().name, "configuration", fault(problem))
    model = model or (config.model if config else BUILTIN)
    potential: Potential | None = None
    try:
        potential = open_potential(
            model,
            device or (config.device if config else None),
            head=config.head if config and model == config.model else None,
            python=python or (config.python if config and model == config.model else None),
        )
    except PotentialError as problem:
        yield Finding(f"model {Path(model).name}", "opens", fault(problem))
    if potential is not None:
        progress.start("measuring the errors on held-out frames")
        yield from check_card(model, potential)
        progress.finish()
    sets: list[Dataset] = []
    for path in data:
        yield from examine_file(path, Role.DATA, potential, progress, sets, seed=seed)
    if test is not None:
        yield from examine_file(test, Role.TEST, potential, progress, sets, seed=seed)
    yield from examine_overlaps(sets, progress)
    if config is not None:
        yield from examine_campaign(config, folder, potential, progress, seed=seed, time_limit=time_limit)
