"""Training by programs of one's own, and for as long as it pays; the trainers belong to the families."""

from surveyor.training.command import CommandTrainer, TrainingProgram
from surveyor.training.lengthening import Lengthening, trainer_for
from surveyor.training.references import ReferenceFit

__all__ = ["CommandTrainer", "Lengthening", "ReferenceFit", "TrainingProgram", "trainer_for"]
