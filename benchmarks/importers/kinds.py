"""The tasks that rules are compared on: pools of one system, and of many; none larger than 1,300 frames."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from importers.acetylacetone import acetylacetone
from importers.frames import Frames
from importers.h2 import h2_combustion
from importers.rdb7 import Sizes, rdb7_biased, rdb7_family, rdb7_paths, rdb7_reaction
from importers.single import acetylacetone_300k, diels_alder, h2_reaction
from importers.sn2 import sn2_mp2
from importers.thermal import thermal

MANY = Sizes(reactions=120, test_reactions=40, test_frames=4)

ONE_SYSTEM: dict[str, Callable[[Path], Frames]] = {
    "h2-03": partial(h2_reaction, reaction="h2-03"),
    "h2-16": partial(h2_reaction, reaction="h2-16"),
    "h2-17": partial(h2_reaction, reaction="h2-17"),
    "acetylacetone-300K": acetylacetone_300k,
    "diels-alder": diels_alder,
    "rdb7-reaction": rdb7_reaction,
    "ethanol": partial(thermal, name="CH3CH2OH"),
    "acetamide": partial(thermal, name="CH3CONH2"),
    "benzene": partial(thermal, name="C6H6"),
}

MANY_SYSTEMS: dict[str, Callable[[Path], Frames]] = {
    "h2-combustion": partial(h2_combustion, pool=1200, irc=40, held_out=60),
    "rdb7-paths": partial(rdb7_paths, sizes=MANY),
    "sn2-mp2": partial(sn2_mp2, reactions=280, test_reactions=70),
    "acetylacetone": partial(acetylacetone, pool=800, hot=120),
    "rdb7-biased": partial(rdb7_biased, sizes=MANY),
    "rdb7-family": partial(rdb7_family, sizes=MANY),
}
