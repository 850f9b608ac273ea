"""The page about a benchmark: Markdown, figures beside it, and `summary.json` in the results folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from surveyor.benchmark import figures
from surveyor.benchmark.curves import Saving
from surveyor.benchmark.grid import RESOLVED, read_runs
from surveyor.benchmark.schema import BenchmarkSpec, ReportSpec
from surveyor.benchmark.summary import QUANTITIES, Arm, Results, summarise
from surveyor.specs import read_yaml, validate
from surveyor.structures.writing import atomic_write


def write_report(folder: Path, output: Path) -> tuple[Path, dict[str, Any]]:
    """Write page, figures and summary of the runs that are finished.

    Returns:
        The page's path and the summary.

    Raises:
        ConfigError: the folder holds no finished run.
        SurveyorError: a file cannot be written.
    """
    records = read_runs(folder)
    spec = validate(BenchmarkSpec, read_yaml(folder / RESOLVED), folder / RESOLVED)
    results = Results.of(records, [*spec.learners, *spec.tasks, *spec.strategies])
    summary = summarise(results, spec.report)
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    atomic_write(folder / "summary.json", lambda file: file.write(text))
    page = _Page(output)
    page.add("# Benchmark results", "")
    if spec.report.notes:
        page.add(spec.report.notes.strip(), "")
    page.add(*_provenance(records))
    _headline(page, results, spec.report)
    for task in dict.fromkeys(task for by_task in results.arms.values() for task in by_task):
        page.add(f"## {task}", "")
        _errors(page, results, task)
        _kinds(page, results, task, spec.report)
        for learner, by_task in results.arms.items():
            if task in by_task:
                _pictures(page, results, learner, task, spec)
        _latent(page, folder / "latent" / f"{task}.json", task)
    _agreement(page, results)
    _cost(page, results)
    lines = "\n".join(page.lines).rstrip() + "\n"
    atomic_write(output, lambda file: file.write(lines))
    return output, summary


class _Page:
    """Lines of Markdown, and the folder of their figures."""

    def __init__(self, output: Path) -> None:
        self.lines: list[str] = []
        self.folder = output.parent / f"{output.stem}-figures"

    def add(self, *lines: str) -> None:
        self.lines.extend(lines)

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        names = list(columns)
        self.add("| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1))
        self.add(*("| " + " | ".join(row) + " |" for row in rows), "")

    def figure(self, name: str, caption: str) -> Path:
        path = self.folder / f"{name}.svg"
        self.add(f"![{caption}]({self.folder.name}/{path.name})", "", f"*{caption}*", "")
        return path


def _provenance(records: list[dict[str, Any]]) -> list[str]:
    last = records[-1]
    versions = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record["learner"], set()).add(int(record["seed"]))
    counted = "; ".join(f"{name}: {len(own)} seeds" for name, own in seeds.items())
    return [
        f"{len(records)} runs ({counted}), from the raw records by `surveyor benchmark report`. "
        f"Potential `{last['potential'][:12]}`; {versions}; "
        f"{last['machine']['processor']}, one thread a run.",
        "",
        "Labels count the structures given at the start. Energies are in meV/atom, forces in meV/Å; errors "
        "are means of absolute errors on frames that no strategy can choose. `±` is the standard deviation "
        "over seeds.",
        "",
    ]


def _headline(page: _Page, results: Results, spec: ReportSpec) -> None:
    page.add(f"## Labels saved against `{spec.baseline}`", "")
    page.add(
        "For every target error that the baseline reaches: one minus the labels needed over the baseline's, "
        f"averaged over {spec.targets} targets; in brackets the 95 % bootstrap interval over seeds. `≤`: a "
        "target was not reached within the labels of the run, so that the true saving is smaller. `To the "
        "best`: the same for the last target alone, the baseline's least error, averaged over tasks.",
        "",
    )
    for learner, by_task in results.arms.items():
        names = list(dict.fromkeys(name for arms in by_task.values() for name in arms))
        for quantity in QUANTITIES:
            rows = []
            for name in names:
                if name == spec.baseline:
                    continue
                found = [results.saving(learner, task, name, spec, quantity) for task in by_task]
                known = [one for one in found if one is not None and one.needed]
                mean = _percent([one.mean for one in known], any(one.is_bound for one in known))
                missed = any(not one.needed[-1].reached for one in known)
                best = _percent([one.at_best for one in known], missed)
                rows.append([f"`{name}`", *(_saving(one) for one in found), mean, best])
            if rows:
                page.add(f"**{learner}, {quantity} targets**", "")
                page.table(["strategy", *by_task, "mean", "to the best"], rows)


def _errors(page: _Page, results: Results, task: str) -> None:
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


def _kinds(page: _Page, results: Results, task: str, spec: ReportSpec) -> None:
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


def _pictures(page: _Page, results: Results, learner: str, task: str, spec: BenchmarkSpec) -> None:
    arms = results.arms[learner][task]
    path = page.figure(
        f"{learner}-{task}-curves", f"{task}, {learner}: learning curves; the band is the range over seeds"
    )
    figures.learning_curves(arms, path)
    savings = {
        quantity: {
            name: found
            for name in arms
            if name != spec.report.baseline
            and (found := results.saving(learner, task, name, spec.report, quantity)) is not None
            and found.mean is not None
        }
        for quantity in QUANTITIES
    }
    if any(savings.values()):
        caption = (
            f"{task}, {learner}: labels to a target over the baseline's; triangles: not reached, a bound"
        )
        figures.labels_to_target(savings, page.figure(f"{learner}-{task}-targets", caption))
    arm = arms.get(spec.report.default) or next(iter(arms.values()))
    frames = next((run["frames"] for run in arm.runs.values() if run["frames"]), None)
    names = {
        name: title
        for name, title in (
            (spec.report.uncertainty, "pretrained"),
            (spec.report.uncertainty_random, "random weights"),
        )
        if frames and name in frames["std"]
    }
    if frames and names:
        caption = f"{task}, {learner}: residual std against true error of every test frame, one seed"
        figures.std_against_error(frames, names, page.figure(f"{learner}-{task}-std", caption))


def _latent(page: _Page, path: Path, task: str) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    if content:
        caption = f"Latent space of the reaction {content['reaction']}, two principal components"
        figures.latent_map(content, page.figure(f"{task}-latent", caption))


def _agreement(page: _Page, results: Results) -> None:
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


def _cost(page: _Page, results: Results) -> None:
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
