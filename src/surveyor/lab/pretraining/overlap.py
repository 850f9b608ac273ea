"""How far a set of reactive test frames overlaps with the training molecules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ase import Atoms

from surveyor.lab.pretraining.molecules import require_rdkit


def overlap(training_smiles: Iterable[str], frames: Sequence[Atoms]) -> dict[str, Any]:
    """Formulas and molecules that occur on both sides.

    Molecules of the test frames are perceived from their geometry; where that fails (transition states,
    broken valences) there is no InChIKey, and the frame counts by formula only. Keys are compared by their
    first block, the connectivity.
    """
    Chem = require_rdkit()
    keys, formulas = set(), set()
    for smiles in training_smiles:
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        keys.add(_connectivity(Chem, mol))
        formulas.add(Atoms([a.GetAtomicNum() for a in mol.GetAtoms()]).get_chemical_formula())
    test_formulas = {atoms.get_chemical_formula() for atoms in frames}
    test_keys: set[str] = set()
    defined = 0
    for atoms in frames:
        for part in _perceived(Chem, atoms):
            defined += 1
            test_keys.add(part)
    return {
        "frames": len(frames),
        "formulas": len(test_formulas),
        "formulas_shared": len(test_formulas & formulas),
        "molecules_with_inchikey": len(test_keys),
        "molecules_shared": len(test_keys & keys),
    }


def _perceived(Chem: Any, atoms: Atoms) -> list[str]:
    """Connectivity keys of the molecules in a frame; empty where bonds cannot be perceived."""
    from rdkit.Chem import rdDetermineBonds

    lines = [
        f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    mol = Chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *lines, ""]))
    try:
        rdDetermineBonds.DetermineBonds(mol, charge=0, maxIterations=2000)
        return [_connectivity(Chem, part) for part in Chem.GetMolFrags(mol, asMols=True)]
    except (ValueError, RuntimeError):
        return []


def _connectivity(Chem: Any, mol: Any) -> str:
    return str(Chem.MolToInchiKey(mol)).split("-")[0]
