"""How near the picks of a batch lie to each other, from the raw records of a benchmark.

    python benchmarks/spread.py benchmarks/tasks.yaml benchmarks/results/grid h2-combustion --cache CACHE \
        -o benchmarks/results/spread.json

| figure       | meaning, mean over seeds and chosen batches                                                 |
|--------------|---------------------------------------------------------------------------------------------|
| nearest      | median over the batch of the distance to the nearest other pick, in tangent rows whose mean |
|              | squared norm over the pool is 1                                                             |
| one_reaction | share of the batch that comes from its most frequent reaction                               |
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.spatial.distance import pdist, squareform

from surveyor.features import Tangent
from surveyor.features.scaling import unit_mean_square
from surveyor.lab.benchmark import load_benchmark
from surveyor.lab.benchmark.records import read_runs
from surveyor.lab.benchmark.tasks import prepare, read_task
from surveyor.potentials import open_potential


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("task")
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared tasks")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    spec = load_benchmark(args.benchmark)
    prepare(args.task, spec.tasks[args.task], args.cache)
    task = read_task(args.task, spec.tasks[args.task], args.cache)
    potential = open_potential(spec.model, "cpu")
    (scaled,) = unit_mean_square(Tangent(potential)(task.pool))
    rows = scaled.values
    index = {name: i for i, name in enumerate(task.ids["pool"])}
    reactions = [str(atoms.info["reaction"]) for atoms in task.pool]

    arms = defaultdict(list)
    for run in read_runs(args.results):
        if run["task"] == args.task:
            arms[run["learner"], run["strategy"]].append(run)
    table = []
    for (learner, strategy), runs in arms.items():
        nearest, shares = [], []
        for run in runs:
            for batch in run["picks"][1:]:  # the first is drawn at random
                chosen = [index[name] for name in batch]
                distances = squareform(pdist(rows[chosen]))
                np.fill_diagonal(distances, np.inf)
                nearest.append(np.median(distances.min(axis=1)))
                shares.append(max(Counter(reactions[i] for i in chosen).values()) / len(chosen))
        row = {
            "learner": learner,
            "strategy": strategy,
            "batches": len(nearest),
            "nearest": round(float(np.mean(nearest)), 3),
            "one_reaction": round(float(np.mean(shares)), 2),
        }
        table.append(row)
        print(row, flush=True)
    versions = {package: version(package) for package in ("surveyor", "mace-torch", "torch", "numpy")}
    result = {"task": args.task, "potential": potential.fingerprint, "versions": versions, "spread": table}
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
