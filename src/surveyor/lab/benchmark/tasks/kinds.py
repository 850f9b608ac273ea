"""Kinds of tasks that a benchmark file may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surveyor.lab.benchmark.tasks.acetylacetone import AcetylacetoneOptions, acetylacetone
from surveyor.lab.benchmark.tasks.files import FilesOptions, files
from surveyor.lab.benchmark.tasks.frames import Frames
from surveyor.lab.benchmark.tasks.h2 import H2Options, h2_combustion
from surveyor.lab.benchmark.tasks.rdb7 import BiasedOptions, RDB7Options, rdb7_biased, rdb7_paths
from surveyor.lab.benchmark.tasks.sn2 import SN2Options, sn2_mp2
from surveyor.settings import Settings


@dataclass(frozen=True)
class Kind:
    """The options of a kind of task, and what makes its frames from options and seed."""

    options: type[Settings]
    build: Callable[[Any, int], Frames]


KINDS: dict[str, Kind] = {
    "files": Kind(FilesOptions, files),
    "h2-combustion": Kind(H2Options, h2_combustion),
    "rdb7-paths": Kind(RDB7Options, rdb7_paths),
    "rdb7-biased": Kind(BiasedOptions, rdb7_biased),
    "sn2-mp2": Kind(SN2Options, sn2_mp2),
    "acetylacetone": Kind(AcetylacetoneOptions, acetylacetone),
}
