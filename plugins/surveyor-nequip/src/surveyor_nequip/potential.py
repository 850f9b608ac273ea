"""NequIP potentials of nequip 0.19: the one class that knows their internals."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import nequip
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers, chemical_symbols
from nequip.data import AtomicDataDict as Keys
from nequip.integrations.ase import NequIPCalculator
from nequip.integrations.utils import basic_transforms
from nequip.nn import ForceStressOutput, GraphModel
from nequip.nn.convnetlayer import ConvNetLayer
from nequip.nn.graph_model import R_MAX_KEY
from nequip.nn.mlp import ScalarLinearLayer

from surveyor.errors import PotentialError
from surveyor.potentials.base import Batch, Dtype, Layer
from surveyor.potentials.batches import edge_batch
from surveyor.potentials.e3nn_layers import scalar_layer
from surveyor.potentials.models import as_buffers, usable_device
from surveyor.potentials.prediction import fingerprint_of, predictions
from surveyor.potentials.rows import Rows
from surveyor.potentials.rules import Whole
from surveyor.potentials.taps import Block, Rule
from surveyor.types import Labels
from surveyor_nequip.checkpoints import Settings, built, nequips_state, read, write

NO_WEIGHTS = r"bessel_weights$|per_type_energy_scale_shift\.(scales|shifts)$"
"""Reference energies and scales; and the frequencies of the radial basis, whose gradients drown all
others."""

SHIFTS, GRAPH_FIELDS = "per_type_energy_shifts", "categorical_graph_field_embed"


class ScaledLinear(Whole):
    """nequip's ScalarLinearLayer: y = α x W + b, so ∂E/∂W = α Σ_r x_r ⊗ g_r and ∂E/∂b = Σ_r g_r."""

    def blocks(self, rows: Rows, inputs: tuple[torch.Tensor, ...], gradient: torch.Tensor) -> Iterator[Block]:
        segments = rows.domains[self.domain]
        values = self.module.alpha * segments.outer(inputs[0][:, None], gradient[:, None])
        yield Block(self.parameter("weight"), slice(0, values[0].numel()), None, values.flatten(1))
        if self.module.bias is not None:
            yield Block(self.parameter("bias"), slice(0, gradient.shape[1]), None, segments.total(gradient))


class OwnCalculator(NequIPCalculator):
    """nequip's, which takes positions in the default dtype."""

    def atoms_to_data(self, atoms: Atoms) -> dict[str, torch.Tensor]:
        with nequips_state():
            return super().atoms_to_data(atoms)


class NequIPPotential:
    """A NequIP model, opened for prediction and for its representation.

    Of its parameters those count that are weights; the others become buffers.

    Args:
        model: as nequip builds it.
        settings: it is built from.

    Raises:
        PotentialError: its types are no elements, or it takes more than elements and positions.
    """

    family = "nequip"

    def __init__(self, model: GraphModel, settings: Settings) -> None:
        as_buffers(model, re.compile(NO_WEIGHTS).search)
        self.model = model.eval().requires_grad_(False)
        self.settings = dict(settings)
        names = list(model.type_names)
        if not set(names) <= set(chemical_symbols[1:]):
            raise PotentialError(
                f"a NequIP of the types {', '.join(names)}", expected="chemical symbols as type_names"
            )
        if not isinstance(model.model, ForceStressOutput) or settings.get(GRAPH_FIELDS):
            raise PotentialError(
                f"a NequIP with {type(model.model).__name__} and {GRAPH_FIELDS} {settings.get(GRAPH_FIELDS)}",
                expected="ForceStressOutput, and no fields of whole structures",
            )
        types = sorted((atomic_numbers[name], number) for number, name in enumerate(names))
        self.elements = tuple(z for z, _ in types)
        self._types = torch.tensor([number for _, number in types])

    @classmethod
    def load(cls, path: Path, *, device: str | None = None, dtype: Dtype | None = None) -> NequIPPotential:
        """Open a checkpoint; a file is a pickle that runs code.

        Raises:
            PotentialError: it is none, or there is no such device.
        """
        try:
            model, settings = read(path, dtype)
        except PotentialError:
            raise
        except Exception as error:  # of whatever torch, lightning and nequip make of it
            raise PotentialError(
                f"{path} cannot be opened as a NequIP model: {type(error).__name__}: {error}",
                expected=f"a checkpoint of nequip-train, nequip {nequip.__version__}",
            ) from error
        return cls(model.to(usable_device(device)), settings)

    def __repr__(self) -> str:
        what = f"{len(self.elements)} elements; cutoff {self.cutoff:g} Å"
        return f"NequIPPotential({what}; {self.dtype} on {self.device}; {self.fingerprint[:12]})"

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def cutoff(self) -> float:
        """Cutoff radius in Å."""
        return float(self.model.metadata[R_MAX_KEY])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the settings, and every parameter and buffer."""
        return fingerprint_of(self.model, json.dumps(self.settings, sort_keys=True, default=str))

    # ---- prediction -------------------------------------------------------------------------------

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV) and forces (eV/Å), in order; see `predictions`."""
        return predictions(self, structures)

    def calculator(self) -> Calculator:
        """nequip's own ASE calculator."""
        symbols = {name: name for name in self.model.type_names}
        metadata = self.model.metadata
        transforms = basic_transforms(metadata, self.cutoff, self.model.type_names, symbols)
        return OwnCalculator(copy.deepcopy(self.model), self.device, transforms=transforms)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint that nequip opens and continues from."""
        write(Path(path), self.model, self.settings)

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> NequIPPotential:
        """A copy whose atomic energies are shifted by so many eV each; the forces stay the same."""
        own = self.model.model.func.per_type_energy_scale_shift.shifts.flatten().tolist() or [0.0]
        names = self.model.type_names
        energies = dict(zip(names, own if len(own) == len(names) else own * len(names), strict=True))
        for z, shift in shifts.items():
            energies[chemical_symbols[z]] += shift
        return self._rebuilt({**self.settings, SHIFTS: energies}, r"(?<!\.shifts)$")

    def with_random_weights(self, seed: int) -> NequIPPotential:
        """Weights as nequip draws them before training; scales and shifts stay."""
        return self._rebuilt({**self.settings, "seed": seed}, NO_WEIGHTS)

    def _rebuilt(self, settings: Settings, kept: str) -> NequIPPotential:
        """One of other settings, with those values of this one whose names match."""
        model = built(settings)
        values = {name: value for name, value in self.model.state_dict().items() if re.search(kept, name)}
        model.load_state_dict(values, strict=False)
        return NequIPPotential(model.to(self.device), settings)

    # ---- what the features see --------------------------------------------------------------------

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """The structures as a graph, geometry in float64; vectors of edges are made in `energies`."""
        return edge_batch(structures, self.elements, self._types.to(self.device), self.cutoff, torch.float64)

    def energies(self, batch: Batch) -> torch.Tensor:
        """Energies (eV) of a batch, (structures,), still part of the graph of differentiation."""
        atoms = self.atom_energies(batch)
        return atoms.new_zeros(batch.count).index_add(0, batch.owners["nodes"], atoms)

    def atom_energies(self, batch: Batch) -> torch.Tensor:
        """Energy of each atom (eV), (atoms,)."""
        edges, positions, owner = batch.inputs["edges"], batch.positions, batch.owners["nodes"]
        data = {
            Keys.POSITIONS_KEY: positions,
            Keys.ATOM_TYPE_KEY: batch.inputs["types"],
            Keys.EDGE_INDEX_KEY: edges,
            Keys.EDGE_VECTORS_KEY: positions[edges[1]] - positions[edges[0]] + batch.inputs["shifts"],
            Keys.BATCH_KEY: owner,
            Keys.NUM_NODES_KEY: torch.bincount(owner, minlength=batch.count),
        }
        energies: torch.Tensor = self.model.model.func(data)[Keys.PER_ATOM_ENERGY_KEY]
        return energies[:, 0]

    def layers(self) -> list[Layer]:
        """Rotation-invariant node features (0e irreps) after each layer."""
        gates = [m.equivariant_nonlin for m in self.model.modules() if isinstance(m, ConvNetLayer)]
        return [scalar_layer(gate, gate.irreps_out, self.device) for gate in gates]

    def rules(self) -> dict[str, Rule]:
        """nequip's own linear layers: of the radial networks, row by edge, and of the readout, by node."""
        return {
            name: ScaledLinear(name, module, "edges" if ".edge_mlp." in name else "nodes")
            for name, module in self.model.named_modules()
            if type(module) is ScalarLinearLayer
        }
