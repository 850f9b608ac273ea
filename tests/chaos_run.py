"""The process that the chaos test disturbs: one round's labelling, with the campaign's own parts.

    python chaos_run.py FOLDER CALLS N

Some structures' calculations raise, hang, give NaN, or give absurd forces. Ends with exit code 0 when every
structure is settled, with 2 when the disk is full.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT

from molecules import rattled
from surveyor.campaign.labelling import LabelRules, harvest, screen, settled
from surveyor.errors import SurveyorError
from surveyor.labelling import CalculatorSpec, Ledger, LocalLabeller
from surveyor.labelling.retries import Retries
from surveyor.structures import structure_id
from surveyor.types import Failure

TIME_LIMIT = 10.0
RULES = LabelRules(Retries(times=5, wait=0.1), minimum=0.5)
MOODS = {0: "raise", 1: "hang", 2: "nan", 3: "absurd"}


def mood(name: str) -> str:
    """How the calculation of this structure behaves: a tenth of them badly."""
    return MOODS.get(int(name[:8], 16) % 40, "good")


class ChaoticEMT(EMT):
    """EMT with moods; writes `begin ID` and `end ID` to a file."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self._log = Path(log)

    def _say(self, text: str) -> None:
        with self._log.open("a") as file:
            file.write(text + "\n")

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        assert atoms is not None
        name = structure_id(atoms)
        self._say(f"begin {name}")
        super().calculate(atoms, *args, **kwargs)
        time.sleep(0.2)
        how = mood(name)
        if how == "hang":
            time.sleep(600)
        if how == "nan":
            self.results["energy"] = float("nan")
        if how == "absurd":
            self.results["forces"] = np.full((len(atoms), 3), 1e4)
        self._say(f"end {name}")
        if how == "raise":
            raise RuntimeError("SCF did not converge")


def main(folder: Path, calls: Path, n: int) -> None:
    structures = {structure_id(atoms): atoms for atoms in rattled(n, seed=11)}
    spec = CalculatorSpec("chaos_run:ChaoticEMT", {"log": str(calls)})
    labeller = LocalLabeller(spec, processes=2, spool=folder / "spool", time_limit=TIME_LIMIT)
    ledger = Ledger(folder / "labels", "emt")
    while todo := {name: a for name, a in structures.items() if not settled(ledger, RULES, name)}:
        for name, result in labeller(todo):
            if isinstance(result, Failure):
                ledger.append_failure(name, result)
            else:
                ledger.append(name, structures[name], result)
            print("told", flush=True)
    screen(ledger, RULES, {}, structures)
    came = harvest(ledger, RULES, 1, structures)
    print(f"{came.failed} failed, {came.quarantined} in quarantine", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except SurveyorError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
