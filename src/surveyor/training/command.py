"""A program as the trainer: files in, the file of a tuned potential out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from surveyor.errors import SurveyorError, TrainingError
from surveyor.labelling.outputs import FileName
from surveyor.labelling.programs import Program
from surveyor.potentials.base import Shiftable
from surveyor.potentials.opening import open_alike, suffix_of
from surveyor.potentials.references import shifted_to
from surveyor.structures.composition import element_offsets, elements_of
from surveyor.structures.identity import with_state
from surveyor.structures.label_keys import without_acting_keys
from surveyor.structures.labels import labels_of
from surveyor.structures.writing import emptied, write_structures
from surveyor.types import Potential

TRAIN, VALID, REFERENCES = "train.extxyz", "valid.extxyz", "references.json"


class TrainingProgram(Program):
    """A program that trains; see `Program`.

    | field     | meaning                                                                             |
    |-----------|-------------------------------------------------------------------------------------|
    | potential | file that it leaves in its folder; None: the one that templates know as `output`    |

    What templates may use:

    | name         | meaning                                                                   | unit |
    |--------------|---------------------------------------------------------------------------|------|
    | train, valid | labelled structures, extxyz: REF_energy, REF_forces, REF_stress           | eV, Å |
    | start        | the potential to start from, in its family's format                       |      |
    | output       | where the tuned potential is looked for                                   |      |
    | seed         |                                                                           |      |
    | threads      | CPU threads that it may use                                               |      |
    | references   | atomic number → energy of the isolated atom                               | eV   |
    | references_file | the same by symbol, JSON                                               | eV   |

    Files are named relative to the folder in which the program runs.
    """

    potential: FileName | None = None


class CommandTrainer:
    """Trainer: what it starts from is handed over in files, and what it leaves is opened and looked at.

    Energies of isolated atoms are those that are labelled, or the least-squares fit of the training energies,
    one energy an element. Where the family's reference energies can be shifted, those of the start are first
    fitted to the training energies, as its own trainer would.

    Args:
        program: what runs.
        potential: one of the family that it starts from.
        device: for what it leaves; None takes a GPU where there is one.
        threads: CPU threads that templates name.

    Raises:
        TrainingError: a template is malformed, or there is no such program.
    """

    def __init__(
        self, program: TrainingProgram, potential: Potential, *, device: str | None = None, threads: int = 1
    ) -> None:
        self.program = program
        self.device = device
        self.threads = threads
        suffix = suffix_of(potential)
        self.start, self.output = f"start{suffix}", program.potential or f"tuned{suffix}"
        try:
            command, _ = program.filled(self._values(0, dict.fromkeys(range(1, len(chemical_symbols)), 0.0)))
        except SurveyorError as error:
            raise TrainingError(error.got, expected=error.expected, todo=error.todo) from error
        if shutil.which(command[0]) is None:
            raise self._missing(command[0])

    def __call__(
        self,
        start: Potential,
        train: Sequence[Atoms],
        valid: Sequence[Atoms],
        *,
        seed: int,
        workdir: Path,
        references: Mapping[int, float] | None = None,
    ) -> Potential:
        if not train:
            raise TrainingError("no labelled structure to train on", expected="at least one")
        emptied(workdir)
        train, valid = ([with_state(without_acting_keys(a)) for a in part] for part in (train, valid))
        energies = dict(references or _fitted(train))
        if isinstance(start, Shiftable) and not references:
            start = shifted_to(start, train)
        start.save(workdir / self.start)
        write_structures(workdir / TRAIN, train)
        write_structures(workdir / VALID, valid or train)
        by_symbol = {chemical_symbols[z]: energy for z, energy in energies.items()}
        (workdir / REFERENCES).write_text(json.dumps(by_symbol, indent=1), encoding="utf-8")
        try:
            failure = self.program.run(self._values(seed, energies), workdir)
        except FileNotFoundError as error:
            raise self._missing(str(error)) from error
        if failure:
            raise TrainingError(
                f"the training failed: {failure}",
                expected="exit code 0",
                todo=f"read stdout and stderr in {workdir}, mend it, and run the same command again: "
                "the labels are safe",
            )
        return self._result(start, train, workdir)

    def _values(self, seed: int, references: Mapping[int, float]) -> dict[str, Any]:
        return {
            "train": TRAIN,
            "valid": VALID,
            "start": self.start,
            "output": self.output,
            "seed": seed,
            "threads": self.threads,
            "references": dict(references),
            "references_file": REFERENCES,
        }

    def _missing(self, name: str) -> TrainingError:
        return TrainingError(
            f"there is no program {name!r}",
            expected="a program on PATH, or the path of one, on the machine that trains",
            todo="install it, load its module, or correct training: command",
        )

    def _result(self, start: Potential, train: Sequence[Atoms], workdir: Path) -> Potential:
        """The potential that the program left, if it is one, is another one, and predicts numbers.

        Raises:
            TrainingError: it is not.
        """
        path = workdir / self.output
        todo = f"look at stdout and stderr in {workdir}"
        if not path.is_file():
            raise TrainingError(
                f"the training ended well and left no {self.output}",
                expected=f"the tuned potential in {path}",
                todo=f"{todo}; training: command: potential names another file",
            )
        try:
            tuned = open_alike(start, path, self.device)
        except Exception as error:  # of whatever the family's library makes of a damaged file
            why = error.got if isinstance(error, SurveyorError) else f"{type(error).__name__}: {error}"
            raise TrainingError(
                f"what the training left cannot be opened: {why.strip().splitlines()[0]}",
                expected=f"a potential of the family {start.family!r} in {path}",
                todo=todo,
            ) from error
        if tuned.fingerprint == start.fingerprint:
            raise TrainingError(
                "the training changed nothing: the tuned potential is the one that it started from",
                expected="weights that moved",
                todo=todo,
            )
        if lost := set(start.elements) - set(tuned.elements):
            raise TrainingError(
                f"the tuned potential has lost {', '.join(chemical_symbols[z] for z in sorted(lost))}",
                expected="the elements of the potential that the training started from",
                todo=todo,
            )
        try:
            predicted = tuned.predict(train)
        except SurveyorError as error:
            raise TrainingError(
                f"of the tuned potential: {error.got}", expected="numbers", todo=todo
            ) from error
        if not all(np.isfinite(p.energy) and np.isfinite(p.forces).all() for p in predicted):
            raise TrainingError("the tuned potential predicts NaN or inf", expected="numbers", todo=todo)
        return tuned


def _fitted(train: Sequence[Atoms]) -> dict[int, float]:
    """Atomic number → δ_z (eV) of `element_offsets`, of the training energies."""
    elements = elements_of(train)
    per_atom = np.array([labels_of(atoms).energy / len(atoms) for atoms in train])
    return dict(zip(elements, element_offsets(per_atom, train, elements).tolist(), strict=True))
