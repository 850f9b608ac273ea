"""The process that the chaos test disturbs: one round's labelling, with the campaign's own parts.

    python chaos_run.py FOLDER CALLS N

Some structures' calculations raise, hang, give NaN, or give absurd forces. Ends with exit code 0 when every
structure is settled, with 2 when the disk is full.
"""

from __future__ import annotations

import sys
from pathlib import Path

from molecules import rattled
from surveyor.errors import SurveyorError
from surveyor.labelling import CalculatorSpec, EngineLabeller, Ledger, LocalEngine
from surveyor.labelling.rules import LabelRules, harvest, screen, settled
from surveyor.structures import structure_id
from surveyor.types import Failure

TIME_LIMIT = 15.0
RULES = LabelRules(retries=8, retry_wait=0.02, minimum=0.5)


def main(folder: Path, calls: Path, n: int) -> None:
    structures = {structure_id(atoms): atoms for atoms in rattled(n, seed=11)}
    spec = CalculatorSpec("calculators:ChaoticEMT", {"log": str(calls)})
    labeller = EngineLabeller(spec, LocalEngine(processes=2), spool=folder / "spool", time_limit=TIME_LIMIT)
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
