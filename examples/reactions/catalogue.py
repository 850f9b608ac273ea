"""The reactions of the example: how each first geometry is built, and which bonds form and break."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from rdkit import Chem
from rdkit.Chem import AllChem


@dataclass(frozen=True)
class Bond:
    """A bond that the reaction forms or breaks, with its rough length (Å) at the three stages."""

    i: int
    j: int
    reactant: float
    saddle: float
    product: float

    def length(self, atoms: Atoms) -> float:
        """Return the present distance between the two atoms."""
        return float(np.linalg.norm(atoms.positions[self.i] - atoms.positions[self.j]))


@dataclass(frozen=True)
class Reaction:
    """One reaction: a first geometry and the bonds to lead.

    The first geometry comes from `smiles` (RDKit; hydrogens follow, in the order of their heavy atoms) or,
    where a force field has nothing to say, from `symbols` and `positions` written by hand.
    """

    name: str
    kind: str
    bonds: tuple[Bond, ...]
    charge: int = 0
    smiles: str = ""
    symbols: str = ""
    positions: tuple[tuple[float, float, float], ...] = ()

    def guess(self, seed: int) -> Atoms:
        """Build the first geometry: of many conformers, the one folded most like the saddle point."""
        if not self.smiles:
            return Atoms(self.symbols, positions=self.positions)
        molecule = Chem.AddHs(Chem.MolFromSmiles(self.smiles))
        AllChem.EmbedMultipleConfs(molecule, numConfs=200, randomSeed=seed)
        symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
        conformers = [Atoms(symbols, positions=c.GetPositions()) for c in molecule.GetConformers()]
        if not conformers:
            raise RuntimeError(f"{self.name}: RDKit could not embed {self.smiles!r}")
        return min(conformers, key=self._distance_to_saddle)

    def _distance_to_saddle(self, atoms: Atoms) -> float:
        return sum((bond.length(atoms) - bond.saddle) ** 2 for bond in self.bonds)

    def coordinate(self, atoms: Atoms) -> float:
        """Return the broken bonds' lengths less the formed bonds' (Å): it grows from reactant to product."""
        return float(sum(np.sign(bond.product - bond.reactant) * bond.length(atoms) for bond in self.bonds))


REACTIONS = (
    Reaction(
        "malonaldehyde",
        "proton transfer",
        (Bond(0, 8, 1.70, 1.24, 1.00), Bond(4, 8, 1.00, 1.24, 1.70)),
        smiles=r"O=C/C=C\O",
    ),
    Reaction(
        "hydrogen_cyanide",
        "isomerisation to HNC",
        (Bond(0, 2, 1.07, 1.16, 2.20), Bond(1, 2, 2.20, 1.32, 1.00)),
        symbols="CNH",
        positions=((0.0, 0.0, 0.0), (1.18, 0.0, 0.0), (0.3, 1.15, 0.0)),
    ),
    Reaction(
        "chloromethane_chloride",
        "substitution (SN2)",
        (Bond(0, 5, 3.10, 2.21, 1.80), Bond(0, 4, 1.80, 2.21, 3.10)),
        charge=-1,
        symbols="CH3Cl2",
        positions=(
            (0.0, 0.0, 0.0),
            (1.08, 0.0, 0.0),
            (-0.54, 0.935, 0.0),
            (-0.54, -0.935, 0.0),
            (0.0, 0.0, 2.35),
            (0.0, 0.0, -2.35),
        ),
    ),
    Reaction(
        "vinyl_alcohol",
        "keto–enol tautomerism",
        (Bond(2, 6, 0.97, 1.38, 2.60), Bond(0, 6, 2.50, 1.48, 1.09)),
        smiles="C=CO",
    ),
    Reaction(
        "formaldehyde",
        "dissociation into H2 and CO",
        (Bond(0, 2, 1.10, 1.80, 2.90), Bond(0, 3, 1.10, 1.08, 3.20), Bond(2, 3, 1.85, 1.35, 0.75)),
        symbols="COH2",
        positions=((0.0, 0.0, 0.0), (1.17, 0.0, 0.0), (-0.2, 1.08, 0.0), (-1.2, 1.2, 0.0)),
    ),
    Reaction(
        "allyl_vinyl_ether",
        "Claisen rearrangement",
        (Bond(2, 3, 1.42, 1.90, 3.10), Bond(0, 5, 3.30, 2.20, 1.55)),
        smiles="C=CCOC=C",
    ),
    Reaction(
        "cyclobutene",
        "electrocyclic ring opening",
        (Bond(0, 3, 1.56, 2.10, 3.00),),
        smiles="C=CC=C",
    ),
    Reaction(
        "butadiene_ethene",
        "Diels–Alder cycloaddition",
        (Bond(0, 5, 3.20, 2.28, 1.53), Bond(3, 4, 3.20, 2.28, 1.53)),
        smiles="C1C=CCCC1",
    ),
)
