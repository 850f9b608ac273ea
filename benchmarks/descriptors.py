"""Closed-form learners on descriptors: baselines of the tangent correction, at the same labels.

    python benchmarks/descriptors.py DRAWN -o benchmarks/results/learner.jsonl --counts 180

| learner         | E(x; θ) and                                                                        |
|-----------------|------------------------------------------------------------------------------------|
| random features | Σ_a w·cos(W h_a + b): h_a the potential's hidden features of atom a, W Gaussian; as  |
|                 | in franken (Novelli et al. 2025), but of what the potential lacks                  |
| SOAP            | Σ_a w·p_a: p_a the power spectrum of atom a, which knows no potential              |

Both are ridge regressions of energies and force projections like the tangent correction, λ and the weight of
energies by leave-one-out. Slopes are central differences in float64, so that one page does for both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from learner import MODEL, SEEDS
from surveyor.campaign.validation import split_validation
from surveyor.features.activations import Activations
from surveyor.features.probes import directions, projections
from surveyor.features.soap import Soap, occurring
from surveyor.linearised import Linearised, Rows, fit
from surveyor.metrics import residuals
from surveyor.potentials import open_potential
from surveyor.structures import read_structures, structure_id
from surveyor.structures.composition import shares

STEP = 1e-3
"""Å; central differences of smooth descriptors are then good to 1e-6."""
COLUMNS, PROBES, TESTS = 2048, 4, 100
WIDTHS = (0.3, 1.0, 3.0)
"""Standard deviations of the phases W h_a over the atoms that are trained on, about."""

Descriptor = Callable[[Sequence[Atoms]], np.ndarray]
"""Structures → their rows, summed over atoms."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("drawn", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="*", default=(20, 60, 180))
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = args.output.read_text().splitlines() if args.output.is_file() else []
    done = {(r["task"], r["seed"], r["labels"], r["learner"]) for r in map(json.loads, lines)}
    potential = open_potential(MODEL, "cpu", "float64")
    for seed in range(SEEDS):
        for count in args.counts:
            for folder in sorted(path for path in args.drawn.iterdir() if path.is_dir()):
                frames = list(read_structures(folder / f"train-{seed}.extxyz"))[:count]
                train, _ = split_validation({structure_id(atoms): atoms for atoms in frames}, 0.1, seed)
                test = list(read_structures(folder / "test.extxyz"))
                test = [test[i] for i in np.linspace(0, len(test) - 1, min(TESTS, len(test))).astype(int)]
                for name, descriptors in (
                    ("random features", random_features(potential, train)),
                    ("SOAP", [soap([*train, *test])]),
                ):
                    if (folder.name, seed, count, name) in done:
                        continue
                    begin = time.process_time()
                    energy, force = learn(potential, descriptors, train, test)
                    row = {
                        "task": folder.name, "seed": seed, "labels": count,
                        "training": "none", "learner": name,
                        "energy": float(f"{energy:.4g}"), "force": float(f"{force:.4g}"),
                        "core_seconds": round(time.process_time() - begin, 1), "test_frames": len(test),
                    }  # fmt: skip
                    with args.output.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)


def random_features(potential: Any, train: Sequence[Atoms]) -> list[Descriptor]:
    """A descriptor a width of W; hidden features are centred and scaled by what the training atoms show."""
    hidden = Activations(potential)
    seen = np.concatenate(list(hidden.of_atoms(train)))
    scale = seen.std(axis=0) + 1e-9
    rng = np.random.default_rng(0)
    W, phase = rng.standard_normal((seen.shape[1], COLUMNS)), rng.uniform(0, 2 * np.pi, COLUMNS)

    def of_width(width: float) -> Descriptor:
        def rows(structures: Sequence[Atoms]) -> np.ndarray:
            each = hidden.of_atoms(structures)
            return np.stack(
                [np.cos((h / scale) @ W * width / np.sqrt(len(scale)) + phase).sum(0) for h in each]
            )

        return rows

    return [of_width(width) for width in WIDTHS]


def soap(structures: Sequence[Atoms]) -> Descriptor:
    found = Soap(occurring(structures), n_max=6, l_max=4, pool="sum")
    return lambda part: found(part).values.astype(np.float64)


def learn(
    potential: Any, descriptors: Sequence[Descriptor], train: Sequence[Atoms], test: Sequence[Atoms]
) -> tuple[float, float]:
    """Errors on the test frames, meV/atom and meV/Å, of the best descriptor."""
    best = min((fit_to(potential, each, train) for each in descriptors), key=lambda found: found[0])
    _, learnt, rows = best
    lacking, off = residuals(potential, test)
    sizes = np.array([len(atoms) for atoms in test])
    energy = rows(test) / sizes[:, None] @ learnt.weights
    energy += shares(test, potential.elements) @ learnt.shifts
    force = [
        -slopes(rows, atoms, directions(len(atoms), "all", 0)) @ learnt.weights for atoms in test
    ]  # (3n,) each
    wrong = np.concatenate([own.ravel() - found for own, found in zip(off, force, strict=True)])
    return 1e3 * float(np.abs(lacking - energy).mean()), 1e3 * float(np.abs(wrong).mean())


def fit_to(
    potential: Any, descriptor: Descriptor, train: Sequence[Atoms]
) -> tuple[float, Linearised, Descriptor]:
    """Error on a fifth of the training structures after learning the others, and the fit to all of them."""
    rows = rows_of(potential, descriptor, train)
    held = np.arange(len(train)) % 5 == 0
    learnt = fit(of(rows, ~held))
    left = of(rows, held)
    wrong_energy = left.energy_residual - left.energy @ learnt.weights - left.composition @ learnt.shifts
    wrong_force = left.force_residual - left.forces @ learnt.weights
    score = float(np.log(np.abs(wrong_energy).mean()) + np.log(np.abs(wrong_force).mean()))
    return score, fit(rows), descriptor


def rows_of(potential: Any, descriptor: Descriptor, train: Sequence[Atoms]) -> Rows:
    lacking, off = residuals(potential, train)
    sizes = np.array([len(atoms) for atoms in train])
    each = [-slopes(descriptor, atoms, directions(len(atoms), PROBES, 0)) for atoms in train]
    return Rows(
        energy=descriptor(train) / sizes[:, None],
        energy_residual=lacking,
        composition=shares(train, potential.elements),
        forces=np.concatenate(each),
        force_residual=projections(off, PROBES, 0),
        owner=np.repeat(np.arange(len(train)), [len(own) for own in each]),
    )


def of(rows: Rows, chosen: np.ndarray) -> Rows:
    """The rows of some of the structures."""
    number = np.cumsum(chosen) - 1
    own = chosen[rows.owner]
    return Rows(
        rows.energy[chosen], rows.energy_residual[chosen], rows.composition[chosen],
        rows.forces[own], rows.force_residual[own], number[rows.owner[own]],
    )  # fmt: skip


def slopes(descriptor: Descriptor, atoms: Atoms, along: np.ndarray) -> np.ndarray:
    """dφ/dε along each direction (directions, columns), by central differences."""
    moved = []
    for sign in (1, -1):
        for direction in along:
            copy = atoms.copy()
            copy.positions += sign * STEP * direction
            moved.append(copy)
    values = descriptor(moved)
    return np.asarray((values[: len(along)] - values[len(along) :]) / (2 * STEP))


if __name__ == "__main__":
    main()
