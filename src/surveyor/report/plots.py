"""The pictures of a report, as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter

from surveyor.campaign import RoundRecord

BLUE, ORANGE = "#1f5fa8", "#c8622b"
_STYLE: Any = {  # matplotlib types the keys one by one
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.hashsalt": "surveyor",
}


def learning_curve(rounds: Sequence[RoundRecord]) -> str | None:
    """Test errors against number of labels; None without test structures."""
    shown = [r for r in rounds if r.energy_mae is not None and r.force_mae is not None]
    if not shown:
        return None
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        labels = [r.labels for r in shown]
        left.plot(labels, [r.energy_mae for r in shown], "o-", color=BLUE)
        left.set(xlabel="labelled structures", ylabel="energy MAE, meV/atom", yscale="log")
        right.plot(labels, [r.force_mae for r in shown], "o-", color=ORANGE)
        right.set(xlabel="labelled structures", ylabel="force MAE, meV/Å", yscale="log")
        for axis in (left, right):
            axis.yaxis.set_major_formatter(ScalarFormatter())
            axis.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(3, 1)))
        return _data_uri(figure)


def uncertainty(record: RoundRecord) -> str | None:
    """Residual standard deviation against the true error of each test structure."""
    if not record.std:
        return None
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axis, errors, unit, correlation, color in (
            (left, record.energy_each, "energy error, meV/atom", record.pearson_energy, BLUE),
            (right, record.force_each, "force error, meV/Å", record.pearson_force, ORANGE),
        ):
            axis.scatter(record.std, errors, s=9, alpha=0.6, color=color, linewidths=0)
            axis.set(xlabel="residual std (share of the pool's rms)", ylabel=unit)
            if correlation is not None:
                axis.set_title(f"Pearson {correlation:.2f}", loc="left", fontsize=9)
        return _data_uri(figure)


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
