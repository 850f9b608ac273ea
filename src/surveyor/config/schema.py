"""What a campaign file may say, with the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from surveyor.campaign.stopping import Stopping
from surveyor.labelling.engines import AnyEngine, LocalEngine
from surveyor.labelling.rules import LabelRules
from surveyor.learner.settings import TangentSettings
from surveyor.potentials.fine_tuning import FineTuningSettings
from surveyor.potentials.recipes import is_published
from surveyor.settings import Settings
from surveyor.training import TrainingProgram


class FeatureConfig(Settings):
    """Which feature map the posterior sees: a name in `surveyor.features.FEATURES`, or `module:Name`.

    `settings` are parameters of that map alone.
    """

    kind: str = "tangent"
    parameters: str = "all"
    dim: PositiveInt = 512
    layers: tuple[int, ...] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


class SelectionConfig(Settings):
    """How a batch is chosen."""

    rule: str = "target-variance"
    batch: PositiveInt = 20
    noise: PositiveFloat = 1e-4


class LabelConfig(LabelRules):
    """Which method labels, and what happens to labels that fail or look suspicious.

    `calculator` is gfn2-xtb, pyscf, command, manual, or the import path of an ASE calculator; only the latter
    takes `charge_key` and `spin_key`.
    """

    calculator: str = "gfn2-xtb"
    settings: dict[str, Any] = Field(default_factory=dict)
    charge_key: str | None = None
    spin_key: str | None = None
    processes: PositiveInt | None = None
    time_limit: PositiveFloat | None = None


class ManualSettings(Settings):
    """Labels from people: in their words, which method they use."""

    method: str = ""


class TrainingConfig(FineTuningSettings):
    """How the potential is fine-tuned in every round: by its family's own trainer, or by a program.

    `command` is a `TrainingProgram`, or only the list of its `command`. A tangent correction is tried after
    each training, and kept where held-out labels gain, unless `correction` is false or quality is quick;
    tangent, or its `TangentSettings`, asks for one whatever the quality.
    """

    start: Literal["pretrained", "continued"] = "pretrained"
    replay: Path | None = None
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    command: TrainingProgram | None = None
    correction: TangentSettings | Literal[False] | None = None

    @field_validator("correction", mode="before")
    @classmethod
    def _correction_by_name(cls, content: Any) -> Any:
        return {} if content in ("tangent", True) else content

    @field_validator("command", mode="before")
    @classmethod
    def _command_alone(cls, content: Any) -> Any:
        return {"command": content} if isinstance(content, list) else content

    @model_validator(mode="after")
    def _nothing_beside_the_command(self) -> TrainingConfig:
        told = FineTuningSettings(threads=self.threads)
        for name in FineTuningSettings.model_fields if self.command is not None else ():
            if getattr(self, name) != getattr(told, name):
                raise ValueError(f"{name} has no effect on training: command: tell the program itself")
        return self

    @model_validator(mode="after")
    def _nothing_to_replay(self) -> TrainingConfig:
        if self.mode != "replay" and self.replay is not None:
            raise ValueError("replay has no effect without mode: replay")
        return self


class ControlConfig(Settings):
    """A control arm beside the campaign: as many labels at random, trained and tested in the same way."""

    rule: Literal["random"] = "random"
    every: PositiveInt = 1

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, content: Any) -> Any:
        return {"rule": content} if isinstance(content, str) else content


class ModelElsewhere(Settings):
    """A potential by family and name, or file; `python` of the environment that opens it; null: this one."""

    family: str
    name: str
    python: Path | None = None


class CampaignConfig(Settings):
    """A campaign file; relative paths start at the folder of the file.

    `model` may be a `ModelElsewhere`, whose parts become `model: family:name` and `python`.
    """

    pool: Path
    start: Path | None = None
    test: Path | None = None
    target: Path | None = None
    forgetting: Path | Literal[False] | None = None
    model: str = "builtin"
    python: Path | None = None
    head: str | None = None
    device: str | None = None
    seed: int = Field(default=0, ge=0)
    features: FeatureConfig = FeatureConfig()
    selection: SelectionConfig = SelectionConfig()
    labels: LabelConfig = LabelConfig()
    engine: AnyEngine = LocalEngine()
    training: TrainingConfig = TrainingConfig()
    stop: Stopping = Stopping()
    control: ControlConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _model_by_parts(cls, content: Any) -> Any:
        if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
            return content
        parts = ModelElsewhere.model_validate(content["model"])
        return {"python": parts.python, **content, "model": f"{parts.family}:{parts.name}"}

    @model_validator(mode="before")
    @classmethod
    def _recipe_of_the_model(cls, content: Any) -> Any:
        """A published foundation model is trained by the published recipe, unless the file says otherwise."""
        if not isinstance(content, dict) or not isinstance(content.get("model"), str):
            return content
        training = content.get("training", {})
        if not isinstance(training, dict) or "command" in training or not is_published(content["model"]):
            return content
        return {**content, "training": {"recipe": "foundation", **training}}

    @model_validator(mode="after")
    def _comparable(self) -> CampaignConfig:
        if self.control is not None and self.test is None:
            raise ValueError("control needs test structures, on which the two arms are compared")
        if self.control is not None and self.control.every > 1 and self.training.start == "continued":
            raise ValueError("control: every must be 1 where training continues from round to round")
        if isinstance(self.engine, LocalEngine) and self.engine.processes and self.labels.processes:
            raise ValueError("processes stands under labels and under engine: say it once")
        return self
