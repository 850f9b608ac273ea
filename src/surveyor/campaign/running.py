"""A campaign from where it stands to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from surveyor.campaign.campaign import Campaign
from surveyor.campaign.control import Control
from surveyor.campaign.lock import CampaignLock
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import STATE, RoundRecord, read_campaign
from surveyor.campaign.standing import Standing
from surveyor.labelling.labeller import labeller_of
from surveyor.labelling.manual import LabelsAwaitedError
from surveyor.progress import Progress, Silent
from surveyor.types import Labeller


@dataclass(frozen=True)
class Outcome:
    """How far a campaign came.

    | field   | meaning                                                                      |
    |---------|------------------------------------------------------------------------------|
    | rounds  | the finished rounds                                                          |
    | stopped | why the campaign has ended; None where it waits                              |
    | waiting | what it waits for: labels from elsewhere; None where it has ended            |
    """

    rounds: tuple[RoundRecord, ...]
    stopped: str | None = None
    waiting: LabelsAwaitedError | None = None

    def __repr__(self) -> str:
        why = self.stopped if self.waiting is None else self.waiting.got
        return f"Outcome({len(self.rounds)} rounds: {why})"


def run(
    folder: str | Path,
    plan: Plan,
    labeller: Labeller,
    *,
    control_every: int | None = None,
    progress: Progress | None = None,
    on_begin: Callable[[], None] = lambda: None,
    on_round: Callable[[RoundRecord], None] = lambda _: None,
) -> Outcome:
    """Choose, label, fine-tune and evaluate, round after round; the same call resumes after any interruption.

    Args:
        folder: of the campaign, made if it is not there; nobody else works on it meanwhile.
        control_every: rounds from one comparison with the random control arm to the next; None: no control.
        progress: told where the work stands.
        on_begin: called once the folder is found to be of this plan and this method.
        on_round: called with every round that was finished now.

    Raises:
        CampaignError: another process owns the folder; it belongs to another method or potential, or an input
            holds something else than it did; all labels of a round failed.
        LabellingError: a journal is damaged.
    """
    folder = Path(folder)
    with CampaignLock(folder):
        labeller = _as_begun(folder, labeller)
        campaign = Campaign(folder, plan, labeller.method, progress=Standing(progress or Silent(), folder))
        on_begin()
        control = None if control_every is None else Control(campaign, every=control_every)
        try:
            if control is not None:
                control.catch_up(labeller)
            while campaign.stopped is None:
                if control is not None:
                    control.share()
                on_round(campaign.step(labeller))
                if control is not None:
                    control.catch_up(labeller)
        except LabelsAwaitedError as waiting:
            campaign.progress.finish()
            return Outcome(campaign.rounds, waiting=waiting)
    return Outcome(campaign.rounds, stopped=campaign.stopped)


def _as_begun(folder: Path, labeller: Labeller) -> Labeller:
    """The labeller as the campaign knows it: an earlier version of Surveyor named some methods otherwise."""
    if not (folder / STATE).is_file():
        return labeller
    return labeller_of(str(read_campaign(folder).state["method"]), labeller) or labeller
