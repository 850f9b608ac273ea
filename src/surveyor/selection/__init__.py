"""Rules that pick the structures to label next; one small module a rule."""

from surveyor.selection.clusters import LCMD, lcmd
from surveyor.selection.committee import Committee, committee
from surveyor.selection.distance import FarthestPoint, farthest
from surveyor.selection.maxvariance import BoundedSelection, MaxVariance, max_variance
from surveyor.selection.rule import Rule
from surveyor.selection.shortlist import Shortlist, ShortlistedSelection
from surveyor.selection.targets import TargetVariance, target_variance
from surveyor.selection.topk import TopK, top_k
from surveyor.selection.uniform import Random, random

__all__ = [
    "LCMD",
    "BoundedSelection",
    "Committee",
    "FarthestPoint",
    "MaxVariance",
    "Random",
    "Rule",
    "Shortlist",
    "ShortlistedSelection",
    "TargetVariance",
    "TopK",
    "committee",
    "farthest",
    "lcmd",
    "max_variance",
    "random",
    "target_variance",
    "top_k",
]
