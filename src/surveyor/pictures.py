"""Pictures as files, SVG or PNG as the name says; the same numbers give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surveyor.errors import SurveyorError
from surveyor.structures.writing import check_place, whole_file
from surveyor.types import Float64Array

STYLE: Any = {  # matplotlib types the keys one by one
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.hashsalt": "surveyor",
}
_FORMATS: dict[str, Any] = {  # by them `check_place` knows what Surveyor drew
    ".svg": {"metadata": {"Date": None, "Creator": "Surveyor"}},
    ".png": {"metadata": {"Software": None, "Author": "Surveyor"}, "dpi": 110},
}
MANY = 5000
"""With more points than this, they are pixels in an SVG too."""


def check_picture(path: Path, *, overwrite: bool = False) -> None:
    """As `check_place`, for a picture.

    Raises:
        SurveyorError: no name of a picture, or a place that cannot be written.
    """
    if path.suffix not in _FORMATS:
        raise SurveyorError(f"picture {path.name}", expected="a name that ends in .svg or .png")
    check_place(path, overwrite=overwrite)


def save_picture(figure: Figure, path: Path) -> None:
    """Write it as a whole; see `whole_file`."""
    with whole_file(path) as file:
        figure.savefig(file, format=path.suffix[1:], **_FORMATS[path.suffix])


def parity(quantities: dict[str, tuple[Float64Array, Float64Array]], path: Path) -> None:
    """Predictions against labels, one panel a quantity.

    Args:
        quantities: what it is, with its unit → labels and predictions, (n,) each.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.8 * len(quantities), 3.8), layout="constrained")
        panels = figure.subplots(1, len(quantities), squeeze=False)[0]
        for axis, (what, (labels, predicted)) in zip(panels, quantities.items(), strict=True):
            _panel(axis, what, labels, predicted)
        save_picture(figure, path)


def _panel(axis: Axes, what: str, labels: Float64Array, predicted: Float64Array) -> None:
    axis.axline((float(labels[0]),) * 2, slope=1, color="0.5", lw=1, ls=":")
    axis.scatter(
        labels, predicted, s=8, alpha=0.5, linewidths=0, color="#1f5fa8", rasterized=len(labels) > MANY
    )
    ends = np.array([min(labels.min(), predicted.min()), max(labels.max(), predicted.max())])
    margin = 0.03 * (np.ptp(ends) or 1.0)
    span = (float(ends[0] - margin), float(ends[1] + margin))
    axis.set(xlabel=f"label: {what}", ylabel="prediction", xlim=span, ylim=span, aspect="equal")
    axis.ticklabel_format(useOffset=False)
