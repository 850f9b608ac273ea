"""What a campaign has cost: time by stage and round, cores included where the campaign says how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surveyor.report.contents import Contents

STAGES = ("selection", "labelling", "training", "evaluation")


@dataclass(frozen=True)
class StageCost:
    """One stage over all rounds.

    | field      | meaning                                                                       | unit |
    |------------|-------------------------------------------------------------------------------|------|
    | seconds    | wall time of every round, in their order                                      | s    |
    | cores      | that worked at once; None where the campaign left it to the machine           |      |
    | core_hours | as the campaign counted them, or from both; with unknown cores a lower bound; | h    |
    |            | None for the stages that a campaign which counts leaves out                   |      |
    """

    name: str
    seconds: tuple[float, ...]
    cores: int | None
    core_hours: float | None
    counted: bool

    @property
    def total(self) -> float:
        return sum(self.seconds)

    @property
    def exact(self) -> bool:
        return self.counted or self.core_hours is None or self.cores is not None


@dataclass(frozen=True)
class Costs:
    """All stages."""

    rounds: tuple[int, ...]
    stages: tuple[StageCost, ...]
    paid: int

    @property
    def seconds(self) -> float:
        return sum(stage.total for stage in self.stages)

    @property
    def core_hours(self) -> float:
        return sum(stage.core_hours or 0.0 for stage in self.stages)

    @property
    def exact(self) -> bool:
        return all(stage.exact for stage in self.stages)

    @property
    def labels_per_core_hour(self) -> float | None:
        """Labels that were paid for, over the core-hours of labelling alone."""
        hours = next((stage.core_hours for stage in self.stages if stage.name == "labelling"), None)
        return self.paid / hours if hours and self.paid else None

    def of_round(self, place: int) -> float:
        """Seconds of a round, all stages together."""
        return sum(stage.seconds[place] for stage in self.stages)


def costs_of(contents: Contents) -> Costs:
    """Stages in the order of the loop, then any others."""
    named = {name for metrics in contents.metrics for name in metrics.get("seconds", {})}
    order = [name for name in STAGES if name in named] + sorted(named - {*STAGES})
    counts = any(metrics.get("core_seconds") for metrics in contents.metrics)
    return Costs(
        rounds=tuple(metrics["number"] for metrics in contents.metrics),
        stages=tuple(_stage(name, contents, counts) for name in order),
        paid=len(contents.ledger),
    )


def _stage(name: str, contents: Contents, counts: bool) -> StageCost:
    """As the campaign wrote it down; else wall time times the cores that the configuration names, or one."""
    seconds = tuple(float(metrics.get("seconds", {}).get(name, 0.0)) for metrics in contents.metrics)
    cores = _cores(name, contents.config)
    if not counts:
        return StageCost(name, seconds, cores, sum(seconds) * (cores or 1) / 3600, False)
    spent = [(metrics.get("core_seconds") or {}).get(name) for metrics in contents.metrics]
    known = [float(value) for value in spent if value is not None]
    return StageCost(name, seconds, cores, sum(known) / 3600 if known else None, True)


def _cores(name: str, config: Mapping[str, Any]) -> int | None:
    section, key = {"labelling": ("labels", "processes")}.get(name, ("training", "threads"))
    value = (config.get(section) or {}).get(key)
    return int(value) if isinstance(value, int) else None
