"""What labels are worth: fine-tuning and the tangent correction at equal random labels, and what they cost.

    python benchmarks/learner.py draw benchmarks/tasks.yaml h2-combustion sn2-mp2 --cache CACHE -o DRAWN
    python benchmarks/learner.py learn DRAWN -o benchmarks/results/learner.jsonl --processes 2
    python benchmarks/learner.py table          (of what has been learnt, as it stands in docs/learner.md)
    python benchmarks/learner.py --json         (what a correction costs, and errors at 180 labels)

`draw` writes, for each task, its test frames and, per seed, 500 labelled pool structures in a random order.
`learn` takes the first of them and writes a line for each task, seed, number of labels and learner;
lines that are there are not made again. Without a step, predictions are timed (in pairs, so that both see the
same machine), and the update by one label.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from surveyor.campaign.validation import split_validation
from surveyor.lab.benchmark.scoring import Scores, Truth
from surveyor.learner.choice import choose_correction
from surveyor.learner.potential import TangentPotential, fit_tangent
from surveyor.learner.regression import Regression
from surveyor.learner.settings import TangentSettings
from surveyor.linearised import Rows
from surveyor.potentials import open_potential
from surveyor.potentials.base import Trainable, require
from surveyor.potentials.fine_tuning import FineTuningSettings
from surveyor.potentials.references import shifted_to
from surveyor.structures import read_structures, structure_id
from surveyor.structures.writing import write_structures
from surveyor.training import trainer_for
from surveyor.types import Potential

MODEL = Path(__file__).with_name("potential.model")
RESULTS = Path(__file__).parent / "results" / "learner.jsonl"
CORRECTED = "corrected where it pays"
DRAWN, SEEDS = 500, 3
TRAININGS: dict[str, dict[str, Any]] = {
    "none": {},
    "quick": {"quality": "quick"},
    "standard": {"quality": "standard"},
    "frozen": {"quality": "quick", "mode": "frozen"},
    "lora": {"quality": "quick", "mode": "lora"},
}
COUNTS = (20, 60, 180)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    steps = parser.add_subparsers(dest="step")
    step = steps.add_parser("draw")
    step.add_argument("benchmark", type=Path)
    step.add_argument("tasks", nargs="+")
    step.add_argument("--cache", type=Path, required=True, help="folder of prepared tasks")
    step.add_argument("-o", "--output", type=Path, required=True)
    step = steps.add_parser("learn")
    step.add_argument("drawn", type=Path)
    step.add_argument("-o", "--output", type=Path, required=True)
    step.add_argument("--processes", type=int, default=1)
    step.add_argument("--trained", type=Path, help="folder where trained potentials are kept and found again")
    step.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    step.add_argument("--trainings", nargs="*", default=["quick", "standard"], help=", ".join(TRAININGS))
    steps.add_parser("table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.step == "draw":
        draw(args.benchmark, args.tasks, args.cache, args.output)
    elif args.step == "learn":
        jobs = list(missing(args.drawn, args.output, args.counts, args.trainings))
        run = partial(learn, kept=args.trained)
        with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
            for rows in pool.imap_unordered(run, jobs, chunksize=1):
                with args.output.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
                for row in rows:
                    print({k: v for k, v in row.items() if k != "versions"}, flush=True)
    elif args.step == "table":
        print("\n".join(table()))
    else:
        found = {**cost(), **update(), "tasks": tasks()}
        print(json.dumps(found) if args.json else found)


def draw(benchmark: Path, tasks: list[str], cache: Path, output: Path) -> None:
    """The labels that every learner sees, and the frames that judge it."""
    from surveyor.lab.benchmark import load_benchmark
    from surveyor.lab.benchmark.tasks import prepare, read_task
    from surveyor.structures import with_labels
    from surveyor.types import Labels

    spec = load_benchmark(benchmark)
    for name in tasks:
        prepare(name, spec.tasks[name], cache)
        task = read_task(name, spec.tasks[name], cache)
        folder = output / name
        folder.mkdir(parents=True, exist_ok=True)
        write_structures(folder / "test.extxyz", task.test)
        for seed in range(SEEDS):
            known = []
            for index in np.random.default_rng([seed, 19]).permutation(len(task.pool)):
                label = task.oracle(task.ids["pool"][index], task.pool[index])
                if isinstance(label, Labels):
                    known.append(with_labels(task.pool[index], label))
                if len(known) == DRAWN:
                    break
            write_structures(folder / f"train-{seed}.extxyz", known)
            print(name, seed, len(known), flush=True)


Job = tuple[Path, int, int, str]


def missing(drawn: Path, output: Path, counts: list[int], trainings: list[str]) -> Iterator[Job]:
    """Task folder, seed, number of labels and training, of what has no line yet; seed by seed."""
    lines = output.read_text().splitlines() if output.is_file() else []
    done = {(r["task"], r["seed"], r["labels"], r["training"]) for r in map(json.loads, lines)}
    for seed in range(SEEDS):
        for training in trainings:
            for count in counts:
                for folder in sorted(path for path in drawn.iterdir() if path.is_dir()):
                    if (folder.name, seed, count, training) not in done:
                        yield folder, seed, count, training


def learn(job: Job, kept: Path | None = None) -> list[dict[str, Any]]:
    """Errors of a training, and of what is kept of the correction after it; or of corrections alone."""
    folder, seed, count, training = job
    torch.set_num_threads(1)
    labelled = list(read_structures(folder / f"train-{seed}.extxyz"))[:count]
    test = list(read_structures(folder / "test.extxyz"))
    chosen = {structure_id(atoms): atoms for atoms in labelled}
    train, valid = split_validation(chosen, 0.1, seed)
    pretrained = open_potential(MODEL, "cpu")
    found: list[dict[str, Any]] = []
    begin = core_seconds()

    def note(learner: str, potential: Potential, seconds: float, **more: Any) -> None:
        values = {}
        for part, frames in (("", test), ("valid_", valid)):
            if frames:
                own = Scores.of(potential.predict(frames), Truth.of(frames)).summary()
                values |= {f"{part}energy": own["energy_mae"], f"{part}force": own["force_mae"]}
        found.append(
            {
                "task": folder.name, "seed": seed, "labels": count, "training": training, "learner": learner,
                **{key: None if value is None else float(f"{value:.4g}") for key, value in values.items()},
                "core_seconds": round(seconds, 1), **more,
                "versions": {package: version(package) for package in ("mace-torch", "torch")},
                "machine": platform.processor() or platform.machine(),
            }
        )  # fmt: skip

    if training == "none":
        base: Potential = shifted_to(pretrained, train)
        note("trained", base, core_seconds() - begin)
        for forces in (False, True):
            begin = core_seconds()
            corrected = fit_tangent(pretrained, train, forces=forces)
            note(
                f"tangent, {'energies and forces' if forces else 'energies'}",
                corrected,
                core_seconds() - begin,
            )
        return found
    with tempfile.TemporaryDirectory() as work:
        folder_of = Path(work) if kept is None else kept / f"{folder.name}-{seed}-{count}-{training}"
        base, told = trained(pretrained, train, valid, seed, training, folder_of)
    note("trained", base, told["core_seconds"], updates=told["updates"])
    if TRAININGS[training]["quality"] == "quick":
        return found  # nothing is corrected then, unless it is asked for
    begin = core_seconds()
    choice = choose_correction(base, train, valid, TangentSettings(), pretrained=pretrained)
    held_out = {name: [float(f"{value:.4g}") for value in pair] for name, pair in choice.errors.items()}
    spent = core_seconds() - begin
    note(CORRECTED, choice.potential, spent, chosen=choice.chosen, held_out=held_out)
    return found


def trained(
    pretrained: Potential,
    train: Sequence[Atoms],
    valid: Sequence[Atoms],
    seed: int,
    training: str,
    folder: Path,
) -> tuple[Potential, dict[str, Any]]:
    """The potential after a training, from its folder if it stands there, and what it took."""
    file, about = folder / "trained.model", folder / "trained.json"
    if not about.is_file():
        begin = core_seconds()
        settings = FineTuningSettings(threads=1, **TRAININGS[training])
        trainer = trainer_for(require(pretrained, Trainable, "training"), settings)
        base = trainer(pretrained, train, valid, seed=seed, workdir=folder / "work")
        told = json.loads((folder / "work" / "settings.json").read_text())
        base.save(file)
        updates = told.get("updates_in_all", told["updates"])
        about.write_text(json.dumps({"updates": updates, "core_seconds": core_seconds() - begin}))
    return open_potential(file, "cpu"), json.loads(about.read_text())


Key = tuple[str, int, str, str]


def learnt() -> dict[Key, list[dict[str, Any]]]:
    """Task, labels, training and learner → the committed lines of its seeds."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for row in map(json.loads, RESULTS.read_text().splitlines()):
        found.setdefault((row["task"], row["labels"], row["training"], row["learner"]), []).append(row)
    return found


def table() -> Iterator[str]:
    """Means over seeds with half their range, meV/atom and meV/Å; a line a task and number of labels."""
    yield "| task | labels | training | learner | seeds | energy | forces | core-seconds |"
    yield "|---|---:|---|---|---:|---:|---:|---:|"
    for (task, labels, training, learner), rows in sorted(learnt().items()):
        cells = [f"{mean(values):.3g} ± {spread(values):.2g}" for values in
                 ([row[part] for row in rows] for part in ("energy", "force"))]  # fmt: skip
        spent = mean([row["core_seconds"] for row in rows])
        what = f"{task} | {labels} | {training} | {learner}"
        yield f"| {what} | {len(rows)} | {' | '.join(cells)} | {spent:.0f} |"


def spread(values: list[float]) -> float:
    return (max(values) - min(values)) / 2


def tasks() -> dict[str, Any]:
    """What the default comes to at 180 labels."""
    return {
        task: {
            "energy": round(mean(row["energy"] for row in rows), 2),
            "force": round(mean(row["force"] for row in rows), 1),
            "labels": labels,
            "seeds": len(rows),
        }
        for (task, labels, training, learner), rows in sorted(learnt().items())
        if (labels, training, learner) == (180, "standard", CORRECTED)
    }


def core_seconds() -> float:
    return float(sum(os.times()[:4]))


def cost() -> dict[str, Any]:
    """Energies and forces of three small molecules, corrected over plain: the median of paired calls."""
    plain = open_potential("builtin", "cpu")
    corrected = TangentPotential(plain, blank(2048, len(plain.elements)), TangentSettings())
    atoms = [molecule("C7NH5"), molecule("CH3CH2OCH3"), molecule("C6H6")]
    ratios = []
    for _ in range(15):
        seconds = []
        for potential in (plain, corrected):
            begin = time.perf_counter()
            potential.predict(atoms)
            seconds.append(time.perf_counter() - begin)
        ratios.append(seconds[1] / seconds[0])
    return {"cost_ratio": round(median(ratios[3:]), 3)}


def blank(dim: int, elements: int) -> Regression:
    return Regression.blank(dim, elements, noise=1e-3, energy_weight=10.0)


def update() -> dict[str, Any]:
    """One more label after a thousand, five rows of 2,048 columns each."""
    rng = np.random.default_rng(0)

    def rows(count: int) -> Rows:
        counts = rng.integers(1, 5, (count, 4)).astype(float)
        return Rows(
            energy=rng.standard_normal((count, 2048)),
            energy_residual=rng.standard_normal(count),
            composition=counts / counts.sum(axis=1, keepdims=True),
            forces=rng.standard_normal((4 * count, 2048)),
            force_residual=rng.standard_normal(4 * count),
            owner=np.repeat(np.arange(count), 4),
        )

    known, more = blank(2048, 4).add(rows(1000)), rows(1)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        grown = known.add(more)
        _ = grown.weights, grown.shifts
        seconds.append(time.perf_counter() - begin)
    return {"update_seconds": round(median(seconds), 3)}


if __name__ == "__main__":
    main()
