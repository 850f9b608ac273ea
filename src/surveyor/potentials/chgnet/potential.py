"""CHGNet potentials: the one class that knows their internals.

CHGNet knows crystals. Its graph is made here from pairs of atoms, so that a molecule needs no box of vacuum,
and an atom without neighbours is a node without bonds.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from surveyor.potentials.base import Batch, Layer
from surveyor.potentials.chgnet.graph import Bonds
from surveyor.potentials.graphs import build_graph
from surveyor.potentials.models import as_buffers, redrawn
from surveyor.potentials.prediction import PotentialCalculator, fingerprint_of, predictions
from surveyor.potentials.taps import Rule
from surveyor.structures.writing import whole_file
from surveyor.types import IndexArray, Labels

NO_FEATURES = r"frequencies$|^site_wise\."
"""Parameters of the bases of distances and angles, and of the head of magnetic moments."""

COMPOSITION = "composition_model"
REFERENCES = f"{COMPOSITION}.fc.weight"
"""Where CHGNet keeps the energies of the elements, (1, elements)."""


class ChgnetPotential:
    """A CHGNet, opened for prediction and for its representation.

    | variable   | shape       | meaning                                                          |
    |------------|-------------|------------------------------------------------------------------|
    | model      |             | a `chgnet.model.CHGNet` without its composition model            |
    | references | (elements,) | that composition model: energy of each element, eV               |
    """

    family = "chgnet"

    def __init__(self, model: torch.nn.Module, references: torch.Tensor, *, source: str = "model") -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.references = references
        self.source = source
        self.elements = tuple(range(1, len(references) + 1))
        self.fingerprint = fingerprint_of(model, self.dtype, str(references.tolist()))

    @classmethod
    def of(cls, model: Any, *, source: str) -> ChgnetPotential:
        """Around a whole `CHGNet`, whose composition model and idle parameters are taken off."""
        composition, model.composition_model = model.composition_model, None
        as_buffers(model, re.compile(NO_FEATURES).search)
        if composition is None:
            references = torch.zeros_like(model.atom_embedding.embedding.weight.detach()[:, 0])
        else:
            references = composition.fc.weight.detach()[0]
        return cls(model, references, source=source)

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return (
            f"ChgnetPotential({Path(self.source).name}: {chemical_symbols[1]} to "
            f"{chemical_symbols[self.elements[-1]]}; cutoff {self._cutoffs[0]:g} Å; {count:,} parameters; "
            f"{self.dtype} on {self.device.type}; {self.fingerprint[:12]})"
        )

    @property
    def device(self) -> torch.device:
        return self.references.device

    @property
    def dtype(self) -> str:
        return str(self.references.dtype).removeprefix("torch.")

    @property
    def _cutoffs(self) -> tuple[float, float]:
        """Å, of the graph of atoms and of that of bonds."""
        converter = self.model.graph_converter
        return float(converter.atom_graph_cutoff), float(converter.bond_graph_cutoff)

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV) and forces (eV/Å), in order; see `predictions`."""
        return predictions(self, structures)

    def calculator(self) -> PotentialCalculator:
        """For molecules, too: chgnet's own takes crystals only."""
        return PotentialCalculator(self)

    def save(self, path: str | Path) -> None:
        """Write a file that `CHGNet.from_file` opens, too."""
        settings = dict(self.model.model_args)
        settings[COMPOSITION] = settings[COMPOSITION] or "MPtrj"  # which its weights then replace
        weights = {**self.model.state_dict(), REFERENCES: self.references[None]}
        content = {"model": {"model_args": settings, "state_dict": weights}}
        with whole_file(path) as file:
            torch.save(content, file)

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """Atoms, pairs (edges), bonds, and angles between bonds that meet at an atom."""
        atoms_cutoff, bonds_cutoff = self._cutoffs
        graph = build_graph(structures, atoms_cutoff)
        bonds = Bonds.of(graph, bonds_cutoff)
        edges = graph.edges[:, bonds.edges]
        owner = np.repeat(np.arange(len(structures)), graph.counts)
        of_edge = owner[edges[0]]

        def whole(values: IndexArray) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.int64, device=self.device)

        positions = torch.as_tensor(graph.positions, dtype=self.references.dtype, device=self.device)
        inputs = {
            "numbers": whole(graph.numbers),
            "edges": whole(edges),
            "shifts": torch.as_tensor(graph.shifts[bonds.edges]).to(positions),
            "bonds": whole(bonds.of_edge),
            "first": whole(bonds.first),
            "angles": whole(bonds.angles),
        }
        owners = {
            "nodes": owner,
            "edges": of_edge,
            "bonds": of_edge[bonds.first],
            "angles": of_edge[bonds.angles[0]],
        }
        return Batch(
            inputs,
            positions,
            len(structures),
            inputs["numbers"] - 1,
            {name: whole(rows) for name, rows in owners.items()},
        )

    def energies(self, batch: Batch) -> torch.Tensor:
        """E = Σ_a (e_a + ε_z(a)) (eV), with the references ε, (structures,)."""
        found = self._computed(batch)
        energy = found["e"] * (found["atoms_per_graph"] if self.model.is_intensive else 1)
        references = self.references[batch.elements].double()
        return cast(torch.Tensor, energy.double()).index_add(0, batch.owners["nodes"], references)

    def atom_energies(self, batch: Batch) -> torch.Tensor | None:
        """e_a + ε_z(a) of each atom (eV); None where the model pools before it reads out."""
        if not self.model.mlp_first:
            return None
        sites = torch.cat(self._computed(batch, return_site_energies=True)["site_energies"])
        return sites.double() + self.references[batch.elements].double()

    def _computed(self, batch: Batch, **wanted: bool) -> dict[str, Any]:
        from chgnet.model.model import BatchedGraph

        given, model = batch.inputs, self.model
        i, j = given["edges"]
        vectors = batch.positions[i] - batch.positions[j] - given["shifts"]
        lengths = vectors.norm(dim=1)
        directions = vectors / lengths[:, None]
        radial = model.bond_basis_expansion
        left, right = given["angles"]
        bonds = given["bonds"]
        graph = BatchedGraph(
            atomic_numbers=given["numbers"],
            bond_bases_ag=radial.rbf_expansion_ag(lengths[given["first"]]),
            bond_bases_bg=radial.rbf_expansion_bg(lengths[given["first"]]),
            angle_bases=model.angle_basis_expansion(directions[left], directions[right]),
            batched_atom_graph=given["edges"].T,
            batched_bond_graph=torch.stack([i[left], bonds[left], bonds[right]], dim=1),
            atom_owners=batch.owners["nodes"],
            directed2undirected=bonds,
            atom_positions=[batch.positions],
            strains=[],
            volumes=[],
        )
        return cast("dict[str, Any]", model._compute(graph, **wanted))

    def layers(self) -> list[Layer]:
        """Features of the atoms after each convolution; all of CHGNet's are invariant."""
        layers = cast(torch.nn.ModuleList, self.model.atom_conv_layers)
        return [Layer(layer, int(self.model.atom_fea_dim), lambda output: output) for layer in layers]

    def rules(self) -> dict[str, Rule]:
        return {}

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> ChgnetPotential:
        """A copy whose elements have so many eV more each."""
        shift = torch.tensor([shifts.get(z, 0.0) for z in self.elements], dtype=torch.float64)
        moved = (self.references.double() + shift.to(self.device)).to(self.references)
        return ChgnetPotential(copy.deepcopy(self.model), moved, source=self.source)

    def with_random_weights(self, seed: int) -> ChgnetPotential:
        """Weights as torch draws them before training; bases and references stay."""
        source = f"{self.source} with random weights"
        return ChgnetPotential(redrawn(self.model, seed), self.references.clone(), source=source)
