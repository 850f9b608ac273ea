"""A submitting process for the engine tests: labels rattled molecules into a ledger, as a campaign does.

    python labelling_run.py FOLDER N ENGINE_JSON [SECONDS]

The calculator is EMT with a pause; it writes each structure's id to FOLDER/calls when it has computed it. The
process says `labelled N` whenever a label is in the ledger, so that a test knows when to kill it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from molecules import rattled
from surveyor.labelling import (
    CalculatorSpec,
    DaskEngine,
    EngineLabeller,
    Ledger,
    LocalEngine,
    ParslEngine,
    SlurmEngine,
)
from surveyor.structures import structure_id
from surveyor.types import Failure

ENGINES = {"local": LocalEngine, "slurm": SlurmEngine, "parsl": ParslEngine, "dask": DaskEngine}


def main(folder: Path, n: int, engine: dict, seconds: float = 0.2) -> None:
    kind = engine.pop("kind")
    spec = CalculatorSpec("calculators:CountingEMT", {"log": str(folder / "calls"), "seconds": seconds})
    labeller = EngineLabeller(spec, ENGINES[kind](**engine), spool=folder / "spool")
    structures = {structure_id(atoms): atoms for atoms in rattled(n, seed=7)}
    ledger = Ledger(folder / "labels", "emt")
    for _ in range(3):  # a label that failed, because its worker was killed, is tried again
        todo = {name: atoms for name, atoms in structures.items() if name not in ledger}
        for name, result in labeller(todo) if todo else ():
            if isinstance(result, Failure):
                ledger.append_failure(name, result)
                print(f"failed {name}: {result.reason}", flush=True)
            else:
                ledger.append(name, structures[name], result)
                print(f"labelled {len(ledger)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), *map(float, sys.argv[4:]))
