"""The process that reads somebody's results: `python -P -m surveyor.labelling.reader`.

A line of JSON comes in per file, and lines of JSON go out: one per frame, one per fault, and one at the end.
What a file makes a reader do (hang, eat memory, crash) ends this process and not the one that asked.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms

from surveyor.errors import StructureError
from surveyor.labelling.converged import Convergence, convergence
from surveyor.structures.identity import MOMENTS
from surveyor.structures.labels import FORCES_KEY
from surveyor.structures.reading import read_all_that_can

KEPT_ARRAYS = (FORCES_KEY, *MOMENTS)
KEPT_RESULTS = ("energy", "free_energy", "forces", "stress")


def main() -> None:
    """Answer until the input ends."""
    requests = os.fdopen(os.dup(0), "r", encoding="ascii")
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    # What readers print, and what they would read, goes nowhere.
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    memory = int(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    answers.write("{}\n")
    answers.flush()
    for line in requests:
        request = json.loads(line)
        _answer(Path(request["path"]), float(request["seconds"]), answers)


def _answer(path: Path, seconds: float, answers: IO[str]) -> None:
    """All frames of a file, and its faults; the alarm ends this process where nothing comes for too long."""

    def say(message: dict[str, Any]) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(message) + "\n")
        answers.flush()
        signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        for number, found in enumerate(_frames(path)):
            if isinstance(found, str):
                say({"frame": number, "fault": found})
            else:
                say({"frame": number, **found})
    except MemoryError:
        say({"fault": "it takes more memory than it is given"})
    except RecursionError:
        say({"fault": "it is nested too deeply"})
    except SystemExit:
        say({"fault": "its reader gave up"})
    except StructureError as error:
        say({"fault": error.got})
    except Exception as error:
        say({"fault": f"{type(error).__name__}: {error}"[:400]})
    signal.setitimer(signal.ITIMER_REAL, 0)
    answers.write(json.dumps({"done": True}) + "\n")
    answers.flush()


def _frames(path: Path) -> Iterator[dict[str, Any] | str]:
    """Each frame as plain data, or as the reason why it is none."""
    said: Convergence | None = None
    for number, (form, found) in enumerate(read_all_that_can(path)):
        if isinstance(found, StructureError):
            yield found.got.removeprefix(f"{path.name}, frame {number}: ")
            continue
        if said is None:
            said = convergence(path, form)
        yield {**_plain(found), "format": form, "unconverged": said.of(number) or ""}


def _plain(atoms: Atoms) -> dict[str, Any]:
    """What a label needs, as JSON holds it."""
    results = {} if atoms.calc is None else atoms.calc.results
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": [bool(p) for p in atoms.pbc],
        "info": {str(key): value for key, raw in atoms.info.items() if (value := _value(raw)) is not None},
        "arrays": {key: _value(atoms.arrays[key]) for key in KEPT_ARRAYS if key in atoms.arrays},
        "results": {key: value for key in KEPT_RESULTS if (value := _value(results.get(key))) is not None},
    }


def _value(value: Any) -> Any:
    """A number, a text or a list of numbers; text that says what it is for anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value)
    return array.tolist() if array.dtype.kind in "biuf" else f"{type(value).__name__} {value}"[:200]


if __name__ == "__main__":
    main()
