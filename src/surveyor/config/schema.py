"""What a campaign file may say, with the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class Strict(BaseModel):
    """Unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureConfig(Strict):
    """Which representation of the pretrained potential the posterior sees."""

    kind: str = "tangent"
    parameters: str = "all"
    dim: PositiveInt = 512
    layers: tuple[int, ...] | None = None


class SelectionConfig(Strict):
    """How a batch is chosen."""

    rule: str = "target-variance"
    batch: PositiveInt = 20
    noise: PositiveFloat = 1e-4


class LabelConfig(Strict):
    """Which method labels.

    `calculator` is gfn2-xtb, pyscf, command, manual, or the import path of an ASE calculator; only the latter
    takes `charge_key` and `spin_key`.
    """

    calculator: str = "gfn2-xtb"
    settings: dict[str, Any] = Field(default_factory=dict)
    charge_key: str | None = None
    spin_key: str | None = None
    processes: PositiveInt | None = None
    time_limit: PositiveFloat | None = None
    retries: NonNegativeInt = 2
    retry_wait: NonNegativeFloat = 10.0
    minimum: float = Field(default=0.5, ge=0, le=1)
    max_force: PositiveFloat | None = 100.0
    outlier: PositiveFloat | None = 20.0


class LocalEngineConfig(Strict):
    """Worker processes of this machine; `labels: processes` is their number."""

    kind: Literal["local"] = "local"
    cores: PositiveInt = 1


class SlurmEngineConfig(Strict):
    """One Slurm job a label."""

    kind: Literal["slurm"]
    workers: PositiveInt = 20
    cores: PositiveInt = 1
    partition: str | None = None
    account: str | None = None
    hours: PositiveFloat | None = None
    memory: PositiveFloat | None = None
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


class ParslEngineConfig(Strict):
    """Parsl workers on this machine, or in blocks of Slurm jobs."""

    kind: Literal["parsl"]
    workers: PositiveInt = 4
    cores: PositiveInt = 1
    blocks: NonNegativeInt = 0
    partition: str | None = None
    account: str | None = None
    hours: PositiveFloat = 24.0
    setup: tuple[str, ...] = ()


class DaskEngineConfig(Strict):
    """Workers of a dask.distributed cluster."""

    kind: Literal["dask"]
    workers: PositiveInt = 4
    cores: PositiveInt = 1
    scheduler: str | None = None


EngineConfig = Annotated[
    LocalEngineConfig | SlurmEngineConfig | ParslEngineConfig | DaskEngineConfig, Field(discriminator="kind")
]


class ManualSettings(Strict):
    """Labels from people: in their words, which method they use."""

    method: str = ""


class TrainingConfig(Strict):
    """How the potential is fine-tuned in every round."""

    start: Literal["pretrained", "continued"] = "pretrained"
    mode: Literal["naive", "frozen", "replay"] = "naive"
    freeze: Literal["embedding", "interactions", "products"] | None = None
    replay: Path | None = None
    updates: PositiveInt = 1000
    batch_size: PositiveInt = 4
    learning_rate: PositiveFloat = 5e-3
    decay: float = Field(default=0.05, gt=0, le=1)
    loss: Literal["l1l2energyforces", "weighted", "huber", "universal"] = "l1l2energyforces"
    energy_weight: PositiveFloat = 3.0
    forces_weight: PositiveFloat = 1.0
    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    threads: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_mode(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("mode") == "replay":
            return {"loss": "universal", **content}
        if isinstance(content, dict) and content.get("mode") == "frozen":
            return {"freeze": "interactions", **content}
        return content

    @model_validator(mode="after")
    def _nothing_idle(self) -> TrainingConfig:
        if self.mode == "replay" and self.loss != "universal":
            raise ValueError("mode replay trains with the loss universal, whatever loss says")
        if self.mode != "replay" and self.replay is not None:
            raise ValueError("replay has no effect without mode: replay")
        if self.mode != "frozen" and self.freeze is not None:
            raise ValueError("freeze has no effect without mode: frozen")
        return self


class StopConfig(Strict):
    """The first limit that is reached ends the campaign."""

    rounds: PositiveInt | None = 5
    labels: PositiveInt | None = None
    energy_mae: PositiveFloat | None = None
    force_mae: PositiveFloat | None = None
    core_hours: PositiveFloat | None = None
    wall_hours: PositiveFloat | None = None
    min_gain: PositiveFloat | None = None


class ControlConfig(Strict):
    """A control arm beside the campaign: as many labels at random, trained and tested in the same way."""

    rule: Literal["random"] = "random"
    every: PositiveInt = 1

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, content: Any) -> Any:
        return {"rule": content} if isinstance(content, str) else content


class CampaignConfig(Strict):
    """A campaign file; relative paths start at the folder of the file."""

    pool: Path
    start: Path | None = None
    test: Path | None = None
    target: Path | None = None
    forgetting: Path | Literal[False] | None = None
    model: str = "builtin"
    head: str | None = None
    device: str | None = None
    seed: int = Field(default=0, ge=0)
    features: FeatureConfig = FeatureConfig()
    selection: SelectionConfig = SelectionConfig()
    labels: LabelConfig = LabelConfig()
    engine: EngineConfig = LocalEngineConfig()
    training: TrainingConfig = TrainingConfig()
    stop: StopConfig = StopConfig()
    control: ControlConfig | None = None

    @model_validator(mode="after")
    def _comparable(self) -> CampaignConfig:
        if self.control is not None and self.test is None:
            raise ValueError("control needs test structures, on which the two arms are compared")
        if self.control is not None and self.control.every > 1 and self.training.start == "continued":
            raise ValueError("control: every must be 1 where training continues from round to round")
        return self
