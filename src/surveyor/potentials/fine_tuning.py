"""What a trainer is told, whichever family of potentials it is of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from surveyor.potentials.recipes import RECIPES, Recipe
from surveyor.settings import Settings

Quality = Literal["quick", "standard", "best"]

STAGES: dict[Quality, tuple[int, ...]] = {"quick": (1,), "standard": (1, 3), "best": (1, 3, 12)}
"""Lengths of the trainings that a quality allows, in `updates`; each goes on from what came of the last."""


class FineTuningSettings(Settings):
    """How a potential is fine-tuned.

    | field          | meaning                                                                | unit |
    |----------------|------------------------------------------------------------------------|------|
    | quality        | how often it may go on, see `STAGES`: for as long as held-out labels gain |   |
    | recipe         | published settings that stand for what is not said, see `RECIPES`      |      |
    | mode           | naive, frozen (lower parts stay), lora (changes of low rank), replay, or |    |
    |                | none: reference energies alone, for a tangent correction without training |   |
    | freeze         | with frozen, up to which part; by default the interactions             |      |
    | lora_rank      | with lora, rank of the changes                                         |      |
    | updates        | gradient steps of the first training                                   |      |
    | time_limit     | no training is begun that would go beyond it                           | s    |
    | batch_size     | structures a step                                                      |      |
    | learning_rate  | of the first step (Adam); decays exponentially                         |      |
    | decay          | last learning rate as a share of the first                             |      |
    | loss           | mace's name of the loss; replay takes universal alone                  |      |
    | energy_weight  | weight of the energy term of the loss                                  |      |
    | forces_weight  | weight of the force term of the loss                                   |      |
    | ema_decay      | of the exponential moving average of the weights                       |      |
    | weight_decay   | of the linear maps (Adam)                                              |      |
    | clip_grad      | largest norm of the gradient                                           |      |
    | threads        | CPU threads; None takes all cores                                      |      |

    Raises:
        ValueError: a setting that would have no effect.
    """

    quality: Quality = "standard"
    recipe: Recipe | None = None
    mode: Literal["naive", "frozen", "lora", "replay", "none"] = "naive"
    freeze: Literal["embedding", "interactions", "products"] | None = None
    lora_rank: PositiveInt | None = None
    updates: PositiveInt = 1000
    time_limit: PositiveFloat | None = None
    batch_size: PositiveInt = 4
    learning_rate: PositiveFloat = 5e-3
    decay: float = Field(default=0.05, gt=0, le=1)
    loss: Literal["l1l2energyforces", "weighted", "huber", "universal"] = "l1l2energyforces"
    energy_weight: PositiveFloat = 3.0
    forces_weight: PositiveFloat = 1.0
    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    weight_decay: float = Field(default=5e-7, ge=0)
    clip_grad: PositiveFloat = 10.0
    threads: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_mode(cls, content: Any) -> Any:
        of_mode: dict[str, dict[str, Any]] = {
            "replay": {"loss": "universal"},
            "frozen": {"freeze": "interactions"},
            "lora": {"lora_rank": 4, "learning_rate": 1e-2},
        }
        if not isinstance(content, dict):
            return content
        mode = content.get("mode", "naive")
        published = RECIPES.get(content.get("recipe"), {})  # type: ignore[arg-type]
        return {**of_mode.get(mode, {}), **published.get(mode, {}), **content}

    @model_validator(mode="after")
    def _nothing_idle(self) -> FineTuningSettings:
        for name, field in type(self).model_fields.items() if self.mode == "none" else ():
            trains = name in FineTuningSettings.model_fields and name not in ("mode", "recipe", "threads")
            if trains and getattr(self, name) != field.default:
                raise ValueError(f"{name} has no effect with mode: none, which trains nothing")
        if self.mode == "replay" and self.loss != "universal":
            raise ValueError("mode replay trains with the loss universal, whatever loss says")
        if self.mode != "frozen" and self.freeze is not None:
            raise ValueError("freeze has no effect without mode: frozen")
        if self.mode != "lora" and self.lora_rank is not None:
            raise ValueError("lora_rank has no effect without mode: lora")
        return self
