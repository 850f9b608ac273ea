"""Modes of fine-tuning on the embedded example: errors on its test set, and on the generic sample.

python benchmarks/fine_tuning.py naive frozen replay --updates 500 --json fine-tuning.json

The sixteen labelled structures of the example and sixty of its pool, drawn with seed 0 and labelled with
GFN2-xTB; every tenth of them validates. Needs a few minutes of one core a mode.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from surveyor.labelling import GFN2, compute
from surveyor.metrics import errors, errors_but_offsets
from surveyor.potentials import open_potential
from surveyor.potentials.mace.fine_tuning import FineTuning, FineTuningSettings
from surveyor.potentials.opening import BUILTIN, beside
from surveyor.potentials.references import refit_reference_energies
from surveyor.structures import read_structures, with_labels
from surveyor.types import Labels

EXAMPLE = Path(__file__).parents[1] / "examples" / "reactions"
MODES: dict[str, dict[str, Any]] = {
    "naive": {},
    "naive-universal": {"loss": "universal"},
    "frozen": {"mode": "frozen"},
    "replay": {"mode": "replay", "loss": "universal"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modes", nargs="*", default=list(MODES), help=", ".join(MODES))
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    pool = list(read_structures(EXAMPLE / "pool.extxyz.gz"))
    labelled = list(read_structures(EXAMPLE / "start.extxyz"))
    for index in np.random.default_rng(0).permutation(len(pool))[:60]:
        result = compute(GFN2, pool[index])
        if not isinstance(result, Labels):
            raise SystemExit(f"pool structure {index}: {result}")
        labelled.append(with_labels(pool[index], result))
    test = list(read_structures(EXAMPLE / "test.extxyz.gz"))
    files = {part: beside(BUILTIN, part) for part in ("held-out", "replay")}
    generic, replay = (list(read_structures(path)) for path in files.values() if path is not None)
    potential = open_potential(BUILTIN)
    shifted = potential.with_reference_shifts(refit_reference_energies(potential, labelled))

    rows: dict[str, dict[str, float]] = {}

    def measure(name: str, tuned: Any, seconds: float) -> None:
        target = errors(tuned, test)
        energy, force = errors_but_offsets(tuned, generic)
        rows[name] = {
            "target_energy_mae": target.energy_mae,
            "target_force_mae": target.force_mae,
            "generic_energy_mae": energy,
            "generic_force_mae": force,
            "seconds": seconds,
        }
        print(name, {key: round(value, 1) for key, value in rows[name].items()}, flush=True)

    measure("before", shifted, 0.0)
    for name in args.modes:
        settings = FineTuningSettings(updates=args.updates, threads=1, **MODES[name])
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            tuned = FineTuning(settings, replay=replay)(
                potential,
                [atoms for number, atoms in enumerate(labelled) if number % 10],
                labelled[::10],
                seed=args.seed,
                workdir=Path(folder) / "work",
            )
            measure(name, tuned, time.perf_counter() - begin)
    if args.json:
        versions = {package: version(package) for package in ("mace-torch", "torch", "tblite")}
        content = {"seed": args.seed, "updates": args.updates, "versions": versions, "rows": rows}
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
