"""Which rule never loses to random picks? Pools of one system and of many; settings in `rules.yaml`.

    python benchmarks/rules.py import DATA
    python benchmarks/rules.py learn --cache CACHE
    python benchmarks/rules.py fine-tune --cache CACHE --jobs 2
    python benchmarks/rules.py table

`import` writes the files of the tasks to `data/rules`. `learn` and `fine-tune` write a line for each task,
rule, seed and number of labels to `results/rules.jsonl`; lines that are there are not made again. `table`
prints the error of every rule over that of random picks at equal labels, a task a row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from surveyor.lab.benchmark.curves import ErrorRatio

HERE = Path(__file__).parent
SPEC, RECORDS, TASKS = HERE / "rules.yaml", HERE / "results" / "rules.jsonl", HERE / "data" / "rules"
LEARNERS = {"learn": "closed-form", "fine-tune": "fine-tuning"}
BASELINE = "random"
MOST = {"test": (64, 320), "pool": (500, 2500)}
"""Frames and atoms of a part; what is beyond either is left out by a seeded sample."""

Line = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("import")
    step.add_argument("data", type=Path, help="folder of the published files")
    for name in LEARNERS:
        step = steps.add_parser(name)
        step.add_argument("--cache", type=Path, default=HERE / "results" / "rules" / "cache")
        step.add_argument("--tasks", nargs="*")
        step.add_argument("--rules", nargs="*")
        step.add_argument("--seeds", type=int, default=10)
        step.add_argument("--jobs", type=int, help="end after so many runs")
    step = steps.add_parser("table")
    step.add_argument("--learner", default="closed-form")
    args = parser.parse_args()
    if args.step == "import":
        import_tasks(args.data)
    elif args.step == "table":
        print(table(read(RECORDS), args.learner))
    else:
        learn(LEARNERS[args.step], args.cache, args.tasks, args.rules, args.seeds, args.jobs)


def import_tasks(data: Path) -> None:
    """Write pool and test of every task that is not there yet."""
    from importers.frames import sample
    from importers.kinds import MANY_SYSTEMS, ONE_SYSTEM
    from surveyor.structures import write_structures

    def few(members: Sequence[Atoms], most: int) -> Sequence[Atoms]:
        return sample(members, min(most, len(members)), np.random.default_rng(0), "frames")

    TASKS.mkdir(parents=True, exist_ok=True)
    for name, importer in {**ONE_SYSTEM, **MANY_SYSTEMS}.items():
        if not (TASKS / f"{name}.pool.extxyz").is_file():
            frames = importer(data)
            for part, (most, atoms) in MOST.items():
                members = few(getattr(frames, part), most)
                members = few(members, round(atoms / np.mean([len(one) for one in members])))
                write_structures(TASKS / f"{name}.{part}.extxyz", members)
            print(name, len(frames.pool), len(frames.test), flush=True)


def learn(
    learner: str, cache: Path, tasks: list[str] | None, rules: list[str] | None, seeds: int, jobs: int | None
) -> None:
    """Do the runs of a learner that have no lines yet, seed by seed."""
    import torch

    from surveyor.lab.benchmark import load_benchmark
    from surveyor.lab.benchmark.grid import plan
    from surveyor.lab.benchmark.run import run
    from surveyor.lab.benchmark.tasks import prepare

    torch.set_num_threads(1)
    spec = load_benchmark(SPEC)
    done = {(line["learner"], line["task"], line["rule"], line["seed"]) for line in read(RECORDS)}
    todo = [
        name
        for name in plan(spec)
        if name.learner == learner
        and name.task in (tasks or spec.tasks)
        and name.strategy in (rules or spec.strategies)
        and name.seed < seeds
        and (learner, name.task, name.strategy, name.seed) not in done
    ]
    for name in todo[:jobs]:
        begin = time.process_time()
        prepare(name.task, spec.tasks[name.task], cache)
        record = run(name, spec, cache)
        with RECORDS.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines_of(record))
        last = record["points"][-1]
        spent = time.process_time() - begin
        print(
            *(learner, name.task, name.strategy, name.seed, last["energy_mae"], last["force_mae"]),
            f"{spent:.1f} s",
            flush=True,
        )


def lines_of(record: dict[str, Any]) -> Iterable[Line]:
    """A line for every number of labels: errors in meV/atom and meV/Å."""
    for point in record["points"][1:]:
        yield {
            "learner": record["learner"], "task": record["task"], "rule": record["strategy"],
            "seed": record["seed"], "labels": point["labels"],
            "energy": point["energy_mae"], "force": point["force_mae"],
        }  # fmt: skip


def read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def curves(lines: Iterable[Line]) -> dict[tuple[str, str], dict[int, list[Line]]]:
    """(task, rule) → seed → its lines by number of labels."""
    found: dict[tuple[str, str], dict[int, list[Line]]] = {}
    for line in sorted(lines, key=lambda line: int(line["labels"])):
        found.setdefault((line["task"], line["rule"]), {}).setdefault(line["seed"], []).append(line)
    return found


def table(lines: list[Line], learner: str) -> str:
    """Error of every rule over random's at equal labels, energies / forces; a task a row."""
    from importers.kinds import MANY_SYSTEMS, ONE_SYSTEM
    from surveyor.lab.benchmark.curves import ratio_over_tasks

    own = curves(line for line in lines if line["learner"] == learner)
    rules = [rule for rule in dict.fromkeys(rule for _, rule in own) if rule != BASELINE]
    rows = ["| task | seeds | " + " | ".join(rules) + " |", "|---" * (len(rules) + 2) + "|"]
    worst: dict[tuple[str, str], list[float]] = {}
    for title, tasks in (("one system", ONE_SYSTEM), ("many systems", MANY_SYSTEMS)):
        ratios: dict[tuple[str, str], list[ErrorRatio]] = {}
        known = [task for task in tasks if (task, BASELINE) in own]
        for task in known:
            cells = []
            for rule in rules:
                pair = []
                for quantity in ("energy", "force"):
                    ratio = over_random(own, task, rule, quantity)
                    if ratio is not None:
                        ratios.setdefault((rule, quantity), []).append(ratio)
                        worst.setdefault((rule, quantity), []).append(ratio.mean)
                        pair.append(f"{ratio.mean:.2f}")
                cells.append(" / ".join(pair) or "–")
            rows.append(f"| {task} | {len(own[task, BASELINE])} | " + " | ".join(cells) + " |")
        means = []
        for rule in rules:
            both = [ratio_over_tasks(ratios.get((rule, quantity), [])) for quantity in ("energy", "force")]
            means.append(" / ".join("–" if one is None else f"{one.mean:.3f}" for one in both))
        rows.append(f"| **{title}**, mean of {len(known)} | | " + " | ".join(means) + " |")
    largest = [
        " / ".join(f"{max(worst[rule, q]):.2f}" for q in ("energy", "force") if (rule, q) in worst) or "–"
        for rule in rules
    ]
    return "\n".join([*rows, "| **worst task** | | " + " | ".join(largest) + " |"])


def over_random(
    own: dict[tuple[str, str], dict[int, list[Line]]], task: str, rule: str, quantity: str
) -> ErrorRatio | None:
    """Ratio over the seeds that both have finished."""
    from surveyor.lab.benchmark.curves import Curves, error_ratio

    rivals, base = own.get((task, rule), {}), own[task, BASELINE]
    seeds = sorted(set(rivals) & set(base))
    if not seeds:
        return None

    def curve(found: dict[int, list[Line]]) -> Curves:
        return Curves(
            np.array([line["labels"] for line in found[seeds[0]]], dtype=float),
            np.array([[line[quantity] for line in found[seed]] for seed in seeds], dtype=float),
        )

    return error_ratio(curve(rivals), curve(base))


if __name__ == "__main__":
    main()
