"""From residual standard deviations to errors in meV/atom and meV/Å, by cross-validation on labels."""

from surveyor.calibration.folds import (
    MIN_FOLDS,
    MIN_STRUCTURES,
    assign_folds,
    held_out,
)
from surveyor.calibration.intervals import Calibration, WithoutFold, fit_calibration
from surveyor.calibration.quantities import Calibrations, KnownErrors, calibrate_both

__all__ = [
    "MIN_FOLDS",
    "MIN_STRUCTURES",
    "Calibration",
    "Calibrations",
    "KnownErrors",
    "WithoutFold",
    "assign_folds",
    "calibrate_both",
    "fit_calibration",
    "held_out",
]
