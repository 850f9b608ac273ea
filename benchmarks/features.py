"""Seconds a structure of energies, forces and features, on one device, in one run.

python benchmarks/features.py --json benchmarks/results/features.json
python benchmarks/features.py --model chgnet:0.3.0 --json benchmarks/results/features-chgnet.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import read

from surveyor.features import Activations, ForceTangent, Tangent
from surveyor.potentials import open_potential
from surveyor.potentials.base import Layered
from surveyor.potentials.batches import batches
from surveyor.potentials.loop import energy_gradients
from surveyor.potentials.parameters import parameter_names

DATA = Path(__file__).parents[2] / "shared" / "data" / "rdb7-geometries.extxyz"


def random_mace(channels: int, max_L: int, cutoff: float = 5.0) -> Layered:
    """A MACE with fresh float32 weights: correlation 3, max_ell 3, radial layers of 64, elements HCNO."""
    from mace import modules  # before e3nn: it lets e3nn read its constants under torch ≥ 2.6

    from e3nn import o3  # isort: skip
    from surveyor.potentials.mace import MacePotential

    torch.manual_seed(0)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=4,
        hidden_irreps=o3.Irreps([(channels, (L, (-1) ** L)) for L in range(max_L + 1)]),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.full(4, -3.0),
        avg_num_neighbors=8.0,
        atomic_numbers=[1, 6, 7, 8],
        correlation=3,
        gate=torch.nn.functional.silu,
        radial_MLP=[64, 64, 64],
    )
    return MacePotential(model, source=f"random {channels}-channel L={max_L}")


def geometries(count: int) -> list[Atoms]:
    """Real molecules of 8 to 12 atoms."""
    if not DATA.exists():
        sys.exit(f"no {DATA.name} in {DATA.parent}: nothing measured")
    chosen = [atoms for atoms in read(DATA, "::3") if 8 <= len(atoms) <= 12]
    rng = np.random.default_rng(0)
    return [chosen[i] for i in sorted(rng.choice(len(chosen), count, replace=False))]


def versions(*packages: str) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def clock() -> Callable[[], float]:
    """CPU time on one core, which other work of the machine lengthens least; else what a clock shows."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time if alone else time.perf_counter


def seconds(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Times of each task; the tasks take turns, so that a busy spell of the machine hits all alike."""
    now = clock()
    for task in tasks.values():  # TorchScript compiles in the first calls
        for _ in range(3):
            task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = now()
            task()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(now() - start)
    return times


def measure(potential: Layered, structures: Sequence[Atoms], repeats: int, dim: int) -> dict[str, object]:
    """All tasks for one potential."""
    names = parameter_names(potential.model)
    activations, tangent = Activations(potential), Tangent(potential, dim=dim)
    forces = ForceTangent(potential, probes=4, dim=dim)
    few = structures[:16]

    def energy() -> None:
        with torch.no_grad():
            for _, batch in batches(potential, structures):
                potential.energies(batch).cpu()

    def energy_and_forces() -> None:
        for _, batch in batches(potential, structures):
            if potential.family == "mace":
                potential.model(batch.inputs, compute_force=True)["forces"].cpu()
            else:
                positions = batch.positions.requires_grad_(True)
                torch.autograd.grad(potential.energies(batch).sum(), positions)[0].cpu()

    found = seconds(
        {
            "energy": energy,
            "forces": energy_and_forces,
            "activations": lambda: activations(structures),
            "tangent": lambda: tangent(structures),
            "graphs": lambda: list(batches(potential, structures)),
        },
        repeats,
    )
    slow = seconds(
        {
            "loop": lambda: list(energy_gradients(potential, few, names)),
            "tangent_force4": lambda: forces(few),
        },
        max(1, repeats // 4),
    )
    result = {name: float(np.median(times)) / len(structures) for name, times in found.items()}
    result |= {name: float(np.median(times)) / len(few) for name, times in slow.items()}
    best = {name: min(times) / len(structures) for name, times in found.items()}
    return {
        "model": repr(potential),
        "parameters": sum(parameter.numel() for parameter in potential.model.parameters()),
        "device": str(potential.device),
        "dtype": str(next(potential.model.parameters()).dtype).removeprefix("torch."),
        "structures": len(structures),
        "atoms": float(np.mean([len(atoms) for atoms in structures])),
        "dim": dim,
        **result,
        "tangent_over_forces": result["tangent"] / result["forces"],
        "activations_over_forces": result["activations"] / result["forces"],
        "tangent_over_forces_best": best["tangent"] / best["forces"],
        "activations_over_forces_best": best["activations"] / best["forces"],
        "loop_over_forces": result["loop"] / result["forces"],
        "tangent_force4_over_forces": result["tangent_force4"] / result["forces"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="of any family; by default the built-in and a larger random MACE")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--structures", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    structures = geometries(options.structures)
    if options.model:
        potentials = [open_potential(options.model, dtype="float32", device=options.device)]
    else:
        potentials = [open_potential("builtin", dtype="float32", device=options.device), random_mace(64, 1)]
    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else None
    report: dict[str, object] = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "seed": 0,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
            "threads": options.threads,
            "gpu": gpu,
        },
        "versions": versions("surveyor", "torch", "mace-torch", "sevenn", "nequip", "e3nn", "numpy"),
        "clock": clock().__name__,
        "unit": "seconds a structure, median of the repeats, tasks in turn; _best: least times",
        "repeats": options.repeats,
    }
    results = []
    for potential in potentials:
        potential.model.to(options.device)
        results.append(measure(potential, structures, options.repeats, options.dim))
        for key, value in results[-1].items():
            print(f"{key:28s} {value * 1e3:10.3f} ms" if key in TIMES else f"{key:28s} {value}", flush=True)
        print()
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(report | {"runs": results}, indent=1) + "\n")


TIMES = ("energy", "forces", "activations", "tangent", "graphs", "loop", "tangent_force4")

if __name__ == "__main__":
    main()
