"""What a benchmark file may say, with the defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from surveyor.config import LabelConfig, TrainingConfig
from surveyor.features.activations import Pool
from surveyor.features.probes import Probes
from surveyor.features.scaling import Normalise
from surveyor.lab.benchmark.standard import MAPS, STRATEGIES
from surveyor.settings import Settings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
"""Names become file names."""


class MapSpec(Settings):
    """A feature map. Rows wider than `widest` are projected on the pool's principal components.

    | key           | of the kinds            | meaning                                                    |
    |---------------|-------------------------|------------------------------------------------------------|
    | weights       | all but soap            | pretrained, or random: the same architecture, not trained  |
    | parameters    | tangents                | all, readout, interactions, or a regular expression        |
    | dim           | tangents                | sketch size                                                |
    | seed          | tangents                | of the sketch                                              |
    | normalise     | all but force rows      | none, atoms or cosine                                      |
    | layers, pool  | activations (pool: soap) | message-passing layers; mean, sum or by-element            |
    | probes        | force rows              | directions per structure, or all                             |
    | energy_noise, force_noise | energy-force-tangent | σ_E in eV, σ_F in eV/Å                            |
    """

    kind: str
    weights: Literal["pretrained", "random"] = "pretrained"
    parameters: str = "all"
    dim: PositiveInt = 512
    seed: int = Field(default=0, ge=0)
    normalise: Normalise | None = None
    layers: tuple[int, ...] | None = None
    pool: Pool = "mean"
    probes: Probes = 4
    energy_noise: PositiveFloat = 0.01
    force_noise: PositiveFloat = 0.1
    widest: PositiveInt = 1024


class Shortlist(Settings):
    """Candidates whose prediction by the pretrained potential is among the lowest share of the pool.

    `force`: the largest component; `energy`: per atom, above the lowest of the same composition.
    """

    by: Literal["force", "energy"] = "force"
    share: float = Field(default=0.9, gt=0, le=1)


class StrategySpec(Settings):
    """How labels are chosen: a rule of `surveyor select`, or the committee, on a feature map.

    | key       | meaning                                                                              |
    |-----------|--------------------------------------------------------------------------------------|
    | rule      | random, max-variance, target-variance, lcmd, farthest, top-k, or `committee`         |
    | features  | name of a map; None: the rule needs none                                             |
    | noise     | λ, as a share of the pool's mean squared norm                                        |
    | target    | pool (a sample of it), or task: the task's target geometries                         |
    | shortlist | candidates left after outlier control                                                |
    | refresh   | features of the potential fine-tuned last, instead of the pretrained one             |
    | committee | disagreement on energies or forces, and the number of potentials trained per round   |
    """

    rule: str
    features: str | None = None
    noise: PositiveFloat = 1e-4
    target: Literal["pool", "task"] = "pool"
    shortlist: Shortlist | None = None
    refresh: bool = False
    disagreement: Literal["energies", "forces"] = "forces"
    members: PositiveInt = 4

    @model_validator(mode="after")
    def _refresh_needs_features(self) -> StrategySpec:
        if self.refresh and self.features is None:
            raise ValueError("refresh: true needs features to refresh")
        return self


class TaskSpec(Settings):
    """The files of a task, and how many labels are asked for.

    | key    | meaning                                                                                    |
    |--------|--------------------------------------------------------------------------------------------|
    | pool   | structures to choose from; labelled where `labels` is oracle                               |
    | test   | labelled structures, never trained on; energies alone will do                              |
    | target | unlabelled structures for strategies with `target: task`                                   |
    | latent | structures of one reaction for the map of the latent space; None: some of the pool         |
    | labels | oracle: those in the file of the pool; otherwise a calculator as in a campaign file        |
    | start  | structures labelled before the first round: a file, or a number (drawn from the pool for   |
    |        | each seed)                                                                                 |
    | batch  | labels per round                                                                           |
    | rounds | number of rounds                                                                           |
    | seed   | of what is drawn from the pool                                                             |
    """

    kind: Literal["files"] = "files"
    pool: Path
    test: Path
    target: Path | None = None
    latent: Path | None = None
    labels: Literal["oracle"] | LabelConfig = "oracle"
    start: PositiveInt | Path = 20
    batch: PositiveInt = 40
    rounds: PositiveInt = 5
    seed: int = Field(default=0, ge=0)

    def beside(self, base: Path) -> TaskSpec:
        """The same with absolute paths; relative ones start at `base`."""
        paths = {key: base / value for key, value in self if isinstance(value, Path)}
        return self.model_copy(update=paths)


class LearnerSpec(Settings):
    """What turns labels into predictions, and which part of the grid it runs.

    | key        | learner     | meaning                                                               |
    |------------|-------------|-----------------------------------------------------------------------|
    | kind       |             | linearised or fine-tuning                                             |
    | seeds      |             | seeds 0 … seeds − 1                                                   |
    | strategies |             | names; None: all                                                      |
    | tasks      |             | names; None: all                                                      |
    | training   | fine-tuning | as in a campaign file                                                 |
    | parameters, dim, probes | linearised | of its tangent features; probes: force rows per label      |
    | residual   | linearised  | energy rows per atom, or of the sum over atoms                        |
    | choose     | linearised  | λ by marginal likelihood (`evidence`) or leave-one-structure-out (`loo`) |
    | noise      | linearised  | λ fixed by hand, as a share of the mean squared norm; None: chosen    |
    | forces     | linearised  | whether it learns from forces too                                     |
    """

    kind: Literal["linearised", "fine-tuning"]
    seeds: PositiveInt = 3
    strategies: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    training: TrainingConfig = TrainingConfig(threads=1)
    parameters: str = "all"
    dim: PositiveInt = 1024
    probes: Probes = 8
    residual: Literal["atoms", "sum"] = "atoms"
    choose: Literal["evidence", "loo"] = "loo"
    noise: PositiveFloat | None = None
    forces: bool = True

    @field_validator("training")
    @classmethod
    def _one_thread(cls, training: TrainingConfig) -> TrainingConfig:
        return training if training.threads else training.model_copy(update={"threads": 1})


class ReportSpec(Settings):
    """Which runs the report compares: names of strategies, of a learner and of maps.

    `notes` is Markdown that stands above the figures: what a reader should conclude.
    """

    baseline: str
    default: str
    aimed: str | None = None
    learner: str
    uncertainty: str = "tangent"
    uncertainty_random: str = "tangent-random"
    targets: PositiveInt = 8
    notes: str = ""


class BenchmarkSpec(Settings):
    """A benchmark file; relative paths start at the folder of the file.

    | key         | meaning                                                                            |
    |-------------|------------------------------------------------------------------------------------|
    | model       | builtin, a .model file that you trust, or a MACE model name                        |
    | maps        | named feature maps; the standard ones need not be written                          |
    | strategies  | named strategies; an empty value takes the standard one of that name               |
    | uncertainty | maps whose residual std is compared with the true errors in every run, and that    |
    |             | the latent map shows                                                               |
    """

    model: str = "builtin"
    head: str | None = None
    device: str | None = "cpu"
    tasks: dict[Name, TaskSpec]
    strategies: dict[Name, StrategySpec]
    learners: dict[Name, LearnerSpec]
    maps: dict[Name, MapSpec] = Field(default_factory=dict, validate_default=True)
    uncertainty: tuple[str, ...] = ("tangent", "tangent-random", "activations", "activations-random")
    report: ReportSpec

    @model_validator(mode="before")
    @classmethod
    def _what_to_report(cls, given: Any) -> Any:
        """Unless the file says otherwise: the default rule against random, fine-tuned, where it has them."""
        if not isinstance(given, dict) or not isinstance(given.get("report", {}), dict):
            return given
        strategies, learners = (given.get(key) for key in ("strategies", "learners"))
        if not (isinstance(strategies, dict) and strategies and isinstance(learners, dict) and learners):
            return given
        baseline = _first_of(["random", *strategies], strategies)
        others = ["tangent-pool-target", *(name for name in strategies if name != baseline), baseline]
        chosen = {
            "baseline": baseline,
            "default": _first_of(others, strategies),
            "learner": _first_of(["fine-tuning", *learners], learners),
        }
        return {**given, "report": {**chosen, **given.get("report", {})}}

    @field_validator("maps", mode="before")
    @classmethod
    def _with_standard_maps(cls, given: Any) -> Any:
        return {**MAPS, **given} if isinstance(given, dict) else given

    @field_validator("strategies", mode="before")
    @classmethod
    def _standard_strategies(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: STRATEGIES.get(name, {}) if value is None else value for name, value in given.items()}


def _first_of(wanted: Iterable[str], known: Mapping[str, Any]) -> str:
    return next(name for name in wanted if name in known)


def portable(content: Any) -> Any:
    """The same with the last part of every absolute path only: what a file says that others may read."""
    if isinstance(content, dict):
        return {key: portable(value) for key, value in content.items()}
    if isinstance(content, list):
        return [portable(value) for value in content]
    if isinstance(content, str) and Path(content).is_absolute():
        return Path(content).name
    return content
