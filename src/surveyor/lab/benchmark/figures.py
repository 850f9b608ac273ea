"""The pictures of a benchmark, SVG or PNG as the file's name says; the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter, StrMethodFormatter

from surveyor.lab.benchmark.curves import ErrorRatio, Saving, ratio_over_tasks
from surveyor.lab.benchmark.summary import Arm
from surveyor.pictures import STYLE, save_picture

MANY = 20
"""With more curves than this, only those of the report's own strategies have a colour and a name."""
_AXES = {"energy": "energy MAE, meV/atom", "force": "force MAE, meV/Å"}


def learning_curves(arms: Mapping[str, Arm], main: Collection[str], path: Path) -> None:
    """Mean error over seeds against labels, with the spread from the lowest to the highest seed.

    Args:
        main: strategies that keep their colour where there are many.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        axes = figure.subplots(1, 2)
        for axis, quantity in zip(axes, _AXES, strict=True):
            zero = next(iter(arms.values())).values(f"{quantity}_mae", 0)
            if zero:
                axis.axhline(
                    float(np.mean(zero)), color="0.5", lw=1, ls=":", label="no label but reference energies"
                )
            looks = _looks(arms, main)
            for name, arm in arms.items():
                if not arm.values(f"{quantity}_mae", -1):
                    continue
                curves, look = arm.curves(f"{quantity}_mae"), looks[name]
                axis.plot(curves.labels, curves.errors.mean(axis=0), **look)
                if "label" in look:
                    low, high = curves.errors.min(axis=0), curves.errors.max(axis=0)
                    axis.fill_between(curves.labels, low, high, color=look["color"], alpha=0.08, lw=0)
            axis.set(xlabel="labelled structures", ylabel=_AXES[quantity], yscale="log")
            _plain(axis)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
        save_picture(figure, path)


def error_ratios(found: Mapping[str, Mapping[str, Mapping[str, ErrorRatio]]], path: Path) -> None:
    """A row for every strategy: errors over the baseline's at equal labels, task by task and on average.

    Args:
        found: quantity → strategy → task → ratio.
    """
    names = list(dict.fromkeys(name for by_name in found.values() for name in by_name))
    tasks = list(dict.fromkeys(t for by_name in found.values() for own in by_name.values() for t in own))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 1.3 + 0.2 * len(names)), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, quantity in zip(axes, _AXES, strict=True):
            axis.axvline(1.0, color="0.5", lw=1, ls=":")
            for row, name in enumerate(names):
                each = found.get(quantity, {}).get(name, {})
                for task, ratio in each.items():
                    color = mpl.colormaps["tab10"](tasks.index(task) % 10)
                    axis.plot(ratio.mean, row, "o", color=color, ms=4, alpha=0.8, mew=0)
                mean = ratio_over_tasks(each.values())
                if mean is not None:
                    if mean.low is not None and mean.high is not None:
                        axis.plot([mean.low, mean.high], [row, row], "-", color="black", lw=1)
                    axis.plot(mean.mean, row, "D", color="black", ms=4, zorder=3)
            axis.set(xlabel=f"{quantity} error over the baseline's", xscale="log")
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
            axis.tick_params(axis="x", which="minor", labelsize=7)
        axes[0].set_yticks(range(len(names)), names, fontsize=7)
        axes[0].invert_yaxis()
        for number, task in enumerate(tasks):
            axes[0].plot([], [], "o", color=mpl.colormaps["tab10"](number % 10), ms=4, mew=0, label=task)
        axes[0].plot([], [], "D-", color="black", ms=4, lw=1, label="mean, 95 % interval")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
        save_picture(figure, path)


def labels_to_target(savings: Mapping[str, Mapping[str, Saving]], main: Collection[str], path: Path) -> None:
    """Labels of each strategy over those of the baseline, against the target error."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        axes = figure.subplots(1, 2)
        for axis, quantity in zip(axes, _AXES, strict=True):
            axis.axhline(1.0, color="0.5", lw=1, ls=":")
            looks = _looks(savings.get(quantity, {}), main)
            for name, found in savings.get(quantity, {}).items():
                ratio = [n.labels / b.labels for n, b in zip(found.needed, found.baseline, strict=True)]
                axis.plot(found.targets, ratio, **looks[name])
                missed = [
                    (t, r)
                    for t, r, n in zip(found.targets, ratio, found.needed, strict=True)
                    if not n.reached
                ]
                if missed:
                    axis.plot(*zip(*missed, strict=True), "^", color=looks[name]["color"], ms=7, mfc="none")
            axis.set(xlabel=f"target {_AXES[quantity]}", ylabel="labels over the baseline's", xscale="log")
            axis.xaxis.set_major_formatter(ScalarFormatter())
            axis.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(3, 1)))
            axis.invert_xaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
        save_picture(figure, path)


def std_against_error(frames: Mapping[str, Any], maps: Mapping[str, str], path: Path) -> None:
    """One run's last point, frame by frame.

    Args:
        frames: `frames` of a run's record.
        maps: name of the map → its title.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5.2), layout="constrained")
        grid = figure.subplots(2, len(maps), squeeze=False)
        for column, (name, title) in enumerate(maps.items()):
            std = np.array(frames["std"][name])
            for row, quantity in enumerate(_AXES):
                values = np.array([np.nan if v is None else v for v in frames[quantity]], dtype=np.float64)
                axis = grid[row, column]
                axis.scatter(std, values, s=8, alpha=0.6, linewidths=0, color="#1f5fa8")
                axis.set(xlabel=f"residual std, {title}", ylabel=_AXES[quantity].replace(" MAE", " error"))
        save_picture(figure, path)


def latent_map(content: Mapping[str, Any], path: Path) -> None:
    """Two principal components of one reaction's frames, for every map."""
    names = list(content["maps"])
    kinds = np.array(content["kinds"])
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(2.1 * len(names), 2.6), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            points = np.array(content["maps"][name]["points"])
            for kind in dict.fromkeys(content["kinds"]):
                axis.scatter(*points[kinds == kind].T, s=7, linewidths=0, alpha=0.7, label=kind)
            axis.set_title(f"{name}\nsilhouette {content['maps'][name]['silhouette']:.2f}", fontsize=7)
            axis.set(xticks=[], yticks=[])
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
        save_picture(figure, path)


def _looks(names: Collection[str], main: Collection[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of every strategy; grey for all but the main ones where there are many."""
    if len(names) > MANY:
        named = [name for name in names if name in main]
        grey = {"color": "0.75", "ls": "-", "lw": 0.7, "zorder": 1}
        return {name: grey for name in names if name not in named} | _looks(named, main)
    looks = {}
    for number, name in enumerate(names):
        marker, line = (("o", "-"), ("s", "--"), ("^", ":"))[number // 10 % 3]
        color = mpl.colormaps["tab10"](number % 10)
        looks[name] = {"color": color, "marker": marker, "ls": line, "ms": 3, "lw": 1.2, "label": name}
    return looks


def _plain(axis: Axes) -> None:
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(3, 1)))
