"""Error of the sketched tangent kernel against the number of columns D, and the cost of each sketch.

    python benchmarks/sketches.py --json benchmarks/results/sketches.json

Exact gradients ∇θE of real molecules, cast to float32, are sketched in four ways; the kernel of the
sketches is compared with the exact kernel K.

| measure      | definition                                                                           |
|--------------|--------------------------------------------------------------------------------------|
| error        | |K_S − K|_F / |K|_F                                                                  |
| error_atoms  | the same for gradients of the energy per atom, centred over the pool                 |
| correlation  | Pearson's r of the entries above the diagonal of the two centred kernels             |
| _std, _least | standard deviation and least value over the seeds; the rest are means                |
| seconds      | of sketching gradients that are already there, a structure; S drawn beforehand       |
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from ase.io import read

from surveyor.features import Tangent
from surveyor.features.sketch import CountSketch
from surveyor.potentials import open_potential
from surveyor.potentials.parameters import parameter_names, parameter_sizes

DATA = Path(__file__).parents[2] / "shared" / "data" / "rdb7-geometries.extxyz"
DIMS = (64, 128, 256, 512, 1024)
Sketch = Callable[[torch.Tensor], torch.Tensor]


def gaussian(sizes: list[int], dim: int, seed: int) -> Sketch:
    """S_dp ~ N(0, 1/D)."""
    rng = np.random.default_rng(seed)
    matrix = torch.from_numpy(rng.standard_normal((sum(sizes), dim), dtype=np.float32)) / dim**0.5
    return lambda g: g @ matrix


def count_sketch(sizes: list[int], dim: int, seed: int) -> Sketch:
    """One ±1 in every column."""
    sketch = CountSketch(sum(sizes), dim, seed)
    return lambda g: sketch._part(g, slice(0, sum(sizes)))


def hadamard(sizes: list[int], dim: int, seed: int) -> Sketch:
    """SRHT: random signs, fast Walsh–Hadamard transform, D random rows."""
    rng = np.random.default_rng(seed)
    size = sum(sizes)
    length = 1 << (size - 1).bit_length()
    signs = torch.from_numpy((2 * rng.integers(0, 2, size) - 1).astype(np.float32))
    rows = torch.from_numpy(rng.choice(length, dim, replace=False))

    def apply(g: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.pad(g * signs, (0, length - size))
        half = 1
        while half < length:
            pairs = x.view(len(g), -1, 2, half)
            x = torch.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2).view(
                len(g), -1
            )
            half *= 2
        return x[:, rows] / dim**0.5

    return apply


def product(shapes: list[tuple[int, ...]], dim: int, seed: int) -> Sketch:
    """(Sg)_d = Σ_layers a_d·G b_d/√D with Gaussian a_d, b_d: what could be had without outer products."""
    rng = np.random.default_rng(seed)
    parts, offset = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        columns = (
            shape[-1] if len(shape) > 1 else max(c for c in range(1, int(size**0.5) + 1) if size % c == 0)
        )
        left = torch.from_numpy(rng.standard_normal((size // columns, dim), dtype=np.float32))
        right = torch.from_numpy(rng.standard_normal((columns, dim), dtype=np.float32))
        parts.append((slice(offset, offset + size), left, right))
        offset += size

    def apply(g: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(g), dim)
        for where, left, right in parts:
            total += ((g[:, where].view(len(g), len(left), len(right)) @ right) * left).sum(1)
        return total / dim**0.5

    return apply


Kernels = tuple[np.ndarray, np.ndarray]


def kernels(rows: np.ndarray, atoms: np.ndarray) -> Kernels:
    """K of the rows, and K of the centred rows per atom."""
    per_atom = rows / atoms[:, None]
    per_atom -= per_atom.mean(axis=0)
    return rows @ rows.T, per_atom @ per_atom.T


def measures(exact: Kernels, sketched: Kernels) -> dict[str, float]:
    """Errors of the kernels of the sketched rows; see the table above."""
    (whole, centred), (whole_s, centred_s) = exact, sketched
    above = np.triu_indices(len(whole), 1)
    return {
        "error": float(np.linalg.norm(whole_s - whole) / np.linalg.norm(whole)),
        "error_atoms": float(np.linalg.norm(centred_s - centred) / np.linalg.norm(centred)),
        "correlation": float(np.corrcoef(whole[above], whole_s[above])[0, 1]),
        "correlation_atoms": float(np.corrcoef(centred[above], centred_s[above])[0, 1]),
    }


def figure(results: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """Error against D, and against cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, by_dim in results.items():
        error = [row["error_atoms"] for row in by_dim.values()]
        scatter = [row["error_atoms_std"] for row in by_dim.values()]
        left.errorbar(list(by_dim), error, yerr=scatter, fmt="o-", capsize=3, label=name)
        right.loglog([1e3 * row["seconds"] for row in by_dim.values()], error, "o-", label=name)
    left.loglog(DIMS, [(2 / dim) ** 0.5 for dim in DIMS], "k:", label="√(2/D)")
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("columns D")
    left.set_ylabel("kernel error (per atom, centred)")
    right.set_xlabel("cost, ms a structure")
    left.legend(frameon=False)
    drawing.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "sketches.json")
    parser.add_argument("--potential", default="builtin")
    parser.add_argument("--structures", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not DATA.exists():
        sys.exit(f"no {DATA.name} in {DATA.parent}: nothing measured")
    potential = open_potential(options.potential, device="cpu", dtype="float64")
    structures = read(DATA, ":")
    chosen = np.random.default_rng(0).choice(len(structures), options.structures, replace=False)
    structures = [structures[i] for i in sorted(chosen)]
    atoms = np.array([len(one) for one in structures], dtype=float)
    exact = Tangent(potential, dim=None)(structures).values
    gradients = torch.from_numpy(exact).float()
    wanted = kernels(exact, atoms)
    names = parameter_names(potential.model)
    shapes = [tuple(potential.model.get_parameter(name).shape) for name in names]
    sizes = parameter_sizes(potential.model, names)
    makers: dict[str, Callable[[int, int], Sketch]] = {
        "Gaussian": lambda dim, seed: gaussian(sizes, dim, seed),
        "CountSketch": lambda dim, seed: count_sketch(sizes, dim, seed),
        "SRHT": lambda dim, seed: hadamard(sizes, dim, seed),
        "product of layers": lambda dim, seed: product(shapes, dim, seed),
    }
    report = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "model": repr(potential),
        "structures": len(structures),
        "parameters": sum(sizes),
        "seeds": list(range(options.seeds)),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1},
        "versions": {name: version(name) for name in ("surveyor", "torch", "mace-torch", "numpy")},
    }
    results: dict[str, dict[int, dict[str, float]]] = {}
    for name, make in makers.items():
        for dim in DIMS:
            rows = []
            for seed in range(options.seeds):
                sketch = make(dim, seed)
                start = time.perf_counter()
                sketched = torch.cat([sketch(part) for part in gradients.split(32)])
                spent = (time.perf_counter() - start) / len(gradients)
                found = measures(wanted, kernels(sketched.double().numpy(), atoms))
                rows.append(found | {"seconds": spent})
            mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            mean["seconds"] = min(row["seconds"] for row in rows)
            mean["error_atoms_std"] = float(np.std([row["error_atoms"] for row in rows], ddof=1))
            mean["correlation_atoms_least"] = min(row["correlation_atoms"] for row in rows)
            results.setdefault(name, {})[dim] = mean
            print(
                f"{name:18s} D={dim:5d}  " + "  ".join(f"{key} {value:.4g}" for key, value in mean.items()),
                flush=True,
            )
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report | {"results": results}, indent=1) + "\n")
        figure(results, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
