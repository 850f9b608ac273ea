"""A generic, non-reactive, diverse set of molecules over H C N O F S Cl Br, assembled from listed parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surveyor.errors import ConfigError
from surveyor.lab.pretraining.parts import ALONE, COMMON, FRAGMENTS, LISTED, REFUSED, SITES_ACID, SITES_BASE

if TYPE_CHECKING:
    from surveyor.lab.pretraining.recipe import MoleculesSpec

ELEMENTS = (1, 6, 7, 8, 9, 16, 17, 35)


@dataclass(frozen=True)
class Molecule:
    """A closed-shell molecule or ion: canonical SMILES, total charge, number of heavy atoms."""

    smiles: str
    charge: int
    heavy_atoms: int


def require_rdkit() -> Any:
    """The module `rdkit.Chem`, with its messages silenced.

    Raises:
        ConfigError: RDKit is not installed.
    """
    try:
        from rdkit import Chem, RDLogger
    except ImportError as missing:
        raise ConfigError(
            "pretraining assembles its molecules with RDKit, which is not installed",
            todo="pip install 'surveyor[pretrain]'",
        ) from missing
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    return Chem


def make_molecules(spec: MoleculesSpec, seed: int) -> list[Molecule]:
    """`spec.count` different molecules: the listed ones first, then seeded assemblies.

    A pure function of its arguments (and of RDKit's version, which writes the canonical SMILES).

    Raises:
        ConfigError: RDKit is missing, or the parts cannot give so many molecules within the size limit.
    """
    Chem = require_rdkit()
    rng = np.random.default_rng([seed, 1])
    found: dict[str, Molecule] = {}
    for smiles in LISTED:
        molecule = _molecule(Chem.MolFromSmiles(smiles), spec.max_heavy_atoms)
        if molecule is not None and len(found) < spec.count:
            found.setdefault(molecule.smiles, molecule)
    refused = [Chem.MolFromSmarts(pattern) for pattern in REFUSED]
    parts = [Chem.MolFromSmiles(smiles) for smiles in FRAGMENTS]
    weights = np.array([3.0 if smiles in COMMON else 1.0 for smiles in FRAGMENTS])
    idle = 0
    while len(found) < spec.count:
        mol = _assemble(Chem, parts, weights / weights.sum(), spec.max_heavy_atoms, rng)
        if mol is not None and rng.random() < spec.ion_share * 1.5:  # some have no site
            mol = _ion(Chem, mol, rng)
        fits = mol is not None and not any(mol.HasSubstructMatch(pattern) for pattern in refused)
        molecule = _molecule(mol, spec.max_heavy_atoms) if fits else None
        if molecule is None or molecule.smiles in found:
            idle += 1
            if idle > 2000:
                raise ConfigError(
                    f"only {len(found)} different molecules found",
                    expected=f"molecules.count = {spec.count}",
                    todo="lower molecules.count or raise molecules.max_heavy_atoms",
                )
            continue
        idle = 0
        found[molecule.smiles] = molecule
    return list(found.values())


def _molecule(mol: Any, max_heavy_atoms: int) -> Molecule | None:
    """The value for an RDKit molecule; None if it is too large, radical or of another element."""
    Chem = require_rdkit()
    if mol is None or mol.GetNumHeavyAtoms() > max_heavy_atoms:
        return None
    atoms = list(mol.GetAtoms())
    if any(a.GetNumRadicalElectrons() or a.GetAtomicNum() not in ELEMENTS for a in atoms):
        return None
    return Molecule(Chem.MolToSmiles(mol), Chem.GetFormalCharge(mol), mol.GetNumHeavyAtoms())


def _assemble(
    Chem: Any, parts: list[Any], weights: np.ndarray, limit: int, rng: np.random.Generator
) -> Any | None:
    """Two to five fragments, joined one after the other at atoms that carry hydrogen."""
    # Small molecules are favoured: they are cheap to label and to train on, and cover the local environments.
    limit = max(limit, 3)
    target = int(
        rng.integers(3, limit + 1, size=2).min() if rng.random() < 0.5 else rng.integers(3, limit + 1)
    )
    mol = parts[rng.choice(len(parts), p=weights)]
    for _ in range(4):
        if mol.GetNumHeavyAtoms() >= target:
            break
        other = parts[rng.choice(len(parts), p=weights)]
        if mol.GetNumHeavyAtoms() + other.GetNumHeavyAtoms() > target + 1:
            continue
        joined = _join(Chem, mol, other, rng)
        if joined is None:
            return None
        mol = joined
    return mol


def _join(Chem: Any, left: Any, right: Any, rng: np.random.Generator) -> Any | None:
    """One molecule with a single bond between a hydrogen-bearing atom of each; None where it cannot be."""
    sites = [[a.GetIdx() for a in m.GetAtoms() if a.GetTotalNumHs() > 0] for m in (left, right)]
    if not sites[0] or not sites[1]:
        return None
    i = sites[0][rng.integers(len(sites[0]))]
    j = sites[1][rng.integers(len(sites[1]))]
    hetero = [m.GetAtomWithIdx(k).GetAtomicNum() != 6 for m, k in ((left, i), (right, j))]
    # Bonds between heteroatoms are worth having, but rarer than chance would make them.
    if all(hetero) and rng.random() < 0.7:
        return None
    edit = Chem.RWMol(Chem.CombineMols(left, right))
    j += left.GetNumAtoms()
    for k in (i, j):
        atom = edit.GetAtomWithIdx(k)
        if atom.GetNumExplicitHs():
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    edit.AddBond(i, j, Chem.BondType.SINGLE)
    return _sanitised(Chem, edit)


def _ion(Chem: Any, mol: Any, rng: np.random.Generator) -> Any | None:
    """The molecule with one proton less or more at an acidic or basic atom; None if it has no such atom."""
    options = [
        (match[0], charge)
        for charge, sites in ((-1, SITES_ACID), (1, SITES_BASE))
        for smarts in sites
        for match in mol.GetSubstructMatches(Chem.MolFromSmarts(smarts))
    ]
    if not options:
        return None
    index, charge = options[rng.integers(len(options))]
    edit = Chem.RWMol(mol)
    atom = edit.GetAtomWithIdx(int(index))
    hydrogens = atom.GetTotalNumHs() + charge
    atom.SetFormalCharge(charge)
    atom.SetNoImplicit(True)
    atom.SetNumExplicitHs(hydrogens)
    return _sanitised(Chem, edit)


def _sanitised(Chem: Any, edit: Any) -> Any | None:
    try:
        Chem.SanitizeMol(edit)
    except (Chem.KekulizeException, Chem.AtomValenceException, ValueError):
        return None
    # Through SMILES, so that the result does not depend on the order of the joins.
    return Chem.MolFromSmiles(Chem.MolToSmiles(edit))


def pairs(
    molecules: list[Molecule], count: int, max_heavy_atoms: int, seed: int
) -> Iterator[tuple[Molecule, Molecule]]:
    """Seeded pairs for dimers: a neutral molecule and a molecule, an ion or a lone halide."""
    rng = np.random.default_rng([seed, 2])
    small = [m for m in molecules if m.heavy_atoms < max_heavy_atoms]
    neutral = [m for m in small if m.charge == 0]
    if not neutral:
        return
    made = 0
    while made < count:
        first = neutral[rng.integers(len(neutral))]
        if rng.random() < 0.04:
            second = Molecule(ALONE[rng.integers(len(ALONE))], -1, 1)
        else:
            second = small[rng.integers(len(small))]
        if first.heavy_atoms + second.heavy_atoms <= max_heavy_atoms:
            made += 1
            yield first, second
        elif rng.random() < 1e-4:  # every pair may be too large
            made += 1
