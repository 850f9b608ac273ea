"""ASE calculators by import path, made anew in the process that runs them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from surveyor.errors import LabellingError
from surveyor.structures.identity import total_charge, total_spin
from surveyor.types import Failure, Labels


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
        packages: installed distributions whose versions stand in the name of the method; None takes the one
            that the path begins with.
        decisive: what else of the settings decides the numbers, as text; None takes path, settings and keys.
    """

    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    charge_key: str | None = None
    spin_key: str | None = None
    name: str | None = None
    packages: tuple[str, ...] | None = None
    decisive: str | None = None

    def load_class(self) -> type[Calculator]:
        """The calculator class.

        Raises:
            LabellingError: it cannot be imported.
        """
        module_name, _, class_name = self.path.replace(":", ".").rpartition(".")
        try:
            return getattr(importlib.import_module(module_name), class_name)  # type: ignore[no-any-return]
        except (ImportError, AttributeError, ValueError) as error:
            raise LabellingError(
                f"calculator {self.path!r} cannot be imported: {error}",
                expected="the import path of an ASE calculator, such as tblite.ase:TBLite",
                todo="check the spelling, and that its package is installed in this environment",
            ) from error

    @property
    def method(self) -> str:
        """File-name-safe name of code, version and settings."""
        packages = (self._top_package,) if self.packages is None else self.packages
        parts = [self.name or re.split(r"[.:]", self.path)[-1].lower()]
        for package in packages:
            parts += [package, _version(package)]
        text = self.decisive or json.dumps(
            [self.path, dict(self.settings), self.charge_key, self.spin_key], sort_keys=True, default=repr
        )
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
        return re.sub(r"[^A-Za-z0-9.+-]", "-", "-".join(parts))

    @property
    def _top_package(self) -> str:
        return self.path.replace(":", ".").split(".")[0]

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


def compute(spec: CalculatorSpec, atoms: Atoms) -> Labels | Failure:
    """Energy (eV) and forces (eV/Å) of one structure; whatever the calculator raises becomes a Failure."""
    trial = atoms.copy()
    try:
        trial.calc = spec.build(atoms)
        energy = float(trial.get_potential_energy())
        forces = np.asarray(trial.get_forces(), dtype=np.float64)
    except LabellingError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()
        return Failure(f"{type(error).__name__}: {reason[0][:300] if reason else 'no message'}")
    if forces.shape != (len(atoms), 3):
        return Failure(f"forces of shape {forces.shape} for {len(atoms)} atoms", final=True)
    if not np.isfinite(energy) or not np.isfinite(forces).all():
        return Failure("energy or forces are NaN or inf", final=True)
    return Labels(energy=energy, forces=forces, stress=_stress(trial))


def _stress(atoms: Atoms) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    if not atoms.pbc.all():
        return None
    try:
        stress = np.asarray(atoms.get_stress(), dtype=np.float64)
    except (PropertyNotImplementedError, NotImplementedError):
        return None
    return stress if np.isfinite(stress).all() else None
