"""Axes of an inline SVG: from data to pixels, with ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.ticker import LogLocator, MaxNLocator


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in pixels."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """Data → pixels, linear or logarithmic.

    Values outside [low, high] are drawn at the border: a logarithmic axis has no place for an error of zero.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(self.start + (value - low) / (high - low) * (self.stop - self.start), 1)

    @property
    def ticks(self) -> list[Tick]:
        """Round numbers within the axis."""
        values = _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)
        return [Tick(self(value), f"{value:.10g}".replace("-", "−")) for value in values]


@dataclass(frozen=True)
class Axes:
    """Two scales, their labels and the size of the drawing."""

    x: Scale
    y: Scale
    x_label: str
    y_label: str
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x.start

    @property
    def right(self) -> float:
        return self.x.stop

    @property
    def top(self) -> float:
        return self.y.stop

    @property
    def bottom(self) -> float:
        return self.y.start

    def line(self, points: Iterable[tuple[float, float]]) -> str:
        """Path through data points."""
        return "M" + "L".join(f"{self.x(x):g},{self.y(y):g}" for x, y in points)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
        """Closed path between two curves."""
        there = list(zip(xs, high, strict=True))
        back = list(zip(xs, low, strict=True))[::-1]
        return self.line([*there, *back]) + "Z"


def make_axes(
    xs: Sequence[float],
    ys: Sequence[float],
    x_label: str,
    y_label: str,
    *,
    width: float = 460,
    height: float = 310,
    log_x: bool = False,
    log_y: bool = False,
) -> Axes:
    """Axes that hold all points with a margin."""
    x = Scale(*_limits(xs, log_x), start=56, stop=width - 14, log=log_x)
    y = Scale(*_limits(ys, log_y), start=height - 44, stop=14, log=log_y)
    return Axes(x, y, x_label, y_label, width, height)


def _limits(values: Sequence[float], log: bool) -> tuple[float, float]:
    if log:
        positive = [value for value in values if value > 0] or [1.0]
        low, high = min(positive), max(positive)
        margin = max((high / low) ** 0.06, 1.15)
        return low / margin, high * margin
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _linear_ticks(low: float, high: float) -> list[float]:
    values = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade; decades alone over a wide range, round numbers over a narrow one."""
    for subs in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        values = [float(v) for v in LogLocator(subs=subs, numticks=50).tick_values(low, high)]
        shown = [value for value in values if low <= value <= high]
        if len(shown) >= 4:
            return shown
    return shown if len(shown) >= 3 else [value for value in _linear_ticks(low, high) if value > 0]
