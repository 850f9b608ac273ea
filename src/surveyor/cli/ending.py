"""What one has at the end of a campaign, as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surveyor.report.ending import Ending


def ending_lines(end: Ending) -> Iterator[str]:
    """For a person."""
    from surveyor.report.ending import MORE_LABELS

    for asked in end.asked:
        yield f"asked:   {asked}"
    for warning in end.warnings:
        yield f"warning: {warning}"
    if end.forecast:
        errors = " and ".join(
            f"{name.removesuffix('_mae')} MAE about {error:.3g} {unit}"
            for name, (error, unit) in end.forecast.items()
        )
        yield f"ahead:   {MORE_LABELS} more labels: {errors}, if the trend goes on"
    if end.potential is not None:
        yield f"you have {end.potential}, trained on {end.training_set}:"
        yield from (f"    {line}" for line in end.snippet)
