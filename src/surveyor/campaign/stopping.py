"""When a campaign ends."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from surveyor.settings import Settings


class Stopping(Settings):
    """Limits; the first that is reached ends the campaign. None means no limit.

    | field      | reached when                                            | unit     |
    |------------|---------------------------------------------------------|----------|
    | rounds     | this many rounds are done                               |          |
    | labels     | this many labels were paid for, failures not counted    |          |
    | energy_mae | the test energy error is at or below it                 | meV/atom |
    | force_mae  | the test force error is at or below it                  | meV/Å    |
    | core_hours | labelling and training have cost this much              | core h   |
    | wall_hours | the rounds have taken this long, pauses not counted     | h        |
    | min_gain   | the next batch is forecast to lower the pool's residual | % / label |
    |            | std by less than this a label, of what it is now        |          |

    Both target errors must be reached where both are given.
    """

    rounds: PositiveInt | None = 5
    labels: PositiveInt | None = None
    energy_mae: PositiveFloat | None = None
    force_mae: PositiveFloat | None = None
    core_hours: PositiveFloat | None = None
    wall_hours: PositiveFloat | None = None
    min_gain: PositiveFloat | None = None

    def reason(
        self,
        *,
        rounds: int,
        labels: int,
        energy_mae: float | None,
        force_mae: float | None,
        core_hours: float = 0.0,
        wall_hours: float = 0.0,
        gain: float | None = None,
    ) -> str | None:
        """Why to stop now, or None."""
        targets = [
            (self.energy_mae, energy_mae, "energy MAE", "meV/atom"),
            (self.force_mae, force_mae, "force MAE", "meV/Å"),
        ]
        asked = [(limit, value, name, unit) for limit, value, name, unit in targets if limit is not None]
        if asked and all(value is not None and value <= limit for limit, value, _, _ in asked):
            reached = " and ".join(
                f"{name} {value:.1f} ≤ {limit:g} {unit}" for limit, value, name, unit in asked
            )
            return f"target error reached: {reached}"
        if self.labels is not None and labels >= self.labels:
            return f"label budget used: {labels} of {self.labels}"
        if self.core_hours is not None and core_hours >= self.core_hours:
            return f"core-hour budget used: {core_hours:.3g} of {self.core_hours:g}"
        if self.wall_hours is not None and wall_hours >= self.wall_hours:
            return f"wall time used: {wall_hours:.3g} of {self.wall_hours:g} h"
        if self.min_gain is not None and gain is not None and gain < self.min_gain:
            return f"predicted gain {gain:.2g} % per label is below {self.min_gain:g} %"
        if self.rounds is not None and rounds >= self.rounds:
            return f"all {self.rounds} rounds done"
        return None

    def batch(self, size: int, labels: int) -> int:
        """Size of the next batch, cut to the budget."""
        return size if self.labels is None else min(size, self.labels - labels)
