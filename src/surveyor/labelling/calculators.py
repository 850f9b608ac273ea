"""ASE calculators by import path, made anew in the process that runs them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress

from surveyor.errors import LabellingError
from surveyor.labelling.naming import absolute, by_content, origins
from surveyor.labelling.printing import off_stdout
from surveyor.structures.identity import total_charge, total_spin
from surveyor.structures.real import NotRealError, real
from surveyor.types import Failure, Float64Array, Labels

MOVED = 1e-6
"""Å; an atom or cell vector that is further off after a calculation has been moved by it."""

SAME_ENERGY = 1e-8
"""eV; free energy and energy that agree better than this are one."""

NAME_LENGTH = 180
"""Characters of a method's name; file systems take 255 with what is appended."""


@dataclass(frozen=True)
class CalculatorSpec:
    """Which ASE calculator labels, and with which settings.

    Args:
        path: `module:Class` or `module.Class`.
        settings: keyword arguments of the class.
        charge_key: keyword argument that receives the structure's total charge (e); None where the
            calculator takes none.
        spin_key: keyword argument that receives the spin multiplicity 2S+1.
        name: short name of the method; None makes one from the class and the settings.
        packages: installed distributions whose versions stand in the name of the method; None looks whose
            code the class is.
        decisive: what else of the settings decides the numbers, as text; None takes path, settings (files
            that they name by their content) and keys.
        before: `decisive` of the version of Surveyor that did not look at contents, where it differs.
        legacy: name and compute as that version did, for journals that it began.
    """

    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    charge_key: str | None = None
    spin_key: str | None = None
    name: str | None = None
    packages: tuple[str, ...] | None = None
    decisive: str | None = None
    before: str | None = None
    legacy: bool = False

    def load_class(self) -> type[Calculator]:
        """The calculator class; what its import prints does not reach the standard output.

        Raises:
            LabellingError: it cannot be imported.
        """
        module_name, _, class_name = self.path.replace(":", ".").rpartition(".")
        try:
            with contextlib.nullcontext() if module_name in sys.modules else off_stdout():
                return getattr(importlib.import_module(module_name), class_name)  # type: ignore[no-any-return]
        except (Exception, SystemExit) as error:
            raise LabellingError(
                f"calculator {self.path!r} cannot be imported: {type(error).__name__}: {error}",
                expected="the import path of an ASE calculator, such as tblite.ase:TBLite",
                todo="check the spelling, and that its package is installed in this environment",
            ) from error

    @property
    def method(self) -> str:
        """File-name-safe name of what computes: code, version, settings and files that they name.

        Calculators that have a free energy label with it, and their names say so.
        """
        if self.legacy:
            return self.legacy_method
        if self.packages is not None:
            parts = [part for package in self.packages for part in (package, _version(package))]
        else:
            thing = self.load_class()
            parts = [part for origin in origins(thing) for part in origin]
            if "free_energy" in (getattr(thing, "implemented_properties", None) or ()):
                parts.append("free")
        return self._named(parts, self.decisive or self._text(by_content(dict(self.settings))))

    @property
    def legacy_method(self) -> str:
        """The name that the version of Surveyor gave which knew no contents: top package and settings."""
        top = self.path.replace(":", ".").split(".")[0]
        packages = (top,) if self.packages is None else self.packages
        parts = [part for package in packages for part in (package, _version(package))]
        return self._named(parts, self.before or self.decisive or self._text(dict(self.settings)))

    def _text(self, settings: object) -> str:
        content = [self.path, settings, self.charge_key, self.spin_key]
        return json.dumps(content, sort_keys=True, default=repr)

    def _named(self, parts: list[str], text: str) -> str:
        name = self.name or re.split(r"[.:]", self.path)[-1].lower()
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        words = re.sub(r"[^A-Za-z0-9.+-]", "-", "-".join([name, *parts]))
        return f"{words[:NAME_LENGTH]}-{digest}"

    def build(self, atoms: Atoms) -> Calculator:
        """A fresh calculator with the structure's charge and spin.

        Raises:
            LabellingError: the class does not take these settings.
        """
        arguments = dict(self.settings)
        if self.charge_key:
            arguments[self.charge_key] = total_charge(atoms)
        if self.spin_key:
            arguments[self.spin_key] = total_spin(atoms)
        try:
            return self.load_class()(**arguments)
        except TypeError as error:
            raise LabellingError(
                f"calculator {self.path} does not take {sorted(arguments)}: {error}",
                expected="keyword arguments of its class",
                todo="look at the calculator's documentation",
            ) from error

    def resolved(self) -> CalculatorSpec:
        """The same calculator for a process in another folder: relative paths that exist become absolute.

        `directory` and `label` are ASE's names for where a calculator writes: they stay, or become, relative,
        so that no two calculations share a folder.
        """
        if self.packages is not None:
            return self
        settings = {
            key: PurePath(str(value)).name or "."
            if key in ("directory", "label") and value is not None
            else absolute(value, key)
            for key, value in self.settings.items()
        }
        return replace(self, settings=settings)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unversioned"


GFN2 = CalculatorSpec(
    path="tblite.ase:TBLite",
    settings={"method": "GFN2-xTB", "verbosity": 0},
    charge_key="charge",
    spin_key="multiplicity",
    name="gfn2-xtb",
)
"""GFN2-xTB through tblite (doi 10.1021/acs.jctc.8b01176): the default labelling method."""


class _ChangedError(Exception):
    """The calculator changed the atoms: whatever it computed is not of this structure."""


def compute(spec: CalculatorSpec, atoms: Atoms) -> Labels | Failure:
    """The calculator's own energy (eV) and forces (eV/Å) of one structure, without any constraint.

    Whatever it raises becomes a Failure, and so does what is no label: the energy of atoms that it moved, and
    anything but finite real numbers.

    Raises:
        LabellingError: the calculator can work for no structure.
    """
    bare = atoms.copy()
    bare.set_constraint()
    try:
        return _labels(spec, bare)
    except LabellingError:
        raise
    except (NotRealError, _ChangedError) as error:
        return Failure(plain(str(error)), final=True)
    except Exception as error:
        return Failure(plain(f"{type(error).__name__}: {str(error).strip() or 'no message'}"))


def plain(text: str) -> str:
    """The first line, without what a terminal would take for a command."""
    line = next(iter(text.splitlines()), "")
    return "".join(c if c.isprintable() else " " for c in line[:300])


def _labels(spec: CalculatorSpec, bare: Atoms) -> Labels:
    trial = bare.copy()
    trial.calc = calculator = spec.build(bare)
    energy = real(trial.get_potential_energy(apply_constraint=False), (), "energy")
    _check_unchanged(bare, trial, calculator)
    forces = real(trial.get_forces(apply_constraint=False), (len(bare), 3), "forces")
    _check_unchanged(bare, trial, calculator)
    # Where electrons are smeared, the forces are the gradient of the free energy.
    free = (getattr(calculator, "results", None) or {}).get("free_energy")
    free = energy if free is None or spec.legacy else real(free, (), "free energy")
    stress = _stress(trial)
    _check_unchanged(bare, trial, calculator)
    return Labels(float(free), forces, stress, free_energy=bool(abs(free - energy) > SAME_ENERGY))


def _stress(trial: Atoms) -> Float64Array | None:
    if not trial.pbc.all():
        return None
    try:
        stress = trial.calc.get_stress(trial)
    except (PropertyNotImplementedError, NotImplementedError):
        return None
    if np.shape(stress) == (3, 3):
        stress = full_3x3_to_voigt_6_stress(real(stress, (3, 3), "stress"))
    return real(stress, (6,), "stress")


def _check_unchanged(bare: Atoms, trial: Atoms, calculator: Calculator) -> None:
    """The atoms, and the calculator's own copy of them, are still those that were asked about.

    Raises:
        _ChangedError: they are not.
    """
    own = getattr(calculator, "atoms", None)
    for found in (trial, own) if isinstance(own, Atoms) else (trial,):
        if what := _change(bare, found):
            raise _ChangedError(f"the calculator changed {what} of the structure that it was asked about")


def _change(before: Atoms, after: Atoms) -> str | None:
    if not np.array_equal(before.numbers, after.numbers):
        return "the elements, or the order of the atoms,"
    if not np.array_equal(before.pbc, after.pbc):
        return "the periodic directions"
    cells = (before.cell.array - after.cell.array)[before.pbc]  # the others mean nothing
    if not (np.abs(cells) < MOVED).all():
        return "the cell"
    if not (np.abs(before.positions - after.positions) < MOVED).all():
        return "the positions"
    return None
