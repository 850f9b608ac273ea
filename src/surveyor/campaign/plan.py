"""The built parts of a campaign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from surveyor.acquisition import Rule
from surveyor.campaign.inputs import Source
from surveyor.campaign.stopping import Stopping
from surveyor.labelling.rules import LabelRules
from surveyor.types import Potential, StorableFeatureMap, Trainer

if TYPE_CHECKING:
    from surveyor.learner.settings import TangentSettings


@dataclass(frozen=True, eq=False)
class Plan:
    """What a campaign works with; objects, no configuration.

    | field            | meaning                                                                        |
    |------------------|--------------------------------------------------------------------------------|
    | potential        | the pretrained potential                                                       |
    | feature_map      | of the pretrained potential, the same in every round                           |
    | rule             | makes the selector                                                             |
    | noise            | λ of the posterior, as a share of the pool's mean squared feature norm         |
    | batch            | picks a round                                                                  |
    | trainer          | fine-tuning                                                                    |
    | correction       | of a tangent correction that is tried after each training; None: none is tried  |
    | pool             | unlabelled structures; iterated once a round                                   |
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
    | training_cores   | cores that training and correction use                                        |
    | valid_fraction   | share of the labelled structures that chooses the best epoch instead of training |
    | device           | on which the potentials of earlier rounds are opened; None: the family's choice |
    | seed             | of everything random                                                           |
    """

    potential: Potential
    feature_map: StorableFeatureMap
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
    correction: TangentSettings | None = None
    device: str | None = None
    seed: int = 0

    def open_potential(self, path: Path) -> Potential:
        """A potential that an earlier round saved, opened by the family of the pretrained one."""
        from surveyor.potentials.opening import open_alike

        return open_alike(self.potential, path, self.device)

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
