"""Training by programs of one's own, and for as long as it pays; the trainers belong to the families."""

from surveyor.training.command import CommandTrainer, TrainingProgram
from surveyor.training.lengthening import Lengthening, trainer_for

__all__ = ["CommandTrainer", "Lengthening", "TrainingProgram", "trainer_for"]
