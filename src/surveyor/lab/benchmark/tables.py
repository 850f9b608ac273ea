"""The tables of a benchmark's page."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from surveyor.lab.benchmark.curves import ErrorRatio, Saving, ratio_over_tasks, saving_over_tasks
from surveyor.lab.benchmark.page import Page
from surveyor.lab.benchmark.schema import ReportSpec
from surveyor.lab.benchmark.summary import QUANTITIES, Arm, Results


def labels_saved(page: Page, results: Results, spec: ReportSpec) -> None:
    """Labels saved against the baseline: the headline."""
    page.add(f"## Labels saved against `{spec.baseline}`", "")
    page.add(
        "For every target error that the baseline reaches: one minus the labels needed over the baseline's, "
        f"averaged over {spec.targets} targets; in brackets the 95 % bootstrap interval over seeds. `≤`: a "
        "target was not reached within the labels of the run, so that the true saving is smaller. `–`: the "
        "baseline never gets below its first error. `Mean`: over the other tasks, with its own interval. "
        "`To the best`: the same for the last target alone, the baseline's least error. With three seeds an "
        "interval is little more than the range of three numbers.",
        "",
    )

    def cells(learner: str, tasks: Iterable[str], name: str, quantity: str) -> list[str]:
        found = [results.saving(learner, task, name, spec, quantity) for task in tasks]
        known = [one for one in found if one is not None and one.needed]
        missed = any(not one.needed[-1].reached for one in known)
        best = _percent([one.at_best for one in known], missed)
        return [*(_saving(one) for one in found), _saving(saving_over_tasks(known)), best]

    _against_baseline(page, results, spec, "targets", cells, ("mean", "to the best"))


def error_ratios(page: Page, results: Results, spec: ReportSpec) -> None:
    """Errors over the baseline's at equal labels."""
    page.add(f"## Errors over those of `{spec.baseline}` at equal labels", "")
    page.add(
        "Geometric mean over all points behind the first and over seeds, in brackets the 95 % bootstrap "
        "interval over seeds; 1 is no difference, less is better. Where curves are flat, a small gain in "
        "error saves many labels: this table says how small.",
        "",
    )

    def cells(learner: str, tasks: Iterable[str], name: str, quantity: str) -> list[str]:
        found = [results.error_ratio(learner, task, name, spec, quantity) for task in tasks]
        mean = ratio_over_tasks(one for one in found if one is not None)
        return [*(_ratio(one) for one in found), _ratio(mean)]

    _against_baseline(page, results, spec, "errors", cells, ("mean",))


def _against_baseline(
    page: Page,
    results: Results,
    spec: ReportSpec,
    what: str,
    cells: Callable[[str, Iterable[str], str, str], list[str]],
    more: tuple[str, ...],
) -> None:
    """A table for every learner and quantity: a strategy a row, its tasks and then `more` the columns."""
    for learner, by_task in results.arms.items():
        names = dict.fromkeys(name for arms in by_task.values() for name in arms if name != spec.baseline)
        for quantity in QUANTITIES if names else ():
            page.add(f"**{learner}, {quantity} {what}**", "")
            rows = ([f"`{name}`", *cells(learner, by_task, name, quantity)] for name in names)
            page.table(["strategy", *by_task, *more], rows)


def errors_at_the_end(page: Page, results: Results, task: str) -> None:
    """Errors of every strategy at the last point of a task, learners side by side."""
    learners = [learner for learner, by_task in results.arms.items() if task in by_task]
    names = list(dict.fromkeys(name for learner in learners for name in results.arms[learner][task]))
    columns = ["strategy", *(f"{learner}: labels, {q}" for learner in learners for q in ("energy", "force"))]
    first = results.arms[learners[0]][task]
    zero = next(iter(first.values()))
    rows = [
        [
            "no label but reference energies",
            *([_spread(zero, "energy_mae", 0), _spread(zero, "force_mae", 0)] * len(learners)),
        ]
    ]
    for name in names:
        row = [f"`{name}`"]
        for learner in learners:
            arm = results.arms[learner][task].get(name)
            labels = "" if arm is None else f"{np.mean(arm.values('labels', -1)):.0f}: "
            row += [
                "–" if arm is None else labels + _spread(arm, "energy_mae", -1),
                "–" if arm is None else _spread(arm, "force_mae", -1),
            ]
        rows.append(row)
    page.add("Errors at the end, at equal labels:", "")
    page.table(columns, rows)


def errors_by_kind(page: Page, results: Results, task: str, spec: ReportSpec) -> None:
    """Errors of the baseline and the default at the last point, by kind of frame."""
    for learner, by_task in results.arms.items():
        arms = {
            name: by_task[task][name]
            for name in (spec.baseline, spec.default)
            if name in by_task.get(task, {})
        }
        if len(arms) < 2:
            continue
        kinds = list(next(iter(next(iter(arms.values())).runs.values()))["by_kind"])
        if len(kinds) < 2:
            continue
        rows = []
        for kind in kinds:
            row = [kind]
            for arm in arms.values():
                for quantity in QUANTITIES.values():
                    last = [run["by_kind"][kind][quantity][-1] for run in arm.runs.values()]
                    known = [value for value in last if value is not None]
                    row.append(f"{np.mean(known):.1f}" if known else "–")
            rows.append(row)
        page.add(f"By kind of frame, {learner}, mean over seeds:", "")
        page.table(["kind", *(f"`{name}` {q}" for name in arms for q in QUANTITIES)], rows)


def agreement(page: Page, results: Results) -> None:
    """How far residual std follows true error."""
    page.add("## Residual std against true error", "")
    page.add(
        "At the last point of every run: correlation of a map's residual std with the error of the test "
        "frames (Pearson / Spearman), and the share of errors inside 80 % intervals that were calibrated on "
        "other reactions. Mean over seeds and strategies.",
        "",
    )
    rows = []
    for learner, by_task in results.arms.items():
        for task, arms in by_task.items():
            maps = dict.fromkeys(
                name
                for arm in arms.values()
                for run in arm.runs.values()
                for name in run["points"][-1]["uncertainty"]
            )
            for name in maps:
                row = [f"{learner}, {task}", f"`{name}`"]
                for quantity in QUANTITIES:
                    numbers = [
                        _mean_text(
                            [v for arm in arms.values() for v in arm.agreement(name, f"{kind}_{quantity}")]
                        )
                        for kind in ("pearson", "spearman", "coverage")
                    ]
                    row += [f"{numbers[0]} / {numbers[1]}", numbers[2]]
                rows.append(row)
    columns = ["", "map", "energy, P / S", "energy, coverage", "force, P / S", "force, coverage"]
    page.table(columns, rows)


def cost(page: Page, results: Results) -> None:
    """Processor time of every stage."""
    page.add("## Cost", "")
    page.add(
        "Processor time in core-seconds: features of the whole task (once), choosing a batch, labelling it, "
        "and one training. A committee's other members count as acquisition.",
        "",
    )
    rows = []
    for learner, by_task in results.arms.items():
        for task, arms in by_task.items():
            for name, arm in arms.items():
                stages = ("features", "acquisition", "labelling", "training")
                numbers = [arm.core_seconds(stage) for stage in stages]
                rows.append(
                    [f"{learner}, {task}", f"`{name}`", *("–" if n is None else f"{n:.1f}" for n in numbers)]
                )
    page.table(["", "strategy", "features", "acquisition", "labelling", "training"], rows)


def _saving(found: Saving | None) -> str:
    if found is None or found.mean is None:
        return "–"
    interval = "" if found.low is None else f" [{100 * found.low:.0f}, {100 * (found.high or 0.0):.0f}]"
    return _percent([found.mean], found.is_bound) + interval


def _ratio(found: ErrorRatio | None) -> str:
    if found is None:
        return "–"
    return f"{found.mean:.2f}" + ("" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]")


def _percent(shares: Iterable[float | None], bound: bool) -> str:
    known = [share for share in shares if share is not None]
    return f"{'≤ ' if bound else ''}{100 * np.mean(known):.0f} %" if known else "–"


def _spread(arm: Arm, quantity: str, point: int) -> str:
    values = arm.values(quantity, point)
    if not values:
        return "–"
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _mean_text(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" if values else "–"
