"""Energy and forces out of what an external program wrote."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed
from pydantic import AfterValidator, Field, model_validator

from surveyor.labelling.converged import convergence
from surveyor.labelling.printed import Pattern
from surveyor.settings import Settings
from surveyor.structures.comparison import compare
from surveyor.structures.real import real
from surveyor.types import Float64Array

STDOUT = "stdout"
STDERR = "stderr"
TOLERANCE = 2e-3
"""Å; programs print positions with as few as three decimals."""

ENERGY_UNITS = {
    "eV": 1.0,
    "Hartree": units.Hartree,
    "Rydberg": units.Rydberg,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
}
LENGTH_UNITS = {"Å": 1.0, "Angstrom": 1.0, "Bohr": units.Bohr}
FORCE_UNITS = {f"{e}/{x}": ev / a for e, ev in ENERGY_UNITS.items() for x, a in LENGTH_UNITS.items()}


def inside(name: str) -> str:
    """The name, if it stays in the scratch folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError("the name of a file inside the scratch folder")
    return name


def _pattern(text: str) -> str:
    try:
        _compiled(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


def _one_of(units: Mapping[str, float]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in units:
            raise ValueError("one of " + ", ".join(units))
        return name

    return AfterValidator(check)


@functools.cache
def _compiled(text: str) -> Pattern:
    return Pattern(text)


FileName = Annotated[str, AfterValidator(inside)]
PatternText = Annotated[str, AfterValidator(_pattern)]


class EnergyOutput(Settings):
    """The energy is the one group of the last match of `pattern` in `file`."""

    pattern: PatternText
    unit: Annotated[str, _one_of(ENERGY_UNITS)]
    file: FileName = STDOUT

    @model_validator(mode="after")
    def _one_group(self) -> EnergyOutput:
        if _compiled(self.pattern).groups != 1:
            raise ValueError("pattern needs one <number>, or one group in parentheses")
        return self


class RowsOutput(Settings):
    """Forces or gradient: the lines behind the last match of `after` that match `row`, one behind the other.

    `row` has three groups, x y z of an atom, or one, and then there is a line per component.
    """

    after: PatternText
    unit: Annotated[str, _one_of(FORCE_UNITS)]
    row: PatternText = r"<number>\s+<number>\s+<number>\s*$"
    file: FileName = STDOUT

    @model_validator(mode="after")
    def _groups(self) -> RowsOutput:
        if _compiled(self.row).groups not in (1, 3):
            raise ValueError("row needs three <number> (x, y, z of an atom) or one (a component)")
        return self


class OutputSettings(Settings):
    """Where the results stand: by patterns, or in a file that an ASE reader opens.

    | field           | meaning                                                          |
    |-----------------|------------------------------------------------------------------|
    | energy          | by pattern                                                       |
    | forces, gradient | one of them, by pattern; the gradient is minus the forces       |
    | file, format    | instead: a file and its format, as `ase.io.read` names it        |
    | require, forbid | patterns that what it printed must, or must not, contain         |
    """

    energy: EnergyOutput | None = None
    forces: RowsOutput | None = None
    gradient: RowsOutput | None = None
    file: FileName | None = None
    format: str | None = None
    require: list[PatternText] = Field(default_factory=list)
    forbid: list[PatternText] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_way(self) -> OutputSettings:
        by_pattern = (self.energy is not None, (self.forces is None) != (self.gradient is None))
        if self.file is None and not all(by_pattern):
            raise ValueError("output needs energy and one of forces, gradient; or file and format")
        if self.file is not None and (self.energy or self.forces or self.gradient):
            raise ValueError("output takes patterns (energy, forces) or an ASE reader (file), not both")
        if self.format is not None and self.file is None:
            raise ValueError("output: format goes with file")
        return self


def read_output(settings: OutputSettings, folder: Path, atoms: Atoms) -> dict[str, Any]:
    """What the scratch folder of a finished program says, under ASE's names: energy, forces, perhaps more.

    Raises:
        CalculationFailed: a file, a pattern, a number or a row is missing, or they are of another structure.
    """
    log = _text(folder, STDOUT) + "\n" + _text(folder, STDERR)
    for pattern in settings.forbid:
        if match := _compiled(pattern).strict.search(log):
            raise CalculationFailed(f"the output says {' '.join(match.group().split())[:80]!r}")
    for pattern in settings.require:
        if not _compiled(pattern).strict.search(log):
            raise CalculationFailed(f"the output lacks {pattern!r}")
    if settings.file is not None:
        return _by_reader(folder, settings.file, settings.format, atoms)
    rows = settings.forces or settings.gradient
    assert settings.energy is not None  # noqa: S101
    assert rows is not None  # noqa: S101
    energy = read_energy(settings.energy, _text(folder, settings.energy.file))
    values = _rows(rows, folder, len(atoms))
    return {"energy": energy, "forces": values if settings.forces else -values}


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CalculationFailed(f"the program left no {name} ({error.strerror})") from None


def read_energy(settings: EnergyOutput, text: str) -> float:
    """The energy in what a program printed, in eV.

    Raises:
        CalculationFailed: there is none, or what stands there is no number as a whole.
    """
    found = _compiled(settings.pattern).last(text, f"energy in {settings.file}")
    if found is None:
        raise CalculationFailed(f"no energy: nothing in {settings.file} matches {settings.pattern!r}")
    unit: float = ENERGY_UNITS[settings.unit]
    return found * unit


def _rows(settings: RowsOutput, folder: Path, n_atoms: int) -> Float64Array:
    """(n_atoms, 3) values of the block, in eV/Å."""
    text, what = _text(folder, settings.file), f"forces in {settings.file}"
    starts = list(_compiled(settings.after).strict.finditer(text))
    if not starts:
        raise CalculationFailed(f"no {what}: nothing matches {settings.after!r}")
    row = _compiled(settings.row)
    expected = n_atoms * 3 // row.groups
    block: list[list[float]] = []
    for line in text[starts[-1].end() :].splitlines()[1:]:  # not the rest of the heading
        complete = len(block) == expected
        numbers = row.row(line, what, strictly=not complete)
        if numbers:
            block.append(numbers)
        elif block:
            break
    if len(block) != expected:
        raise CalculationFailed(f"{what}: {len(block)} rows for {n_atoms} atoms, {expected} expected")
    unit: float = FORCE_UNITS[settings.unit]
    return np.array(block, dtype=np.float64).reshape(n_atoms, 3) * unit


def _by_reader(folder: Path, name: str, form: str | None, atoms: Atoms) -> dict[str, Any]:
    _text(folder, name)
    try:
        found: Any = ase.io.read(folder / name, index=-1, format=form)
        found.set_constraint()
        energy = found.get_potential_energy()
        forces = real(found.get_forces(), (len(found), 3), "forces")
        doubt = convergence(folder / name, form).of()
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise CalculationFailed(f"ASE found no labels in {name}: {type(error).__name__}: {reason}") from error
    if doubt:
        raise CalculationFailed(f"{name} is not converged: {doubt}")
    match = compare(atoms, found, TOLERANCE)
    if match.order is None:
        raise CalculationFailed(f"{name} is of another structure: {match.reason}")
    results = {"energy": energy, "forces": forces[match.order]}
    others = {key: found.calc.results.get(key) for key in ("free_energy", "stress")}
    return results | {key: value for key, value in others.items() if value is not None}
