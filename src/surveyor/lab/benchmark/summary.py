"""Numbers of a benchmark, from the records of its runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from surveyor.lab.benchmark.curves import Curves, ErrorRatio, Saving, error_ratio, saving, saving_over_tasks
from surveyor.lab.benchmark.schema import ReportSpec

Record = dict[str, Any]
QUANTITIES = {"energy": "energy_mae", "force": "force_mae"}


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs of one strategy by one learner on one task, by seed."""

    runs: Mapping[int, Record]

    def curves(self, quantity: str, seeds: Iterable[int] | None = None) -> Curves:
        """Errors from the first labelled point on; the zero-label point stands apart."""
        chosen = [self.runs[seed] for seed in (self.runs if seeds is None else seeds)]
        length = min(len(run["points"]) for run in chosen)
        points = [run["points"][1:length] for run in chosen]
        return Curves(
            labels=np.mean([[float(point["labels"]) for point in own] for own in points], axis=0),
            errors=np.array([[float(point[quantity]) for point in own] for own in points]),
        )

    def values(self, quantity: str, point: int) -> list[float]:
        """A quantity at a point of the curve, one number per seed; empty where there is none."""
        found = [run["points"][point].get(quantity) for run in self.runs.values()]
        return [float(value) for value in found if value is not None]

    def agreement(self, name: str, quantity: str) -> list[float]:
        """Agreement of a map's std with the errors at the last point, one number per seed."""
        found = [run["points"][-1]["uncertainty"].get(name, {}).get(quantity) for run in self.runs.values()]
        return [float(value) for value in found if value is not None]

    def core_seconds(self, stage: str) -> float | None:
        """Mean processor time of a round's stage, s; of the stage `features`: of the whole task."""
        each = [run["core_seconds"][stage] for run in self.runs.values()]
        flat = [float(value) for own in each for value in (own if isinstance(own, list) else [own])]
        return float(np.mean(flat)) if flat else None


@dataclass(frozen=True, eq=False)
class Results:
    """All finished runs: learner → task → strategy → arm, in the order of the benchmark file."""

    arms: Mapping[str, Mapping[str, Mapping[str, Arm]]]

    @classmethod
    def of(cls, records: Iterable[Record], order: Iterable[str] = ()) -> Results:
        grouped: dict[str, dict[str, dict[str, dict[int, Record]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(dict))
        )
        for record in records:
            grouped[record["learner"]][record["task"]][record["strategy"]][int(record["seed"])] = record
        rank = {name: number for number, name in enumerate(order)}

        def sort(names: Iterable[str]) -> list[str]:
            return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))

        return cls(
            {
                learner: {
                    task: {
                        strategy: Arm(dict(sorted(grouped[learner][task][strategy].items())))
                        for strategy in sort(grouped[learner][task])
                    }
                    for task in sort(grouped[learner])
                }
                for learner in sort(grouped)
            }
        )

    def saving(
        self, learner: str, task: str, strategy: str, spec: ReportSpec, quantity: str
    ) -> Saving | None:
        """Labels saved against the baseline, over the seeds that both have; None without both."""
        pair = self._pair(learner, task, strategy, spec, quantity)
        return None if pair is None else saving(*pair, count=spec.targets)

    def error_ratio(
        self, learner: str, task: str, strategy: str, spec: ReportSpec, quantity: str
    ) -> ErrorRatio | None:
        """Errors over the baseline's at equal labels, over the seeds that both have; None without both."""
        pair = self._pair(learner, task, strategy, spec, quantity)
        return None if pair is None else error_ratio(*pair)

    def _pair(
        self, learner: str, task: str, strategy: str, spec: ReportSpec, quantity: str
    ) -> tuple[Curves, Curves] | None:
        """The strategy's curves and the baseline's, seed by seed."""
        arms = self.arms.get(learner, {}).get(task, {})
        one, two = arms.get(strategy), arms.get(spec.baseline)
        if one is None or two is None:
            return None
        shared = sorted(set(one.runs) & set(two.runs))
        name = QUANTITIES[quantity]
        if not shared or one.runs[shared[0]]["points"][-1].get(name) is None:
            return None
        return one.curves(name, shared), two.curves(name, shared)


def summarise(results: Results, spec: ReportSpec) -> dict[str, Any]:
    """The content of `summary.json`; see `docs/benchmarking.md` for what its keys mean."""
    tasks: dict[str, Any] = {}
    savings: dict[str, list[Saving]] = defaultdict(list)
    for task, arms in results.arms.get(spec.learner, {}).items():
        own = arms.get(spec.default)
        entry: dict[str, Any] = {"seeds": len(own.runs) if own else 0}
        for name, strategy in (("", spec.default), ("_aimed", spec.aimed)):
            for quantity in QUANTITIES:
                found = results.saving(spec.learner, task, strategy, spec, quantity) if strategy else None
                if found:
                    savings[f"{quantity}{name}"].append(found)
                entry[f"reduction_{quantity}{name}"] = found.mean if found else None
                entry[f"reduction_{quantity}{name}_interval"] = [found.low, found.high] if found else None
                entry[f"reduction_{quantity}{name}_is_bound"] = bool(found and found.is_bound)
        for key, chosen in (("", own), ("_on_baseline", arms.get(spec.baseline))):
            for suffix, name in (("", spec.uncertainty), ("_random_weights", spec.uncertainty_random)):
                entry[f"pearson_force{suffix}{key}"] = _mean(
                    chosen.agreement(name, "pearson_force") if chosen else []
                )
                entry[f"pearson_energy{suffix}{key}"] = _mean(
                    chosen.agreement(name, "pearson_energy") if chosen else []
                )
        tasks[task] = entry
    average: dict[str, Any] = {
        "tasks": len(tasks),
        "seeds": min((entry["seeds"] for entry in tasks.values()), default=0),
    }
    scalars = [key for key in next(iter(tasks.values()), {}) if not key.endswith(("_interval", "seeds"))]
    for key in scalars:
        column = [entry[key] for entry in tasks.values()]
        average[key] = (
            any(column) if key.endswith("_is_bound") else _mean([v for v in column if v is not None])
        )
    for name in ("", "_aimed"):
        for quantity in QUANTITIES:
            mean = saving_over_tasks(savings[f"{quantity}{name}"])
            average[f"reduction_{quantity}{name}_interval"] = [mean.low, mean.high] if mean else None
    strategies = {
        learner: {
            task: {
                strategy: {
                    f"{key}_{quantity}": found.mean if found else None
                    for quantity in QUANTITIES
                    for key, measure in (
                        ("reduction", results.saving),
                        ("error_ratio", results.error_ratio),
                    )
                    for found in (measure(learner, task, strategy, spec, quantity),)
                }
                for strategy in arms
            }
            for task, arms in by_task.items()
        }
        for learner, by_task in results.arms.items()
    }
    return {
        "schema": 1,
        "learner": spec.learner,
        "default": spec.default,
        "baseline": spec.baseline,
        "aimed": spec.aimed,
        **{key: average.get(key) for key in SHOWN},
        "seeds": average["seeds"],
        "average": average,
        "tasks": tasks,
        "strategies": strategies,
    }


SHOWN = ("reduction_energy", "reduction_force", "pearson_force", "pearson_force_random_weights")


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
