"""The pictures of a benchmark, as SVG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter

from surveyor.benchmark.curves import Saving
from surveyor.benchmark.summary import Arm
from surveyor.structures.writing import whole_file

_STYLE: Any = {  # matplotlib types the keys one by one
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.hashsalt": "surveyor",
}
_AXES = {"energy": "energy MAE, meV/atom", "force": "force MAE, meV/Å"}


def learning_curves(arms: Mapping[str, Arm], path: Path) -> None:
    """Mean error over seeds against labels, with the spread from the lowest to the highest seed."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        axes = figure.subplots(1, 2)
        for axis, quantity in zip(axes, _AXES, strict=True):
            zero = next(iter(arms.values())).values(f"{quantity}_mae", 0)
            if zero:
                axis.axhline(
                    float(np.mean(zero)), color="0.5", lw=1, ls=":", label="no label but reference energies"
                )
            for number, (name, arm) in enumerate(arms.items()):
                if not arm.values(f"{quantity}_mae", -1):
                    continue
                curves = arm.curves(f"{quantity}_mae")
                color, style = _look(number)
                axis.plot(
                    curves.labels, curves.errors.mean(axis=0), style, color=color, ms=3, lw=1.2, label=name
                )
                axis.fill_between(
                    curves.labels,
                    curves.errors.min(axis=0),
                    curves.errors.max(axis=0),
                    color=color,
                    alpha=0.08,
                    lw=0,
                )
            axis.set(xlabel="labelled structures", ylabel=_AXES[quantity], yscale="log")
            _plain(axis)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
        _save(figure, path)


def labels_to_target(savings: Mapping[str, Mapping[str, Saving]], path: Path) -> None:
    """Labels of each strategy over those of the baseline, against the target error."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        axes = figure.subplots(1, 2)
        for axis, quantity in zip(axes, _AXES, strict=True):
            axis.axhline(1.0, color="0.5", lw=1, ls=":")
            for number, (name, found) in enumerate(savings.get(quantity, {}).items()):
                color, style = _look(number)
                ratio = [n.labels / b.labels for n, b in zip(found.needed, found.baseline, strict=True)]
                axis.plot(found.targets, ratio, style, color=color, ms=3, lw=1.2, label=name)
                missed = [
                    (t, r)
                    for t, r, n in zip(found.targets, ratio, found.needed, strict=True)
                    if not n.reached
                ]
                if missed:
                    axis.plot(*zip(*missed, strict=True), "^", color=color, ms=7, mfc="none")
            axis.set(xlabel=f"target {_AXES[quantity]}", ylabel="labels over the baseline's", xscale="log")
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(3, 1)))
            axis.invert_xaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
        _save(figure, path)


def std_against_error(frames: Mapping[str, Any], maps: Mapping[str, str], path: Path) -> None:
    """One run's last point, frame by frame.

    Args:
        frames: `frames` of a run's record.
        maps: name of the map → its title.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 5.2), layout="constrained")
        grid = figure.subplots(2, len(maps), squeeze=False)
        for column, (name, title) in enumerate(maps.items()):
            std = np.array(frames["std"][name])
            for row, quantity in enumerate(_AXES):
                values = np.array([np.nan if v is None else v for v in frames[quantity]], dtype=np.float64)
                axis = grid[row, column]
                axis.scatter(std, values, s=8, alpha=0.6, linewidths=0, color="#1f5fa8")
                axis.set(xlabel=f"residual std, {title}", ylabel=_AXES[quantity].replace(" MAE", " error"))
        _save(figure, path)


def latent_map(content: Mapping[str, Any], path: Path) -> None:
    """Two principal components of one reaction's frames, for every map."""
    names = list(content["maps"])
    kinds = np.array(content["kinds"])
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(2.1 * len(names), 2.6), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            points = np.array(content["maps"][name]["points"])
            for kind in dict.fromkeys(content["kinds"]):
                axis.scatter(*points[kinds == kind].T, s=7, linewidths=0, alpha=0.7, label=kind)
            axis.set_title(f"{name}\nsilhouette {content['maps'][name]['silhouette']:.2f}", fontsize=7)
            axis.set(xticks=[], yticks=[])
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
        _save(figure, path)


def _look(number: int) -> tuple[Any, str]:
    return mpl.colormaps["tab10"](number % 10), ("o-", "s--", "^:")[number // 10 % 3]


def _plain(axis: Axes) -> None:
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(3, 1)))


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
