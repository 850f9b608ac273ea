"""The page about a benchmark: Markdown, figures beside it, and `summary.json` in the results folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from surveyor.lab.benchmark import figures, tables
from surveyor.lab.benchmark.curves import ErrorRatio
from surveyor.lab.benchmark.grid import RESOLVED
from surveyor.lab.benchmark.page import Page
from surveyor.lab.benchmark.records import read_runs
from surveyor.lab.benchmark.schema import BenchmarkSpec
from surveyor.lab.benchmark.summary import QUANTITIES, Results, summarise
from surveyor.specs import read_yaml, validate
from surveyor.structures.writing import atomic_write, write_json


def write_report(folder: Path, output: Path) -> tuple[Path, dict[str, Any]]:
    """Write page, figures and summary of the runs that are finished.

    Returns:
        The page's path and the summary.

    Raises:
        ConfigError: the folder holds no finished run.
        SurveyorError: a record or the archive is damaged, or a file cannot be written.
    """
    records = read_runs(folder)
    spec = validate(BenchmarkSpec, read_yaml(folder / RESOLVED), folder / RESOLVED)
    results = Results.of(records, [*spec.learners, *spec.tasks, *spec.strategies])
    summary = summarise(results, spec.report)
    write_json(folder / "summary.json", summary)
    page = Page(output)
    page.add("# Benchmark results", "")
    if spec.report.notes:
        page.add(spec.report.notes.strip(), "")
    page.add(*_provenance(records))
    tables.labels_saved(page, results, spec.report)
    tables.error_ratios(page, results, spec.report)
    for learner in results.arms:
        _ratios(page, results, learner, spec)
    for task in dict.fromkeys(task for by_task in results.arms.values() for task in by_task):
        page.add(f"## {task}", "")
        tables.errors_at_the_end(page, results, task)
        tables.errors_by_kind(page, results, task, spec.report)
        for learner, by_task in results.arms.items():
            if task in by_task:
                _pictures(page, results, learner, task, spec)
        _latent(page, folder / "latent" / f"{task}.json", task)
    tables.agreement(page, results)
    tables.cost(page, results)
    lines = "\n".join(page.lines).rstrip() + "\n"
    atomic_write(output, lambda file: file.write(lines))
    return output, summary


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


def _ratios(page: Page, results: Results, learner: str, spec: BenchmarkSpec) -> None:
    found: dict[str, dict[str, dict[str, ErrorRatio]]] = {quantity: {} for quantity in QUANTITIES}
    for quantity, by_name in found.items():
        for task, arms in results.arms[learner].items():
            for name in arms:
                ratio = results.error_ratio(learner, task, name, spec.report, quantity)
                if ratio is not None and name != spec.report.baseline:
                    by_name.setdefault(name, {})[task] = ratio
    if any(len(by_name) > 1 for by_name in found.values()):  # a single one stands in the table
        caption = f"{learner}: errors over those of {spec.report.baseline} at equal labels; less is better"
        figures.error_ratios(found, page.figure(f"{learner}-ratios.svg", caption))


def _pictures(page: Page, results: Results, learner: str, task: str, spec: BenchmarkSpec) -> None:
    arms = results.arms[learner][task]
    main = [spec.report.baseline, spec.report.default, spec.report.aimed or spec.report.default]
    path = page.figure(
        f"{learner}-{task}-curves.svg",
        f"{task}, {learner}: learning curves; the band is the range over seeds",
    )
    figures.learning_curves(arms, main, path)
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
        figures.labels_to_target(savings, main, page.figure(f"{learner}-{task}-targets.svg", caption))
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
        figures.std_against_error(frames, names, page.figure(f"{learner}-{task}-std.png", caption))


def _latent(page: Page, path: Path, task: str) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    if content:
        caption = f"Latent space of the reaction {content['reaction']}, two principal components"
        figures.latent_map(content, page.figure(f"{task}-latent.png", caption))
