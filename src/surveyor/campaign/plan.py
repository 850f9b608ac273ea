"""The built parts of a campaign."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms

from surveyor.acquisition import Rule
from surveyor.campaign.inputs import Source
from surveyor.campaign.stopping import Stopping
from surveyor.labelling.rules import LabelRules
from surveyor.types import FeatureMap, Potential, Trainer


@dataclass(frozen=True, eq=False)
class Plan:
    """What a campaign works with; objects, no configuration.

    | field            | meaning                                                                        |
    |------------------|--------------------------------------------------------------------------------|
    | potential        | the pretrained potential                                                       |
    | open_potential   | opens a potential that an earlier round saved                                  |
    | shift_references | the potential with reference energies re-fitted to labelled structures         |
    | feature_map      | of the pretrained potential, the same in every round                           |
    | rule             | makes the selector                                                             |
    | noise            | λ of the posterior, as a share of the pool's mean squared feature norm         |
    | batch            | picks a round                                                                  |
    | trainer          | fine-tuning                                                                    |
    | pool             | unlabelled structures; iterated more than once                                 |
    | start            | structures that are labelled already                                           |
    | isolated         | labelled isolated atoms: reference energies, where they cover the elements     |
    | test             | labelled structures that are never trained on                                  |
    | target           | unlabelled structures that the rule aims at, where it does                     |
    | generic          | labelled structures of the pretraining kind, on which forgetting is measured   |
    | replay           | labelled structures of the pretraining kind that are trained on as well        |
    | paths            | pool, start, test, target, forgetting, replay → the file that they came from   |
    | continued        | each round trains on from the potential of the round before                    |
    | stopping         | limits                                                                         |
    | label_rules      | retries, quarantine, and how many labels a round needs                         |
    | training_cores   | cores that training uses, for the accounts                                     |
    | valid_fraction   | share of the labelled structures that chooses the best epoch instead of training |
    | seed             | of everything random                                                           |
    """

    potential: Potential
    open_potential: Callable[[Path], Potential]
    shift_references: Callable[[Potential, Sequence[Atoms]], Potential]
    feature_map: FeatureMap
    rule: Rule
    noise: float
    batch: int
    trainer: Trainer
    pool: Iterable[Atoms]
    start: Sequence[Atoms] = ()
    isolated: Sequence[Atoms] = ()
    test: Sequence[Atoms] = ()
    target: Sequence[Atoms] = ()
    generic: Sequence[Atoms] = ()
    replay: Sequence[Atoms] = ()
    paths: Mapping[str, Path] = field(default_factory=dict)
    continued: bool = False
    stopping: Stopping = field(default_factory=Stopping)
    label_rules: LabelRules = field(default_factory=lambda: LabelRules(retries=0))
    training_cores: int = 1
    valid_fraction: float = 0.1
    seed: int = 0

    @property
    def sources(self) -> dict[str, Source]:
        """What the campaign is given, by role."""
        given: dict[str, Iterable[Atoms]] = {
            "pool": self.pool,
            "start": self.start,
            "isolated atoms": self.isolated,
            "test": self.test,
            "target": self.target,
            "forgetting": self.generic,
            "replay": self.replay,
        }
        paths = {**self.paths, "isolated atoms": self.paths.get("start")}
        return {role: Source(structures, paths.get(role)) for role, structures in given.items()}
