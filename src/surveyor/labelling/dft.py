"""Density functional theory of molecules by PySCF, as an ASE calculator (extra `surveyor[pyscf]`)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, SCFError, all_changes
from ase.units import Bohr, Hartree
from pydantic import Field, PositiveFloat, PositiveInt

from surveyor.errors import LabellingError
from surveyor.labelling.calculators import CalculatorSpec
from surveyor.settings import Settings

if TYPE_CHECKING:
    from pyscf.dft.rks import RKS
    from pyscf.gto import Mole


class PySCFSettings(Settings):
    """Level of theory and convergence.

    | field         | meaning                                                                      | unit    |
    |---------------|------------------------------------------------------------------------------|---------|
    | functional    | any name that libxc or PySCF knows; hf is Hartree-Fock                       |         |
    | basis         | one name, or element → name                                                  |         |
    | density_fit   | Coulomb and exchange integrals by density fitting                            |         |
    | auxbasis      | fitting basis; None takes PySCF's choice for the basis                       |         |
    | dispersion    | d3bj, d3zero or d4, parameters of the functional; needs pyscf-dispersion     |         |
    | grid_level    | integration grid, 0 (coarse) to 9                                            |         |
    | grid_response | forces include the motion of the grid: exact derivatives, somewhat slower    |         |
    | conv_tol      | energy change at which the SCF has converged                                 | Hartree |
    | max_cycle     | SCF iterations                                                               |         |
    | level_shift   | of the virtual orbitals while the SCF converges                              | Hartree |
    | second_order  | Newton iterations go on where the SCF did not converge                       |         |
    | memory        | upper limit                                                                  | MB      |
    """

    functional: str = Field(default="pbe", min_length=1)
    basis: str | dict[str, str] = "def2-svp"
    density_fit: bool = True
    auxbasis: str | None = None
    dispersion: Literal["d3bj", "d3zero", "d4"] | None = None
    grid_level: int = Field(default=3, ge=0, le=9)
    grid_response: bool = False
    conv_tol: PositiveFloat = 1e-9
    max_cycle: PositiveInt = 100
    level_shift: float = Field(default=0.0, ge=0)
    second_order: bool = True
    memory: PositiveInt = 4000

    @property
    def level(self) -> str:
        """Short name, such as pbe-d3bj/def2-svp."""
        basis = self.basis if isinstance(self.basis, str) else "mixed-basis"
        return "-".join(filter(None, (self.functional, self.dispersion))) + f"/{basis}"


def pyscf_spec(settings: PySCFSettings) -> CalculatorSpec:
    """The specification of a PySCF labeller; charge and multiplicity come from each structure."""
    content = settings.model_dump(mode="json")
    return CalculatorSpec(
        path="surveyor.labelling.dft:PySCF",
        settings={"settings": settings},
        charge_key="charge",
        spin_key="multiplicity",
        name=settings.level,
        packages=("pyscf", "pyscf-dispersion") if settings.dispersion else ("pyscf",),
        decisive=json.dumps({k: v for k, v in content.items() if k != "memory"}, sort_keys=True),
    )


class PySCF(Calculator):  # type: ignore[misc]
    """Kohn-Sham energies and analytic gradients: restricted for singlets, unrestricted otherwise.

    | variable | meaning                | unit                                      |
    |----------|------------------------|-------------------------------------------|
    | energy   | E, dispersion included | Hartree → eV, with ASE's constants        |
    | forces   | −∂E/∂R                 | Hartree/Bohr → eV/Å, with ASE's constants |

    Args:
        settings: level of theory; a mapping is checked.
        charge: total charge in e.
        multiplicity: 2S+1.

    Raises:
        LabellingError: PySCF is not installed, or does not know functional, basis or dispersion.
        SCFError: the SCF did not converge; there is no label then.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(
        self,
        settings: PySCFSettings | Mapping[str, Any] | None = None,
        *,
        charge: int = 0,
        multiplicity: int = 1,
    ) -> None:
        super().__init__()
        self.settings = PySCFSettings.model_validate(settings or {})
        self.charge, self.multiplicity = charge, multiplicity

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Energy and forces; see the class."""
        super().calculate(atoms, properties, system_changes)
        molecule = _molecule(self.atoms, self.settings, self.charge, self.multiplicity)
        field = _mean_field(molecule, self.settings, self.multiplicity)
        field = _converged(field, self.settings)
        gradient = field.nuc_grad_method()
        gradient.grid_response = self.settings.grid_response
        self.results = {
            "energy": float(field.e_tot) * Hartree,
            "forces": -np.asarray(gradient.kernel(), dtype=np.float64) * (Hartree / Bohr),
        }


def _molecule(atoms: Atoms, settings: PySCFSettings, charge: int, multiplicity: int) -> Mole:
    if atoms.pbc.any():
        raise CalculationFailed("a periodic structure; this labeller computes molecules only")
    try:
        from pyscf import gto
        from pyscf.lib.exceptions import BasisNotFoundError
    except ImportError as error:
        raise LabellingError(
            f"the calculator pyscf cannot be used: {error}",
            expected="PySCF installed in this environment",
            todo="pip install 'surveyor[pyscf]'",
        ) from error
    electrons = int(atoms.numbers.sum()) - charge
    if electrons < multiplicity - 1 or (electrons - multiplicity + 1) % 2:
        raise CalculationFailed(f"{electrons} electrons cannot have the multiplicity {multiplicity}")
    if not isinstance(settings.basis, str) and (missing := set(atoms.symbols) - set(settings.basis)):
        raise LabellingError(
            f"the mapping of basis sets lacks {', '.join(sorted(missing))}",
            expected="a basis set for every element of the structures",
            todo="add it under labels: settings: basis",
        )
    molecule = gto.Mole()
    molecule.atom = list(zip(atoms.symbols, (atoms.positions / Bohr).tolist(), strict=True))
    molecule.unit, molecule.verbose, molecule.max_memory = "Bohr", 0, settings.memory
    molecule.basis = settings.basis
    molecule.ecp = _core_potentials(atoms, settings)
    molecule.charge, molecule.spin = charge, multiplicity - 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            molecule.build(dump_input=False, parse_arg=False)
    except (BasisNotFoundError, KeyError, OSError) as error:
        raise LabellingError(
            f"PySCF has no basis {settings.basis!r} for {atoms.symbols}: {' '.join(str(error).split())}",
            expected="a basis set of PySCF that knows every element of the structures",
            todo="check the spelling of labels: settings: basis, or name one an element: {H: …, Xe: …}",
        ) from error
    return molecule


def _core_potentials(atoms: Atoms, settings: PySCFSettings) -> dict[str, str]:
    """The effective core potentials that belong to the basis: def2-svp of iodine means nothing without."""
    from pyscf import gto

    found: dict[str, str] = {}
    for symbol in sorted(set(atoms.symbols)):
        basis = settings.basis if isinstance(settings.basis, str) else settings.basis.get(symbol, "")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if gto.basis.load_ecp(basis, symbol):
                    found[symbol] = basis
        except Exception:  # noqa: S112  (PySCF raises several types where there is none)
            continue
    return found


def _mean_field(molecule: Mole, settings: PySCFSettings, multiplicity: int) -> RKS:
    from pyscf import dft

    field = dft.RKS(molecule) if multiplicity == 1 else dft.UKS(molecule)
    try:
        dft.libxc.parse_xc(settings.functional)
    except (KeyError, ValueError) as error:
        raise LabellingError(
            f"PySCF does not know the functional {settings.functional!r}",
            expected="a name such as pbe, r2scan, b3lyp, pbe0, wb97x-v or hf",
            todo="check the spelling of labels: settings: functional",
        ) from error
    field.xc = settings.functional
    field.grids.level = settings.grid_level
    if settings.density_fit:
        field = field.density_fit(auxbasis=settings.auxbasis)
        _check_fitting(field, settings)
    if settings.dispersion:
        field.disp = settings.dispersion
        _check_dispersion(field, settings)
    field.conv_tol, field.max_cycle = settings.conv_tol, settings.max_cycle
    field.level_shift = settings.level_shift
    field.chkfile = None
    return field


def _check_fitting(field: RKS, settings: PySCFSettings) -> None:
    from pyscf import df
    from pyscf.lib.exceptions import BasisNotFoundError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            df.addons.make_auxmol(field.mol, settings.auxbasis)
    except BasisNotFoundError as error:
        raise LabellingError(
            f"PySCF has no fitting basis {settings.auxbasis!r}: {' '.join(str(error).split())}",
            expected="a fitting basis of PySCF, such as def2-universal-jkfit; null takes the usual one",
            todo="check labels: settings: auxbasis",
        ) from error


def _check_dispersion(field: RKS, settings: PySCFSettings) -> None:
    try:
        field.get_dispersion()
    except Exception as error:
        raise LabellingError(
            f"no {settings.dispersion} dispersion for {settings.functional}: {' '.join(str(error).split())}",
            expected="pyscf-dispersion installed, and a functional that it has parameters for",
            todo="pip install pyscf-dispersion, or leave labels: settings: dispersion out",
        ) from error


def _converged(field: RKS, settings: PySCFSettings) -> RKS:
    field.kernel()
    if not field.converged and settings.second_order:
        newton = field.newton()
        newton.max_cycle = settings.max_cycle
        newton.kernel(field.mo_coeff, field.mo_occ)
        field = newton
    if not field.converged:
        raise SCFError(
            f"{settings.level}: the SCF did not converge in {settings.max_cycle} iterations"
            + (", nor did Newton iterations after it" if settings.second_order else "")
        )
    return field
