"""Training by programs of one's own; the trainers of the families belong to the families."""

from surveyor.training.command import CommandTrainer, TrainingProgram

__all__ = ["CommandTrainer", "TrainingProgram"]
