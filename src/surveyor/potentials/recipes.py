"""Published settings for fine-tuning, by the kind of potential that one starts from and the mode."""

from __future__ import annotations

from typing import Any, Literal

Recipe = Literal["foundation"]

_CAREFUL = {"learning_rate": 1e-3, "ema_decay": 0.999, "clip_grad": 1.0, "weight_decay": 0.0}

RECIPES: dict[Recipe, dict[str, dict[str, Any]]] = {
    "foundation": {
        "naive": _CAREFUL,
        "frozen": _CAREFUL,
        "lora": {"learning_rate": 1e-2, "ema_decay": 0.99, "clip_grad": 10.0, "weight_decay": 0.0},
        "replay": {**_CAREFUL, "learning_rate": 1e-4, "ema_decay": 0.9999},
    },
}
"""Recipe and mode → what it sets where nothing else is said.

| recipe     | for                                                       | source                            |
|------------|-----------------------------------------------------------|-----------------------------------|
| foundation | large potentials of many elements (mace-mp, -off, -omol)  | arXiv 2606.12704; mace-torch's    |
|            |                                                           | page of fine-tuning guidance      |

Without one, the settings are those that were compared on Surveyor's own potentials of 260,000 parameters.
"""


def is_published(model: str) -> bool:
    """Whether a campaign's `model` names a foundation model of mace-torch: no file, and not the built-in."""
    family, colon, rest = model.partition(":")
    name = rest if colon else model
    return family in ("mace", name) and name != "builtin" and not any(mark in name for mark in "./\\:~")
