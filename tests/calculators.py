"""Calculators for the tests: real energies (EMT), plus the misbehaviour that a test asks for."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from surveyor.structures import structure_id


class CountingEMT(EMT):
    """EMT that writes the id of every structure to a file when it has finished it."""

    def __init__(self, log: str, seconds: float = 0.0) -> None:
        super().__init__()
        self._log, self._pause = Path(log), seconds

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        time.sleep(self._pause)
        assert atoms is not None
        with self._log.open("a") as file:
            file.write(structure_id(atoms) + "\n")


class FailingEMT(EMT):
    """EMT that fails in the named way for structures whose first atom is an oxygen."""

    def __init__(self, how: str, log: str = os.devnull) -> None:
        super().__init__()
        self._how, self._log = how, Path(log)

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        assert atoms is not None
        if atoms.symbols[0] != "O":
            return
        if self._how == "raise":
            raise RuntimeError("SCF did not converge")
        if self._how == "nan":
            self.results["energy"] = float("nan")
        if self._how == "die":
            os._exit(3)
        if self._how == "hang":
            helper = subprocess.Popen(["sleep", "600"])  # as a calculator that runs a program
            with self._log.open("a") as file:
                file.write(f"{os.getpid()} {helper.pid}\n")
            time.sleep(600)


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


class Stubborn(Calculator):
    """Energies and forces that are computed by nothing; what an own attribute says is done or returned."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress", "free_energy"]

    def __init__(self, act: str = "", energy: str = "1.5", forces: str = "", **more: str) -> None:
        super().__init__()
        self._act, self._energy, self._forces, self._more = act, energy, forces, more

    def calculate(self, atoms: Atoms | None = None, *args: Any, **kwargs: Any) -> None:
        super().calculate(atoms, *args, **kwargs)
        assert atoms is not None
        names = {"atoms": atoms, "own": self.atoms, "np": np, "n": len(atoms)}
        exec(self._act, names)  # noqa: S102  (the tests' own words)
        texts = {"energy": self._energy, "forces": self._forces or "np.ones((n, 3))", **self._more}
        self.results = {key: eval(text, names) for key, text in texts.items()}  # noqa: S307


class Weighted(Stubborn):
    """Its energy stands in a file."""

    def __init__(self, model: str) -> None:
        super().__init__(energy=f"float(open({model!r}).read())")
