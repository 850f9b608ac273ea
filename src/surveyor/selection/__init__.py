"""Rules that pick the structures to label next; a small module for each, and a line of `registry.RULES`."""

from surveyor.selection.arrays import (
    committee,
    farthest,
    herding,
    lcmd,
    max_variance,
    random,
    target_variance,
    top_k,
)
from surveyor.selection.byturns import ByTurns
from surveyor.selection.clusters import LCMD
from surveyor.selection.committee import Committee
from surveyor.selection.distance import FarthestPoint
from surveyor.selection.herding import Herding
from surveyor.selection.maxvariance import MaxVariance
from surveyor.selection.misfit import MisfitVariance
from surveyor.selection.registry import RULES, Given, make_rule, rules_that_take
from surveyor.selection.rule import Fixed, PricedRule, Request, Rule, Score, among, tied
from surveyor.selection.shortlist import Shortlist
from surveyor.selection.targets import TargetVariance
from surveyor.selection.topk import TopK
from surveyor.selection.uniform import Random

__all__ = [
    "LCMD",
    "RULES",
    "ByTurns",
    "Committee",
    "FarthestPoint",
    "Fixed",
    "Given",
    "Herding",
    "MaxVariance",
    "MisfitVariance",
    "PricedRule",
    "Random",
    "Request",
    "Rule",
    "Score",
    "Shortlist",
    "TargetVariance",
    "TopK",
    "among",
    "committee",
    "farthest",
    "herding",
    "lcmd",
    "make_rule",
    "max_variance",
    "random",
    "rules_that_take",
    "target_variance",
    "tied",
    "top_k",
]
