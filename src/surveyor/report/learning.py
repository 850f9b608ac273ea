"""Learning curves: errors against labels, and where the trend leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surveyor.report.chart import Axes, make_axes
from surveyor.report.contents import Contents

MIN_ROUNDS = 3
"""Trained rounds below which no trend is drawn: two points fit any line."""


@dataclass(frozen=True)
class Trend:
    """Power law through the trained rounds, error = a · labels^−b.

    Least squares of log error on log labels; the pretrained potential of round 0 is left out.
    """

    factor: float
    exponent: float

    def __call__(self, labels: float) -> float:
        return float(self.factor * labels**-self.exponent)

    def labels_for(self, error: float) -> float:
        """Labels at which the trend reaches an error."""
        return float((self.factor / error) ** (1 / self.exponent))


def fit_trend(labels: Sequence[int], errors: Sequence[float]) -> Trend | None:
    """The trend; None with fewer than three different numbers of labels, or where errors do not fall."""
    points = [(n, e) for n, e in zip(labels, errors, strict=True) if n > 0 and e > 0]
    if len({n for n, _ in points}) < MIN_ROUNDS:
        return None
    x, y = np.log(np.array(points, dtype=np.float64)).T
    slope, offset = np.polyfit(x, y, 1)
    return Trend(float(np.exp(offset)), float(-slope)) if slope < -1e-6 else None


@dataclass(frozen=True)
class CurvePoint:
    """One round on a learning curve."""

    round: int
    labels: int
    error: float
    control: float | None


@dataclass(frozen=True)
class LearningCurve:
    """Errors of one quantity over the rounds.

    | field  | meaning                                                                   | unit |
    |--------|---------------------------------------------------------------------------|------|
    | points | rounds with test errors; `control` is the arm that labels at random       | unit |
    | trend  | None where no forecast can be made                                        | unit |
    | ahead  | points of the trend from the last round on                                | unit |
    | target | where the campaign stops, as configured                                   | unit |
    """

    name: str
    unit: str
    points: tuple[CurvePoint, ...]
    trend: Trend | None
    ahead: tuple[tuple[float, float], ...]
    target: float | None

    @property
    def controls(self) -> list[tuple[int, float]]:
        return [(p.labels, p.control) for p in self.points if p.control is not None]

    @property
    def axes(self) -> Axes:
        errors = [p.error for p in self.points] + [e for _, e in self.controls] + [e for _, e in self.ahead]
        if self.target is not None and self.target > min(errors) / 10:
            errors.append(self.target)
        labels = [p.labels for p in self.points] + [n for n, _ in self.ahead]
        return make_axes(labels, errors, "labelled structures", f"{self.name} MAE, {self.unit}", log_y=True)


def learning_curves(contents: Contents) -> list[LearningCurve]:
    """Energies and forces; without the quantity that no round has errors of."""
    stop = contents.config.get("stop") or {}
    found = []
    for name, key, unit in (("energy", "energy_mae", "meV/atom"), ("force", "force_mae", "meV/Å")):
        points = tuple(
            CurvePoint(metrics["number"], metrics["labels"], metrics[key], control)
            for metrics in contents.metrics
            if metrics.get(key) is not None
            for control in [(metrics.get("control") or {}).get(key)]
        )
        if not points:
            continue
        trained = [p for p in points if p.round > 0]
        trend = fit_trend([p.labels for p in trained], [p.error for p in trained])
        found.append(LearningCurve(name, unit, points, trend, _ahead(trained, trend), stop.get(key)))
    return found


def _ahead(trained: Sequence[CurvePoint], trend: Trend | None) -> tuple[tuple[float, float], ...]:
    """The trend over as many labels as two more rounds of the mean size bring."""
    if trend is None:
        return ()
    first, last = trained[0].labels, trained[-1].labels
    end = last + 2 * (last - first) / (len(trained) - 1)
    return tuple((float(n), trend(n)) for n in np.linspace(last, end, 13))
