"""Training: through mace-torch's own trainer."""

from surveyor.training.fine_tuning import FineTuning, FineTuningSettings

__all__ = ["FineTuning", "FineTuningSettings"]
