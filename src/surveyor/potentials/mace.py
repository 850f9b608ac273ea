"""MACE potentials of mace-torch 0.3.x: the one module that knows their internals."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

from surveyor.potentials import mace_import  # noqa: F401  # isort: skip  (before e3nn)
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from e3nn import o3
from mace.calculators import MACECalculator
from mace.modules.blocks import RealAgnosticResidualNonLinearInteractionBlock
from mace.modules.symmetric_contraction import Contraction

from surveyor.errors import PotentialError
from surveyor.potentials.contraction import ContractionRule
from surveyor.potentials.gradients import GradientPlan, differentiable, gradients_of
from surveyor.potentials.graphs import ahead, build_graph, pack
from surveyor.potentials.mace_loading import load_module
from surveyor.potentials.rules import NodeScalar, rule_for
from surveyor.potentials.taps import Rule
from surveyor.structures.identity import total_charge, total_spin
from surveyor.structures.validation import check_elements
from surveyor.structures.writing import whole_file
from surveyor.types import FloatArray, Labels

MAX_ATOMS = 512
MAX_STRUCTURES = 64


class MacePotential:
    """A MACE model, opened for prediction and for its representation.

    Args:
        model: a `mace.modules.MACE` or `ScaleShiftMACE`.
        source: the file it came from, for messages.

    Raises:
        PotentialError: the object is not such a model, or the head does not exist.
    """

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
        energies = cast(torch.Tensor, cast(torch.nn.Module, self.model.atomic_energies_fn).atomic_energies)
        row = energies.view(-1, len(self.elements))[self.heads.index(self.head) if energies.ndim > 1 else 0]
        return dict(zip(self.elements, row.double().cpu().tolist(), strict=True))

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> MacePotential:
        """A copy whose atomic energies are shifted by so many eV each; the forces stay the same."""
        model = copy.deepcopy(self.model)
        energies = cast(torch.Tensor, cast(torch.nn.Module, model.atomic_energies_fn).atomic_energies)
        row = energies.view(-1, len(self.elements))[self.heads.index(self.head) if energies.ndim > 1 else 0]
        # summed in float64 and rounded once: where the two nearly cancel, float32 would lose digits
        shift = torch.tensor([shifts.get(z, 0.0) for z in self.elements], dtype=torch.float64)
        row.copy_(row.double() + shift.to(row.device))
        return MacePotential(model, source=self.source, head=self.head)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of class, head, dtype, and every parameter and buffer."""
        digest = hashlib.sha256(f"{type(self.model).__name__}|{self.head}|{self.dtype}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    # ---- prediction -------------------------------------------------------------------------------

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV), forces (eV/Å) and, for fully periodic structures, stresses (eV/Å³), in order.

        Raises:
            PotentialError: a prediction is NaN or inf.
            StructureError: an element is unknown.
        """
        labels: list[Labels] = []
        for batch, data in self.graphs(structures):
            stress = all(bool(atoms.pbc.all()) for atoms in batch)
            out = self.model(data, training=False, compute_force=True, compute_stress=stress)
            energies = out["energy"].detach().cpu().numpy().astype(np.float64)
            forces = np.split(
                out["forces"].detach().cpu().numpy().astype(np.float64),
                np.cumsum([len(atoms) for atoms in batch])[:-1],
            )
            stresses = (
                out["stress"].detach().cpu().numpy().astype(np.float64) if stress else [None] * len(batch)
            )
            if not (np.isfinite(energies).all() and all(np.isfinite(f).all() for f in forces)):
                raise PotentialError(
                    f"{self.source} predicts NaN or inf for one of {len(batch)} structures",
                    expected="finite energies and forces",
                    todo="look for atoms nearly on top of each other, or train with a smaller learning rate",
                )
            for energy, force, virial in zip(energies, forces, stresses, strict=True):
                voigt = None if virial is None else full_3x3_to_voigt_6_stress(virial)
                labels.append(Labels(float(energy), force, voigt))
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

    def batches(self, structures: Sequence[Atoms]) -> Iterator[list[Atoms]]:
        """Batches of bounded size whose elements are all known."""
        for number, atoms in enumerate(structures):
            check_elements(atoms, self.elements, f"structure {number}")
        return pack(structures, MAX_ATOMS, MAX_STRUCTURES)

    def graphs(self, structures: Sequence[Atoms]) -> Iterator[tuple[list[Atoms], dict[str, torch.Tensor]]]:
        """The batches with their graphs; the next graph is built while the model computes on one."""
        return ahead(self.batches(structures), self.graph)

    def graph(self, structures: Sequence[Atoms]) -> dict[str, torch.Tensor]:
        """The input of the model's forward pass for a batch of structures."""
        graph = build_graph(structures, self.cutoff)
        dtype, device = next(self.model.parameters()).dtype, self.device
        n = len(structures)
        species = torch.as_tensor(np.searchsorted(self.elements, graph.numbers), device=device)

        def real(values: FloatArray) -> torch.Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        def whole(values: object) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.int64, device=device)

        return {
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

    @property
    def n_layers(self) -> int:
        """Number of message-passing layers."""
        return len(cast(torch.nn.ModuleList, self.model.interactions))

    def _scalar_columns(self) -> list[torch.Tensor]:
        """For each layer, the columns of the concatenated node features that are 0e irreps."""
        columns, offset = [], 0
        for product in cast(torch.nn.ModuleList, self.model.products):
            irreps = o3.Irreps(str(cast(torch.nn.Module, product.linear).irreps_out))
            scalars = [
                torch.arange(offset + part.start, offset + part.stop)
                for part, (_, irrep) in zip(irreps.slices(), irreps, strict=True)
                if irrep == o3.Irrep("0e")
            ]
            columns.append(torch.cat(scalars))
            offset += irreps.dim
        return columns

    def activation_widths(self) -> list[int]:
        """Number of invariant channels of each layer."""
        return [len(columns) for columns in self._scalar_columns()]

    def activations(self, structures: Sequence[Atoms], layers: Sequence[int]) -> Iterator[FloatArray]:
        """Rotation-invariant node features (0e irreps) of the layers, (n_atoms, Σ widths) a structure."""
        columns = self._scalar_columns()
        wanted = torch.cat([columns[layer] for layer in layers])
        for batch, data in self.graphs(structures):
            with torch.no_grad():
                out = self.model(data, compute_force=False)
            nodes = out["node_feats"][:, wanted.to(self.device)].cpu().numpy()
            yield from np.split(nodes, np.cumsum([len(atoms) for atoms in batch])[:-1])

    def activation_slopes(
        self, data: dict[str, torch.Tensor], layers: Sequence[int], probes: torch.Tensor
    ) -> Iterator[FloatArray]:
        """d/dε of the activations h at x + εv, for each probe v (n_atoms, 3): (n_atoms, Σ widths).

        With u of the shape of h, dh/dε is the gradient with respect to u of v·∂(u·h)/∂x; `data` is a batch.
        """
        columns = self._scalar_columns()
        wanted = torch.cat([columns[layer] for layer in layers]).to(self.device)
        positions = data["positions"].requires_grad_(True)
        nodes = self.model(data, compute_force=False)["node_feats"][:, wanted]
        weights = torch.zeros_like(nodes).requires_grad_(True)
        slope = gradients_of((weights * nodes).sum(), [positions], create_graph=True)[0]
        for probe in probes.to(positions):
            found = None
            if slope is not None:
                found = gradients_of((slope * probe).sum(), [weights], retain_graph=True)[0]
            yield (torch.zeros_like(nodes) if found is None else found).detach().cpu().numpy()

    def parameter_names(self, pattern: str = "all") -> list[str]:
        """Names of a subset of the parameters, in the model's own order.

        Args:
            pattern: `all`, `readout`, `interactions` (interactions and products), or a regular expression
                that is searched for in the names.

        Raises:
            PotentialError: nothing matches, or the expression is malformed.
        """
        names = [name for name, _ in self.model.named_parameters()]
        expression = {
            "all": "",
            "readout": r"^readouts\.",
            "interactions": r"^(interactions|products)\.",
        }.get(pattern, pattern)
        try:
            chosen = [name for name in names if re.search(expression, name)]
        except re.error as error:
            raise PotentialError(
                f"parameters={pattern!r} is no regular expression ({error})",
                expected="all, readout, interactions, or a regular expression",
            ) from error
        if not chosen:
            raise PotentialError(f"no parameter matches {pattern!r}", expected="one of " + ", ".join(names))
        return chosen

    def parameter_sizes(self, names: Sequence[str]) -> list[int]:
        """Number of entries of each named parameter."""
        parameters = dict(self.model.named_parameters())
        return [parameters[name].numel() for name in names]

    def energy_gradients(self, structures: Sequence[Atoms], names: Sequence[str]) -> Iterator[torch.Tensor]:
        """∇θ E of each structure, (Σ sizes,), by one backward pass a structure."""
        for batch in self.batches(structures):
            for atoms in batch:
                with differentiable(self.model, names) as parameters:
                    gradients = gradients_of(self.energies(self.graph([atoms])).sum(), parameters)
                yield torch.cat(
                    [
                        torch.zeros_like(parameter).flatten() if gradient is None else gradient.flatten()
                        for gradient, parameter in zip(gradients, parameters, strict=True)
                    ]
                )

    def energies(self, data: dict[str, torch.Tensor]) -> torch.Tensor:
        """Energies (eV) of a batch, (structures,), still part of the graph of differentiation."""
        return cast(torch.Tensor, self.model(data, compute_force=False)["energy"])

    def gradient_plan(self, names: Sequence[str]) -> GradientPlan:
        """How to take the gradients of all structures of a batch with respect to the named parameters."""
        wanted = frozenset(names)
        rules: dict[str, Rule] = {}
        covered: set[str] = set()
        for path, module in self.model.named_modules():
            contraction = isinstance(module, Contraction)
            own = {f"{path}.{name}" for name, _ in module.named_parameters(recurse=contraction)}
            rule: Rule | None = None
            if own & wanted:
                on_edges = "conv_tp_weights" in path or "density_fn" in path
                rule = (
                    ContractionRule(path, module, _contraction_tensors(module))
                    if contraction
                    else rule_for(path, module, "edges" if on_edges else "nodes")
                )
            if rule is not None:
                rules[path] = rule
                covered |= own
        spread: dict[str, Rule] = {
            f"{path}.{name}": NodeScalar(f"{path}.{name}")
            for path, module in self.model.named_modules()
            if isinstance(module, RealAgnosticResidualNonLinearInteractionBlock)
            for name in ("alpha", "beta")
            if f"{path}.{name}" in wanted
        }
        rest = tuple(name for name in names if name not in covered and name not in spread)
        geometry = tuple(
            cast(torch.nn.Module, getattr(self.model, name))
            for name in ("spherical_harmonics", "radial_embedding")
        )
        return GradientPlan(self.model, self.energies, rules, spread, wanted, rest, geometry)


def _contraction_tensors(module: torch.nn.Module) -> dict[int, tuple[str, torch.Tensor]]:
    """For each degree of a symmetric contraction, the name of its weights and its coupling tensor U."""
    highest = cast(int, module.correlation)
    names = {highest: "weights_max"} | {
        degree: f"weights.{highest - 1 - degree}" for degree in range(1, highest)
    }
    buffers = dict(module.named_buffers())
    return {degree: (name, buffers[f"U_matrix_{degree}"]) for degree, name in names.items()}
