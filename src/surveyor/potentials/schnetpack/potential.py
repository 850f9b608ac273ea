"""PaiNN potentials of SchNetPack: the one class that knows their internals."""

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

from surveyor.errors import PotentialError
from surveyor.potentials.base import Batch, Layer
from surveyor.potentials.graphs import build_graph
from surveyor.potentials.models import as_buffers, redrawn
from surveyor.potentials.prediction import PotentialCalculator, fingerprint_of, predictions
from surveyor.potentials.schnetpack.importing import schnetpack
from surveyor.potentials.taps import Rule
from surveyor.structures.identity import total_charge, total_spin
from surveyor.structures.writing import whole_file
from surveyor.types import Labels

NO_FEATURES = r"^representation\.radial_basis\."


class SchnetpackPotential:
    """A `NeuralNetworkPotential` with a PaiNN, whose energies are in eV and distances in Å.

    Raises:
        PotentialError: the model is another one.
    """

    family = "schnetpack"

    def __init__(self, model: Any, *, source: str = "model") -> None:
        kind = schnetpack.model.NeuralNetworkPotential
        if not (
            isinstance(model, kind) and isinstance(model.representation, schnetpack.representation.PaiNN)
        ):
            raise PotentialError(
                f"{source} holds a {type(model).__name__}",
                expected="a NeuralNetworkPotential of schnetpack 2 whose representation is a PaiNN",
                todo="for others, see 'Write an adapter' in docs/families.md",
            )
        as_buffers(model, re.compile(NO_FEATURES).search)
        self.model = model.eval().requires_grad_(False)
        self.source = source
        self.energy_key = _energy_key(model, source)
        if not hasattr(model, "known_elements"):  # which are not to change when reference energies do
            model.known_elements = _elements(model, self.energy_key)
        self.elements: tuple[int, ...] = model.known_elements
        self.fingerprint = fingerprint_of(model, self.energy_key, self.dtype)

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return (
            f"SchnetpackPotential({Path(self.source).name}: PaiNN, {len(self.elements)} elements from "
            f"{chemical_symbols[self.elements[0]]} to {chemical_symbols[self.elements[-1]]}; cutoff "
            f"{self.cutoff:g} Å; {count:,} parameters; {self.dtype} on {self.device.type}; "
            f"{self.fingerprint[:12]})"
        )

    @property
    def device(self) -> torch.device:
        return cast(torch.device, next(self.model.parameters()).device)

    @property
    def dtype(self) -> str:
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def cutoff(self) -> float:
        """Cutoff radius in Å."""
        return float(self.model.representation.cutoff)

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV) and forces (eV/Å), in order; see `predictions`."""
        return predictions(self, structures)

    def calculator(self) -> PotentialCalculator:
        return PotentialCalculator(self)

    def save(self, path: str | Path) -> None:
        """Write a model as schnetpack's trainer does."""
        with whole_file(path) as file:
            torch.save(self.model, file)

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """What schnetpack's own transforms would hand over, neighbours within the cutoff."""
        graph = build_graph(structures, self.cutoff)
        dtype, count = next(self.model.parameters()).dtype, len(structures)
        names = schnetpack.properties

        def real(values: object) -> torch.Tensor:
            return torch.as_tensor(values, dtype=dtype, device=self.device)

        def whole(values: object) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.int64, device=self.device)

        inputs = {
            names.Z: whole(graph.numbers),
            names.R: real(graph.positions),
            names.cell: real(graph.cells),
            names.strain: real(np.zeros((count, 3, 3))),
            names.offsets: real(graph.shifts),
            names.idx_i: whole(graph.edges[0]),
            names.idx_j: whole(graph.edges[1]),
            names.idx_m: whole(np.repeat(np.arange(count), graph.counts)),
            names.n_atoms: whole(graph.counts),
            names.total_charge: real([total_charge(atoms) for atoms in structures]),
            names.spin_multiplicity: real([total_spin(atoms) for atoms in structures]),
        }
        owner = inputs[names.idx_m]
        owners = {"nodes": owner, "edges": owner[inputs[names.idx_i]]}
        places = whole(np.searchsorted(self.elements, graph.numbers))
        return Batch(inputs, inputs[names.R], count, places, owners)

    def energies(self, batch: Batch) -> torch.Tensor:
        """Energies (eV), (structures,): the model's own, without its derivatives of the energy."""
        model, found = self.model, dict(batch.inputs)
        for module in (*model.input_modules, model.representation, *model.output_modules):
            if not hasattr(module, "energy_key"):
                found = module(found)
        return cast(torch.Tensor, model.postprocess(found)[self.energy_key])

    def layers(self) -> list[Layer]:
        """Scalars of the atoms after each interaction and mixing."""
        painn = self.model.representation
        return [Layer(mixing, painn.n_atom_basis, _scalars) for mixing in painn.mixing]

    def rules(self) -> dict[str, Rule]:
        return {}

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> SchnetpackPotential:
        """A copy whose elements have so many eV more each, among the offsets of its energy."""
        model = copy.deepcopy(self.model)
        offsets = _offsets(model, self.energy_key)
        if offsets is None:
            size = max(self.elements) + 1
            offsets = schnetpack.transform.AddOffsets(self.energy_key, add_atomrefs=True, zmax=size)
            model.postprocessors.append(offsets.to(self.device))
        offsets.atomref = offsets.atomref.double()
        for z, shift in shifts.items():
            offsets.atomref[z] += shift
        return SchnetpackPotential(model, source=self.source)

    def with_random_weights(self, seed: int) -> SchnetpackPotential:
        """Weights as schnetpack draws them before training; scales and offsets stay."""
        return SchnetpackPotential(redrawn(self.model, seed), source=f"{self.source} with random weights")


def _scalars(output: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return output[0][:, 0]


def _energy_key(model: Any, source: str) -> str:
    """Under which name the model's outputs have the energy: that of its forces, or the only one."""
    derived = [part.energy_key for part in model.output_modules if hasattr(part, "energy_key")]
    sums = [
        part.output_key for part in model.output_modules if isinstance(part, schnetpack.atomistic.Atomwise)
    ]
    for names in (derived, sums):
        if len(set(names)) == 1:
            return str(names[0])
    raise PotentialError(
        f"{source} predicts {', '.join(sums) or 'nothing'} atom by atom",
        expected="one energy, by an Atomwise module of schnetpack",
    )


def _offsets(model: Any, energy_key: str) -> Any:
    """The part of the model that adds energies of the elements, if there is one."""
    return next(
        (
            part
            for part in model.postprocessors
            if getattr(part, "add_atomrefs", False) and part._property == energy_key
        ),
        None,
    )


def _elements(model: Any, energy_key: str) -> tuple[int, ...]:
    """Those with a reference energy, where there is any; else all that the embedding has room for."""
    offsets = _offsets(model, energy_key)
    if offsets is not None and bool(offsets.atomref.any()):
        return tuple(int(z) for z in torch.nonzero(offsets.atomref).flatten())
    return tuple(range(1, model.representation.embedding.num_embeddings))
