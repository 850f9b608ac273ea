"""What a trainer is told, whichever family of potentials it is of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from surveyor.settings import Settings


class FineTuningSettings(Settings):
    """How a potential is fine-tuned.

    | field          | meaning                                                                | unit |
    |----------------|------------------------------------------------------------------------|------|
    | mode           | naive, frozen (lower parts stay) or replay (of pretraining structures) |      |
    | freeze         | with frozen, up to which part; by default the interactions             |      |
    | updates        | gradient steps, whatever the number of labels                          |      |
    | batch_size     | structures a step                                                      |      |
    | learning_rate  | of the first step (Adam); decays exponentially                         |      |
    | decay          | last learning rate as a share of the first                             |      |
    | loss           | mace's name of the loss; replay takes universal alone                  |      |
    | energy_weight  | weight of the energy term of the loss                                  |      |
    | forces_weight  | weight of the force term of the loss                                   |      |
    | ema_decay      | of the exponential moving average of the weights                       |      |
    | threads        | CPU threads; None takes all cores                                      |      |

    Raises:
        ValueError: a setting that would have no effect.
    """

    mode: Literal["naive", "frozen", "replay"] = "naive"
    freeze: Literal["embedding", "interactions", "products"] | None = None
    updates: PositiveInt = 1000
    batch_size: PositiveInt = 4
    learning_rate: PositiveFloat = 5e-3
    decay: float = Field(default=0.05, gt=0, le=1)
    loss: Literal["l1l2energyforces", "weighted", "huber", "universal"] = "l1l2energyforces"
    energy_weight: PositiveFloat = 3.0
    forces_weight: PositiveFloat = 1.0
    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    threads: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_mode(cls, content: Any) -> Any:
        of_mode = {"replay": {"loss": "universal"}, "frozen": {"freeze": "interactions"}}
        if not isinstance(content, dict) or content.get("mode") not in ("replay", "frozen"):
            return content
        return {**of_mode[content["mode"]], **content}

    @model_validator(mode="after")
    def _nothing_idle(self) -> FineTuningSettings:
        if self.mode == "replay" and self.loss != "universal":
            raise ValueError("mode replay trains with the loss universal, whatever loss says")
        if self.mode != "frozen" and self.freeze is not None:
            raise ValueError("freeze has no effect without mode: frozen")
        return self
