"""Predicted uncertainty against true error on the test structures, round by round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surveyor.calibration import Calibration, assign_folds, fit_calibration
from surveyor.campaign import RoundRecord
from surveyor.errors import SurveyorError
from surveyor.report.chart import Axes, make_axes
from surveyor.report.contents import Contents

MAX_POINTS = 2000
"""Points that are drawn; the fit and the numbers are of all."""


@dataclass(frozen=True, eq=False)
class Trust:
    """One quantity after one round.

    | field       | shape  | meaning                                                              |
    |-------------|--------|----------------------------------------------------------------------|
    | std         | (n,)   | residual standard deviation of every test structure                  |
    | error       | (n,)   | its true absolute error, in `unit`                                   |
    | ids         | (n,)   | ids of the test structures; empty where the campaign has no map      |
    | calibration |        | isotonic fit with intervals; None with too few test structures       |
    | why_not     |        | reason for None                                                      |
    """

    name: str
    unit: str
    std: list[float]
    error: list[float]
    ids: list[str]
    pearson: float | None
    calibration: Calibration | None
    why_not: str | None

    @property
    def shown(self) -> list[int]:
        """Positions of the points that are drawn."""
        n = len(self.std)
        return [i * n // min(n, MAX_POINTS) for i in range(min(n, MAX_POINTS))]

    @property
    def axes(self) -> Axes:
        log_x = min(self.std) > 0 and max(self.std) > 4 * min(self.std)
        label = "predicted std, share of the pool's rms"
        return make_axes(
            self.std, self._heights, label, f"{self.name} error, {self.unit}", log_x=log_x, log_y=True
        )

    @property
    def _heights(self) -> list[float]:
        """Errors without the few that would stretch a logarithmic axis over decades of almost zero."""
        floor = 0.02 * float(np.median(self.error))
        return [max(value, floor) for value in self.error]

    @property
    def curve(self) -> list[float]:
        """Standard deviations at which the expectation is drawn."""
        low, high = min(self.std), max(self.std)
        spaced = np.geomspace(low, high, 60) if low > 0 else np.linspace(low, high, 60)
        return sorted({*spaced.tolist(), low, high} if low < high else {low})


@dataclass(frozen=True)
class GroupErrors:
    """Mean errors of the test structures of one reaction, meV/atom and meV/Å."""

    name: str
    n: int
    energy_mae: float
    force_mae: float


def errors_by_group(contents: Contents) -> list[GroupErrors]:
    """After the last round, worst forces first; empty where the test structures name no reactions."""
    ids, groups = _test_structures(contents)
    last = contents.record.rounds[-1] if contents.record.rounds else None
    if last is None or groups is None or len(last.energy_each) != len(ids):
        return []
    names = np.array(groups)
    found = [
        GroupErrors(
            str(name), int((names == name).sum()),
            float(np.array(last.energy_each)[names == name].mean()),
            float(np.array(last.force_each)[names == name].mean()),
        )
        for name in np.unique(names)
    ]  # fmt: skip
    return sorted(found, key=lambda group: -group.force_mae)


def trust_of_rounds(contents: Contents) -> dict[int, list[Trust]]:
    """Energies and forces of every round that has per-structure test errors."""
    ids, groups = _test_structures(contents)
    return {r.number: _of_round(r, ids, groups) for r in contents.record.rounds if r.std}


def _of_round(record: RoundRecord, ids: list[str], groups: list[str] | None) -> list[Trust]:
    fitting = len(ids) == len(record.std)
    found = []
    for name, unit, errors, pearson in (
        ("energy", "meV/atom", record.energy_each, record.pearson_energy),
        ("force", "meV/Å", record.force_each, record.pearson_force),
    ):
        calibration, why_not = None, None
        try:
            fold = assign_folds(len(record.std), groups=groups if fitting else None)
            calibration = fit_calibration(np.array(record.std), np.array(errors), fold, unit=unit)
        except SurveyorError as error:
            why_not = str(error).splitlines()[0]
        found.append(
            Trust(name, unit, record.std, errors, ids if fitting else [], pearson, calibration, why_not)
        )
    return found


def _test_structures(contents: Contents) -> tuple[list[str], list[str] | None]:
    """Ids in the order of the test set, and their reactions; no ids where not all structures are kept."""
    if contents.map is None or len(contents.map.kept["test"]) != len(contents.map.test):
        return [], None
    frames = contents.map.frames["test"]
    groups = [str(atoms.info.get("reaction", "")) for atoms in frames]
    return [str(atoms.info["surveyor_id"]) for atoms in frames], groups if len(set(groups)) > 1 else None
