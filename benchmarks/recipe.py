"""Which fine-tuning recipe: errors after training on randomly chosen labels, before any strategy is compared.

    python benchmarks/recipe.py benchmarks/tasks.yaml h2-combustion rdb7-paths --cache CACHE -o recipe.jsonl

170 structures of a task's pool are drawn with a seed that no run of the benchmark has. Recipes are judged by
200 other structures of the pool; the test frames are shown, and chose nothing. One line for each recipe, task
and seed; lines that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from surveyor.campaign.validation import split_validation
from surveyor.lab.benchmark import load_benchmark
from surveyor.lab.benchmark.scoring import Scores, Truth
from surveyor.lab.benchmark.tasks import prepare, read_task
from surveyor.potentials import open_potential
from surveyor.potentials.mace.fine_tuning import FineTuning, FineTuningSettings
from surveyor.structures import with_labels
from surveyor.types import Labels

RECIPES: dict[str, dict[str, Any]] = {
    "energy-1": {"energy_weight": 1.0},
    "energy-10": {"energy_weight": 10.0},
    "energy-40": {"energy_weight": 40.0},
    "slow": {"learning_rate": 1e-3, "energy_weight": 1.0},
    "slow-energy-10": {"learning_rate": 1e-3, "energy_weight": 10.0},
    "middle-energy-10": {"learning_rate": 2e-3, "energy_weight": 10.0},
    "fast-energy-10": {"learning_rate": 1e-2, "energy_weight": 10.0},
    "universal": {"loss": "universal", "energy_weight": 1.0},
    "universal-10-100": {"loss": "universal", "energy_weight": 10.0, "forces_weight": 100.0},
    "weighted-10-100": {"loss": "weighted", "energy_weight": 10.0, "forces_weight": 100.0},
    "weighted-100-100": {"loss": "weighted", "energy_weight": 100.0, "forces_weight": 100.0},
    "energy-3": {"energy_weight": 3.0},
    "fast-energy-3": {"learning_rate": 1e-2, "energy_weight": 3.0},
    "fast-deep-energy-3": {"learning_rate": 1e-2, "energy_weight": 3.0, "decay": 0.01},
    "frozen-embedding-energy-3": {"mode": "frozen", "freeze": "embedding", "energy_weight": 3.0},
    "frozen-energy-3": {"mode": "frozen", "freeze": "interactions", "energy_weight": 3.0},
    "batch-8-energy-3": {"batch_size": 8, "energy_weight": 3.0},
    "batch-2-energy-3": {"batch_size": 2, "energy_weight": 3.0},
    "ema-0.995-energy-3": {"ema_decay": 0.995, "energy_weight": 3.0},
}
CHOSEN, JUDGED, SEED = 170, 200, 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), help=", ".join(RECIPES))
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared tasks")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    spec = load_benchmark(args.benchmark)
    potential = open_potential(spec.model, "cpu")
    for name in args.tasks:
        prepare(name, spec.tasks[name], args.cache)
        task = read_task(name, spec.tasks[name], args.cache)
        for seed in range(SEED, SEED + args.seeds):
            order = np.random.default_rng(seed).permutation(len(task.pool))
            known = {}
            for index in order:
                label = task.oracle(task.ids["pool"][index], task.pool[index])
                if isinstance(label, Labels):
                    known[task.ids["pool"][index]] = with_labels(task.pool[index], label)
                if len(known) == CHOSEN + JUDGED:
                    break
            chosen = dict(list(known.items())[:CHOSEN])
            judged = list(known.values())[CHOSEN:]
            train, valid = split_validation(chosen, 0.1, seed)
            for recipe in args.recipes:
                key = {"task": name, "seed": seed, "recipe": recipe, "updates": args.updates}
                if args.output.is_file() and any(
                    key.items() <= json.loads(line).items() for line in args.output.read_text().splitlines()
                ):
                    continue
                settings = {"updates": args.updates, **RECIPES[recipe]}
                begin = sum(os.times()[:4])
                with tempfile.TemporaryDirectory() as folder:
                    trainer = FineTuning(FineTuningSettings(threads=1, **settings))
                    tuned = trainer(potential, train, valid, seed=seed, workdir=Path(folder) / "work")
                row: dict[str, Any] = {**key, "settings": settings}
                for part, frames in (("pool", judged), ("test", task.test)):
                    summary = Scores.of(tuned.predict(frames), Truth.of(frames)).summary()
                    for name in ("energy_mae", "force_mae"):  # test frames may have energies only
                        value = summary[name]
                        row[f"{part}_{name}"] = None if value is None else float(f"{value:.4g}")
                row["seconds"] = round(sum(os.times()[:4]) - begin, 1)
                row["versions"] = {package: version(package) for package in ("mace-torch", "torch")}
                with args.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print({k: v for k, v in row.items() if k not in ("settings", "versions")}, flush=True)


if __name__ == "__main__":
    main()
