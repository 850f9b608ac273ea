"""Coverage of calibrated 80 % intervals on hydrogen combustion (ωB97X-V labels), split by kind of trajectory.

    python benchmarks/calibration.py --json

There are 5 kinds: a reaction, and how its frames were made (dynamics or normal modes). For every seed so many
frames of each kind are drawn. A part of them is held out: posterior, linearised learner, expected errors and
intervals come from the rest, and the errors of the part are counted inside. Every part is held out once.
Reference energies, a number an element, are fitted to all frames beforehand: one kind alone has another
composition.

| split   | a part is                                                              |
|---------|------------------------------------------------------------------------|
| kind    | one kind: no structure like it is labelled                             |
| stretch | a fifth of the stretches of 100 neighbouring frames of a trajectory    |

| measure     | meaning                                                                           |
|-------------|-----------------------------------------------------------------------------------|
| coverage    | share of held-out errors inside the intervals: mean, standard deviation, least and |
|             | most over the seeds                                                               |
| by_kind     | the same of each kind, mean over the seeds                                        |
| correlation | rank correlation of std and |error| over all held-out structures, mean over seeds |
| error       | mean held-out |error|, meV/atom or meV/Å                                          |
| simple      | coverage of a simpler method: the quantile of all scores times e(s), with s from  |
|             | all labels; mean over the seeds                                                   |
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from ase.io import read
from scipy.stats import spearmanr

from surveyor.calibration import (
    KnownErrors,
    assign_folds,
    calibrate_both,
    fit_calibration,
    held_out,
)
from surveyor.features import Tangent, unit_mean_square
from surveyor.metrics import residuals
from surveyor.potentials import open_potential
from surveyor.potentials.references import refit_reference_energies
from surveyor.types import Features

DATA = Path(__file__).parents[2] / "shared" / "data" / "h2-combustion-pool.extxyz"
RESULTS = Path(__file__).parent / "results" / "calibration.json"
LEVEL = 0.8
NOISE = 1e-4
STRETCH = 100
LOADED = 1000
"""Frames of every kind that the seeds draw from, evenly spaced."""


@dataclass(frozen=True)
class Frames:
    """Frames with their errors: energies in meV/atom (label minus prediction), forces in meV/Å."""

    kind: np.ndarray
    stretch: np.ndarray
    features: Features
    energy: np.ndarray
    forces: np.ndarray


def load(model: str, data: Path) -> Frames:
    every = read(data, ":")
    kinds = np.array([f"{atoms.info['config_type']} {atoms.info['reaction']}" for atoms in every])
    taken = [np.flatnonzero(kinds == name) for name in np.unique(kinds)]
    kept = np.concatenate([own[np.linspace(0, len(own) - 1, LOADED).astype(int)] for own in taken])
    structures, kind = [every[i] for i in kept], kinds[kept]
    number = [int(atoms.info["frame"]) // STRETCH for atoms in structures]
    potential = open_potential(model, "cpu")
    features = Tangent(potential, dim=512, normalise="atoms")(structures)
    shifted = potential.with_reference_shifts(refit_reference_energies(potential, structures))
    energy, forces = residuals(shifted, structures)
    return Frames(
        kind,
        np.array([f"{name} {n}" for name, n in zip(kind, number, strict=True)]),
        features,
        1e3 * energy,
        1e3 * np.array([np.abs(difference).mean() for difference in forces]),
    )


def simple_coverage(std: np.ndarray, errors: np.ndarray, fold: np.ndarray) -> float:
    """Coverage of quantile × e(s); std and errors (folds, n) as `held_out` gives them."""
    inside = np.zeros(len(fold), dtype=bool)
    for number in np.unique(fold):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        labels = np.unique(fold[others], return_inverse=True)[1]
        fitted = fit_calibration(std[number, others], errors[number, others], labels)
        scores = np.sort(np.concatenate([part.scores for part in fitted.folds]))
        quantile = scores[int(np.ceil((len(scores) + 1) * LEVEL)) - 1]
        inside[own] = errors[number, own] <= quantile * fitted.expected(std[number, own])
    return float(inside.mean())


def one_seed(frames: Frames, split: str, per_kind: int, seed: int) -> dict[str, dict[str, object]]:
    rng = np.random.default_rng(seed)
    names = np.unique(frames.kind)
    drawn = [rng.choice(np.flatnonzero(frames.kind == name), per_kind, replace=False) for name in names]
    chosen = np.sort(np.concatenate(drawn))
    (features,) = unit_mean_square(frames.features.take(chosen))
    groups = (frames.kind if split == "kind" else frames.stretch)[chosen].tolist()
    known = KnownErrors(frames.energy[chosen], frames.forces[chosen], groups)
    found = calibrate_both(features, known, noise=NOISE, level=LEVEL, seed=seed)
    fold = assign_folds(len(chosen), seed=seed, groups=groups)
    std, errors = held_out(features, fold, noise=NOISE, residuals=known.energy)
    each = np.arange(len(fold))
    result: dict[str, dict[str, object]] = {}
    for name, calibration, pair, simple in (
        ("energy", found.energy, (std[fold, each], errors[fold, each]), errors),
        (
            "forces",
            found.forces,
            (std[fold, each], known.forces),
            np.broadcast_to(known.forces, std.shape),
        ),
    ):
        result[name] = {
            "coverage": calibration.coverage,
            "by_kind": {str(k): float(calibration.inside[frames.kind[chosen] == k].mean()) for k in names},
            "correlation": float(spearmanr(*pair).statistic),
            "error": float(pair[1].mean()),
            "simple": simple_coverage(std, simple, fold),
        }
    return result


def summary(seeds: list[dict[str, object]]) -> dict[str, object]:
    covers = np.array([seed["coverage"] for seed in seeds])
    return {
        "coverage": {
            "mean": covers.mean(),
            "std": covers.std(ddof=1),
            "least": covers.min(),
            "most": covers.max(),
            "each_seed": covers.tolist(),
        },
        "by_kind": {k: float(np.mean([seed["by_kind"][k] for seed in seeds])) for k in seeds[0]["by_kind"]},
        **{key: float(np.mean([seed[key] for seed in seeds])) for key in ("correlation", "error", "simple")},
    }


def rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the coverage of calibrated intervals.")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--per-kind", type=int, default=160, help="frames of every kind")
    parser.add_argument(
        "--json", nargs="?", const=RESULTS, type=Path, help=f"write results (to {RESULTS.name})"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    frames = load(args.model, args.data)
    results: dict[str, dict[str, object]] = {}
    for split in ("kind", "stretch"):
        seeds = [one_seed(frames, split, args.per_kind, seed) for seed in range(args.seeds)]
        results[split] = {name: summary([seed[name] for seed in seeds]) for name in seeds[0]}
        for name, found in results[split].items():
            print(split, name, json.dumps(rounded(found["coverage"])), flush=True)
    report = {
        "command": "python benchmarks/calibration.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "model": repr(open_potential(args.model, "cpu")),
        "seeds": args.seeds,
        "structures": 5 * args.per_kind,
        "level": LEVEL,
        "noise": NOISE,
        "cpu_seconds": time.process_time() - begin,
        "machine": {"processor": platform.processor() or platform.machine(), "load": os.getloadavg()[0]},
        "versions": {name: version(name) for name in ("surveyor", "torch", "mace-torch", "numpy", "scipy")},
        "results": results,
    }
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rounded(report), indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(rounded(report), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
