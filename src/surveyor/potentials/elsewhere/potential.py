"""A potential in a process of another environment, as one of this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from surveyor.potentials.elsewhere.messages import Arrays, Message, packed
from surveyor.potentials.elsewhere.process import Process
from surveyor.structures.validation import check_elements
from surveyor.types import Features, Labels

if TYPE_CHECKING:
    from surveyor.potentials.base import Dtype

MAX_STRUCTURES, MAX_ATOMS = 256, 16384
"""Of one question."""


class DistantPotential:
    """A potential that another process has opened; see `Remote`.

    | attribute | meaning                                                |
    |-----------|--------------------------------------------------------|
    | process   | which has it                                           |
    | about     | what that process told of it when it was opened        |
    """

    def __init__(self, process: Process, about: Mapping[str, Any]) -> None:
        self.process = process
        self.number = int(about["number"])
        self.family = str(about["family"])
        self.fingerprint = str(about["fingerprint"])
        self.elements: tuple[int, ...] = tuple(about["elements"])
        self.suffix = str(about["suffix"])

    def __repr__(self) -> str:
        return f"DistantPotential({self.family} {self.fingerprint[:12]} in {self.process.python})"

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV) and forces (eV/Å), in order.

        Raises:
            SurveyorError: an element is unknown, or what the other process raises.
        """
        found: list[Labels] = []
        for part in _parts(structures, self.elements):
            arrays = self._asked({"do": "predict"}, packed(part)).arrays
            forces = np.split(arrays["forces"], np.cumsum([len(atoms) for atoms in part])[:-1])
            stresses = arrays.get("stresses", [None] * len(part))
            each = zip(arrays["energies"].tolist(), forces, stresses, strict=True)
            found += [Labels(energy, own.copy(), stress) for energy, own, stress in each]
        return found

    def calculator(self) -> Calculator:
        """ASE's calculator around `predict`."""
        from surveyor.potentials.prediction import PotentialCalculator

        return PotentialCalculator(self)

    def save(self, path: Path) -> None:
        """Write the potential in its family's own format."""
        self._asked({"do": "save", "path": str(Path(path).absolute())})

    def opened(self, path: Path, device: str | None) -> DistantPotential:
        """A file of its family, opened by the same process."""
        source = f"{self.family}:{Path(path).absolute()}"
        return _opened(self.process, source, device)

    def feature_map(
        self, name: str, given: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> DistantFeatures:
        """A feature map of that name over the potential, which the other process computes."""
        question = {"do": "feature_map", "name": name, "given": dict(given), "settings": dict(settings)}
        return DistantFeatures(self, self._asked(question).said)

    def _asked(self, said: Mapping[str, Any], arrays: Arrays | None = None) -> Message:
        return self.process.ask(Message({**said, "potential": self.number}, arrays or {}))


class ShiftableDistantPotential(DistantPotential):
    """One whose family can shift reference energies."""

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> DistantPotential:
        """A copy whose energies have so many eV more for each atom of the elements; the same forces."""
        pairs = [[int(z), float(shift)] for z, shift in shifts.items()]
        return _told(self.process, self._asked({"do": "shift", "shifts": pairs}).said)


class DistantFeatures:
    """A feature map that another process computes."""

    def __init__(self, potential: DistantPotential, about: Mapping[str, Any]) -> None:
        self.potential = potential
        self.number = int(about["number"])
        self.dim = int(about["dim"])
        self.settings: Mapping[str, object] = about["settings"]

    def __call__(self, structures: Sequence[Atoms]) -> Features:
        found = []
        for part in _parts(structures, self.potential.elements):
            question = Message({"do": "features", "feature_map": self.number}, packed(part))
            arrays = self.potential.process.ask(question).arrays
            found.append(Features(arrays["values"], arrays["owner"].astype(np.intp), len(part)))
        return Features.concatenate(found) if found else Features.empty(self.dim)


def open_elsewhere(
    python: str | Path, source: str, device: str | None, dtype: Dtype | None, head: str | None
) -> DistantPotential:
    """Open a potential with the Python of another environment; see `open_potential`."""
    return _opened(Process(Path(python)), source, device, dtype, head)


def _opened(
    process: Process, source: str, device: str | None, dtype: Dtype | None = None, head: str | None = None
) -> DistantPotential:
    said = {"do": "open", "source": source, "device": device, "dtype": dtype, "head": head}
    return _told(process, process.ask(Message(said)).said)


def _told(process: Process, about: Mapping[str, Any]) -> DistantPotential:
    kind = ShiftableDistantPotential if about["shiftable"] else DistantPotential
    return kind(process, about)


def _parts(structures: Sequence[Atoms], elements: Sequence[int]) -> Iterator[list[Atoms]]:
    from surveyor.potentials.graphs import pack

    for number, atoms in enumerate(structures):
        check_elements(atoms, elements, f"structure {number}")
    return pack(structures, MAX_ATOMS, MAX_STRUCTURES)
