"""MACE potentials of mace-torch 0.3.x: the one class that knows their internals."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from surveyor.potentials.fine_tuning import FineTuningSettings

from surveyor.potentials.mace import importing  # noqa: F401  # isort: skip  (before e3nn)
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from e3nn import o3
from mace.calculators import MACECalculator
from mace.modules.blocks import RealAgnosticResidualNonLinearInteractionBlock
from mace.modules.symmetric_contraction import Contraction

from surveyor.errors import PotentialError
from surveyor.potentials.base import Batch, Layer
from surveyor.potentials.batches import batches
from surveyor.potentials.e3nn_layers import scalar_layer
from surveyor.potentials.graphs import build_graph
from surveyor.potentials.mace.contraction import ContractionRule
from surveyor.potentials.mace.fresh import randomly_initialised
from surveyor.potentials.mace.loading import load_module
from surveyor.potentials.prediction import fingerprint_of, labels_of_batch
from surveyor.potentials.rules import NodeScalar
from surveyor.potentials.taps import Rule, detached
from surveyor.structures.identity import total_charge, total_spin
from surveyor.structures.writing import whole_file
from surveyor.types import FloatArray, Labels, Trainer


class MacePotential:
    """A MACE model, opened for prediction and for its representation.

    Args:
        model: a `mace.modules.MACE` or `ScaleShiftMACE`.
        source: the file it came from, for messages.

    Raises:
        PotentialError: the object is not such a model, or the head does not exist.
    """

    family = "mace"

    def __init__(self, model: torch.nn.Module, *, source: str = "model", head: str | None = None) -> None:
        for attribute in (
            "interactions",
            "products",
            "readouts",
            "atomic_energies_fn",
            "atomic_numbers",
            "r_max",
        ):
            if not hasattr(model, attribute):
                raise PotentialError(
                    f"{source} holds a {type(model).__name__} without '{attribute}'",
                    expected="a MACE energy model of mace-torch 0.3.x",
                    todo="pass the .model file that mace_run_train wrote, not a checkpoint or a compiled one",
                )
        self.model = model.eval()
        self.source = source
        self.heads: tuple[str, ...] = tuple(getattr(model, "heads", None) or ("Default",))
        self.head = self._choose_head(head)
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    def _choose_head(self, head: str | None) -> str:
        if head is None and len(self.heads) == 1:
            return self.heads[0]
        wanted = "default" if head is None else head.lower()
        for name in self.heads:
            if name.lower() == wanted:
                return name
        raise PotentialError(
            f"{self.source} has the heads {', '.join(self.heads)}" + (f", not {head!r}" if head else ""),
            expected="one of them",
            todo=f"name the head: --head {self.heads[-1]}",
        )

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        device: str | None = None,
        dtype: Literal["float32", "float64"] | None = None,
        head: str | None = None,
    ) -> MacePotential:
        """Open a `.model` file; see `open_potential`."""
        model = load_module(path, device)
        potential = cls(model, source=str(path), head=head)
        if dtype is not None:
            model.to(getattr(torch, dtype))
        return potential

    def __repr__(self) -> str:
        symbols = " ".join(chemical_symbols[z] for z in self.elements)
        return (
            f"MacePotential({Path(self.source).name}: {symbols}; cutoff {self.cutoff:g} Å; "
            f"{self.n_parameters:,} parameters; {self.dtype} on {self.device.type}; {self.fingerprint[:12]})"
        )

    @property
    def dtype(self) -> str:
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def cutoff(self) -> float:
        """Cutoff radius in Å."""
        return float(cast(torch.Tensor, self.model.r_max))

    @property
    def elements(self) -> tuple[int, ...]:
        return tuple(int(z) for z in cast(torch.Tensor, self.model.atomic_numbers))

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def reference_energies(self) -> dict[int, float]:
        """Atomic number → energy of the isolated atom in the model's head, eV."""
        row = self._references(self.model)
        return dict(zip(self.elements, row.double().cpu().tolist(), strict=True))

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> MacePotential:
        """A copy whose atomic energies are shifted by so many eV each; the forces stay the same."""
        model = copy.deepcopy(self.model)
        row = self._references(model)
        # summed in float64 and rounded once: where the two nearly cancel, float32 would lose digits
        shift = torch.tensor([shifts.get(z, 0.0) for z in self.elements], dtype=torch.float64)
        row.copy_(row.double() + shift.to(row.device))
        return MacePotential(model, source=self.source, head=self.head)

    def _references(self, model: torch.nn.Module) -> torch.Tensor:
        """The energies of the elements in the head that is used, (elements,): a view of the buffer."""
        energies = cast(torch.Tensor, cast(torch.nn.Module, model.atomic_energies_fn).atomic_energies)
        return energies.view(-1, len(self.elements))[self.heads.index(self.head) if energies.ndim > 1 else 0]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of class, head, dtype, and every parameter and buffer."""
        return fingerprint_of(self.model, self.head, self.dtype)

    # ---- prediction -------------------------------------------------------------------------------

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV), forces (eV/Å) and, for fully periodic structures, stresses (eV/Å³), in order.

        Raises:
            PotentialError: a prediction is NaN or inf.
            StructureError: an element is unknown.
        """
        labels: list[Labels] = []
        for batch, made in batches(self, structures):
            stress = all(bool(atoms.pbc.all()) for atoms in batch)
            out = self.model(made.inputs, training=False, compute_force=True, compute_stress=stress)
            labels += labels_of_batch(
                self.source, batch, out["energy"], out["forces"], out["stress"] if stress else None
            )
        return labels

    def calculator(self) -> Calculator:
        """mace-torch's own ASE calculator around this model."""
        return MACECalculator(
            models=self.model,
            device=str(self.device),
            default_dtype=self.dtype,
            head=self.head,
            info_keys={"total_spin": "total_spin", "total_charge": "total_charge"},
        )

    def save(self, path: str | Path) -> None:
        """Write an ordinary mace-torch `.model` file."""
        with whole_file(path) as file:
            torch.save(self.model, file)

    # ---- what the features see --------------------------------------------------------------------

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """The input of the model's forward pass."""
        graph = build_graph(structures, self.cutoff)
        dtype, device = next(self.model.parameters()).dtype, self.device
        n = len(structures)
        species = torch.as_tensor(np.searchsorted(self.elements, graph.numbers), device=device)

        def real(values: FloatArray) -> torch.Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        def whole(values: object) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.int64, device=device)

        inputs = {
            "positions": real(graph.positions),
            "node_attrs": torch.nn.functional.one_hot(species, len(self.elements)).to(dtype),
            "edge_index": whole(graph.edges),
            "shifts": real(graph.shifts),
            "unit_shifts": real(graph.unit_shifts),
            "cell": real(graph.cells.reshape(3 * n, 3)),
            "batch": whole(np.repeat(np.arange(n), graph.counts)),
            "ptr": whole(np.concatenate([[0], np.cumsum(graph.counts)])),
            "head": torch.full((n,), self.heads.index(self.head), dtype=torch.int64, device=device),
            "total_charge": real(np.array([total_charge(atoms) for atoms in structures], dtype=np.float64)),
            "total_spin": real(np.array([total_spin(atoms) for atoms in structures], dtype=np.float64)),
        }
        owner = inputs["batch"]
        owners = {"nodes": owner, "edges": owner[inputs["edge_index"][0]]}
        return Batch(inputs, inputs["positions"], n, species, owners)

    def layers(self) -> list[Layer]:
        """Rotation-invariant node features (0e irreps) after each message-passing layer."""
        products = cast(Any, self.model.products)
        return [scalar_layer(p, o3.Irreps(str(p.linear.irreps_out)), self.device) for p in products]

    def energies(self, batch: Batch) -> torch.Tensor:
        """Energies (eV) of a batch, (structures,), still part of the graph of differentiation."""
        # Where nothing asks for gradients of positions, the backward pass need not go back there.
        geometry = [
            cast(torch.nn.Module, getattr(self.model, name))
            for name in ("spherical_harmonics", "radial_embedding")
        ]
        asked = batch.positions.requires_grad or any(
            parameter.requires_grad for module in geometry for parameter in module.parameters()
        )
        with detached(() if asked else geometry):
            return cast(torch.Tensor, self.model(batch.inputs, compute_force=False)["energy"])

    def atom_energies(self, batch: Batch) -> torch.Tensor | None:
        """Energy of each atom, where the model tells them."""
        return cast("torch.Tensor | None", self.model(batch.inputs, compute_force=False).get("node_energy"))

    def rules(self) -> dict[str, Rule]:
        """Rules of the symmetric contractions, and of scalars that scale or shift every node."""
        found: dict[str, Rule] = {}
        for path, module in self.model.named_modules():
            if isinstance(module, Contraction):
                found[path] = ContractionRule(path, module, _contraction_tensors(module))
            elif isinstance(module, RealAgnosticResidualNonLinearInteractionBlock):
                found |= {f"{path}.{name}": NodeScalar(f"{path}.{name}") for name in ("alpha", "beta")}
        return found

    # ---- beyond prediction ------------------------------------------------------------------------

    def trainer(self, settings: FineTuningSettings, replay: Sequence[Atoms] = ()) -> Trainer:
        """mace-torch's own trainer.

        Raises:
            TrainingError: it cannot start from this model.
        """
        from surveyor.potentials.mace.fine_tuning import FineTuning
        from surveyor.potentials.mace.trainable import check_trainable

        check_trainable(self)
        return FineTuning(settings, replay=replay)

    def with_random_weights(self, seed: int) -> MacePotential:
        """The same architecture with fresh weights; see `randomly_initialised`."""
        model = randomly_initialised(self.model, seed)
        return MacePotential(model, source=f"{self.source} with random weights", head=self.head)


def _contraction_tensors(module: torch.nn.Module) -> dict[int, tuple[str, torch.Tensor]]:
    """For each degree of a symmetric contraction, the name of its weights and its coupling tensor U."""
    highest = cast(int, module.correlation)
    names = {highest: "weights_max"} | {
        degree: f"weights.{highest - 1 - degree}" for degree in range(1, highest)
    }
    buffers = dict(module.named_buffers())
    return {degree: (name, buffers[f"U_matrix_{degree}"]) for degree, name in names.items()}
