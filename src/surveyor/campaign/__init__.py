"""The loop: ask for labels, tell them, train, evaluate; all of it on disk, any of it resumable."""

from surveyor.campaign.campaign import Campaign
from surveyor.campaign.control import Control
from surveyor.campaign.lock import CampaignLock
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import CampaignRecord, RoundRecord, read_campaign
from surveyor.campaign.running import Outcome, run
from surveyor.campaign.stopping import Stopping
from surveyor.labelling.rules import LabelRules

__all__ = [
    "Campaign",
    "CampaignLock",
    "CampaignRecord",
    "Control",
    "LabelRules",
    "Outcome",
    "Plan",
    "RoundRecord",
    "Stopping",
    "read_campaign",
    "run",
]
