"""SevenNet potentials of sevenn 0.13: the one class that knows its internals."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sevenn
import sevenn._keys as keys
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from sevenn.calculator import SevenNetCalculator
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.nn.scale import Rescale, SpeciesWiseRescale
from sevenn.nn.sequential import AtomGraphSequential
from sevenn.util import load_checkpoint

from surveyor.errors import PotentialError
from surveyor.potentials.base import Batch, Dtype, Layer
from surveyor.potentials.batches import edge_batch
from surveyor.potentials.e3nn_layers import scalar_layer
from surveyor.potentials.models import as_buffers, usable_device
from surveyor.potentials.prediction import PotentialCalculator, fingerprint_of, predictions
from surveyor.potentials.taps import Rule
from surveyor.structures.writing import whole_file
from surveyor.types import Labels

FORCES = "force_output"
"""sevenn's last module, which differentiates; Surveyor does that itself."""

NO_WEIGHTS = r"basis_function\.coeffs$|\.(shift|scale|denominator)$"
"""Reference energies and scales; and the eight frequencies of the radial basis, which carry 71 % of the trace
of the tangent kernel on molecules and make it worse."""

ARCHITECTURE = (
    keys.CUTOFF,
    keys.CUTOFF_FUNCTION,
    keys.RADIAL_BASIS,
    keys.ACTIVATION_SCARLAR,
    keys.ACTIVATION_GATE,
)
"""What the predictions depend on and the weights do not hold."""


class SevenNetPotential:
    """A SevenNet model, opened for prediction and for its representation.

    Of its parameters those count that are weights; `load` makes buffers of the others.

    Args:
        model: as sevenn builds it, without gradients.
        config: that its checkpoint holds.
        head: modality of a model that has several.

    Raises:
        PotentialError: the head does not exist.
    """

    family = "sevennet"

    def __init__(
        self, model: AtomGraphSequential, config: Mapping[str, Any], head: str | None = None
    ) -> None:
        self.config = dict(config)
        self.model = model.eval()
        self.head = self._chosen(head)
        self._forces = model._modules.pop(FORCES, None)
        types = dict(sorted(model.type_map.items()))
        self.elements = tuple(types)
        self._types = torch.tensor(list(types.values()))

    def _chosen(self, head: str | None) -> str | None:
        heads = list(self.model.modal_map or ())
        if head in heads or (head is None and not heads):
            return head
        raise PotentialError(
            f"a SevenNet model with the modalities {', '.join(heads) or '(none)'}, and head {head!r}",
            expected="one of them" if heads else "no head",
            todo=f"name one: --head {heads[0]}" if heads else "leave the head out",
        )

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
        head: str | None = None,
    ) -> SevenNetPotential:
        """Open a checkpoint, or a published model by name; a file is a pickle that runs code.

        Raises:
            PotentialError: it is none, or there is no such head or device.
        """
        try:
            checkpoint = SevenNetCheckpoint(source) if isinstance(source, Path) else load_checkpoint(source)
            model = checkpoint.build_model()
            weights = checkpoint.model_state_dict
            kinds = {value.dtype for value in weights.values()}
            if torch.float64 in kinds:  # saved by Surveyor: sevenn knows float32 alone
                model.double().load_state_dict(weights)
            model.to(usable_device(device), getattr(torch, dtype) if dtype else None)
        except PotentialError:
            raise
        except Exception as error:  # of whatever torch and sevenn make of it
            raise PotentialError(
                f"{source} cannot be opened as a SevenNet model: {type(error).__name__}: {error}",
                expected=f"a checkpoint of sevenn {sevenn.__version__} or older",
            ) from error
        as_buffers(model, re.compile(NO_WEIGHTS).search)
        return cls(model.requires_grad_(False), checkpoint.config, head)

    def __repr__(self) -> str:
        what = f"{len(self.elements)} elements; cutoff {self.model.cutoff:g} Å"
        return f"SevenNetPotential({what}; {self.dtype} on {self.device}; {self.fingerprint[:12]})"

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of architecture, modality, and every parameter and buffer."""
        own = [f"{key}={self.config.get(key)}" for key in ARCHITECTURE]
        return fingerprint_of(self.model, *own, f"types={self.model.type_map}", f"{self.head} {self.dtype}")

    # ---- prediction -------------------------------------------------------------------------------

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV) and forces (eV/Å), in order.

        Raises:
            PotentialError: a prediction is NaN or inf.
            StructureError: an element is unknown.
        """
        return predictions(self, structures)

    def calculator(self) -> Calculator:
        """sevenn's own ASE calculator; around `predict` in float64, which sevenn's has not."""
        if self.dtype != torch.float32:
            return PotentialCalculator(self)
        model = copy.deepcopy(self.model)
        model._modules[FORCES] = copy.deepcopy(self._forces)
        return SevenNetCalculator(
            model, "model_instance", self.device, self.head, sevennet_config=self.config
        )

    def save(self, path: str | Path) -> None:
        """Write a checkpoint that sevenn opens and continues from."""
        config = {**self.config, "version": sevenn.__version__}
        content = {"model_state_dict": self.model.state_dict(), "config": config, "epoch": 0}
        content |= {"optimizer_state_dict": {}, "scheduler_state_dict": {}, "time": "", "hash": ""}
        with whole_file(Path(path)) as file:
            torch.save(content, file)

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> SevenNetPotential:
        """A copy whose atomic energies are shifted by so many eV each; the forces stay the same."""
        kinds, config = self.model.type_map, dict(self.config)
        scaling = copy.deepcopy(self.model.rescale_atomic_energy)
        if isinstance(scaling, Rescale):
            scaling = SpeciesWiseRescale.from_mappers(scaling.get_shift(), scaling.get_scale(), kinds)
            scaling.requires_grad_(False).to(self.device, self.dtype)
            config |= {keys.SHIFT: scaling.get_shift(), keys.SCALE: scaling.get_scale()}
        own = scaling.shift if scaling.shift.ndim == 1 else scaling.shift[self.model.modal_map[self.head]]
        for z, shift in shifts.items():
            own[kinds[z]] += shift
        model = copy.copy(self.model)  # all other modules are shared: they are only read
        model._modules = {**self.model._modules, "rescale_atomic_energy": scaling, FORCES: self._forces}
        return SevenNetPotential(model, config, self.head)

    # ---- what the features see --------------------------------------------------------------------

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """The structures as a graph; vectors of edges are made of the positions in `energies`."""
        return edge_batch(
            structures, self.elements, self._types.to(self.device), self.model.cutoff, self.dtype
        )

    def energies(self, batch: Batch) -> torch.Tensor:
        """Energies (eV) of a batch, (structures,), still part of the graph of differentiation."""
        atoms = self.atom_energies(batch)
        return atoms.new_zeros(batch.count).index_add(0, batch.owners["nodes"], atoms)

    def atom_energies(self, batch: Batch) -> torch.Tensor:
        """Energy of each atom (eV), (atoms,)."""
        edges, positions = batch.inputs["edges"], batch.positions
        data = {
            keys.NODE_FEATURE: batch.inputs["types"],
            keys.EDGE_IDX: edges,
            keys.EDGE_VEC: positions[edges[1]] - positions[edges[0]] + batch.inputs["shifts"],
            keys.BATCH: batch.owners["nodes"],
        }
        if self.head is not None:
            place = self.model.modal_map[self.head]
            data[keys.MODAL_TYPE] = torch.full((batch.count,), place, device=self.device)
        for module in self.model:
            data = module(data)
            for key in (
                keys.NODE_FEATURE,
                keys.NODE_ATTR,
            ):  # one-hot elements are float32 whatever the model is
                if key in data and data[key].is_floating_point():
                    data[key] = data[key].to(self.dtype)
        return data[keys.ATOMIC_ENERGY][:, 0]

    def layers(self) -> list[Layer]:
        """Rotation-invariant node features (0e irreps) after each convolution."""
        gates = [m.gate for name, m in self.model.named_children() if name.endswith("_equivariant_gate")]
        return [scalar_layer(gate, gate.irreps_out, self.device) for gate in gates]

    def rules(self) -> dict[str, Rule]:
        """All its modules are e3nn's."""
        return {}
