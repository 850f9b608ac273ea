"""A family of potentials that shares nothing with MACE: a small network on atoms and pairs, as a plug-in."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from surveyor.potentials.base import Batch, Layer
from surveyor.potentials.fine_tuning import FineTuningSettings
from surveyor.potentials.graphs import build_graph
from surveyor.potentials.prediction import fingerprint_of, predictions
from surveyor.structures import labels_of
from surveyor.types import Labels, Potential, Trainer

ELEMENTS = (1, 6, 7, 8)
CUTOFF, BASIS, WIDTH = 4.0, 6, 8


class Sharpen(torch.nn.Module):
    """A module that no rule knows: y = x · softplus(s), s a channel's own parameter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.strength = torch.nn.Parameter(torch.linspace(-1, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.nn.functional.softplus(self.strength)


class Radial(torch.nn.Module):
    """E = Σ_a (readout(h_a) + reference), h_a of messages from the neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(len(ELEMENTS), WIDTH)
        self.radial = torch.nn.Sequential(
            torch.nn.Linear(BASIS, WIDTH), torch.nn.SiLU(), torch.nn.Linear(WIDTH, WIDTH)
        )
        self.sharpen = Sharpen(WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.readout = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh(), torch.nn.Linear(WIDTH, 1)
        )
        self.register_buffer("references", torch.full((len(ELEMENTS),), -2.0))

    def forward(self, species: torch.Tensor, vectors: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        own = self.embedding(species)
        r = vectors.norm(dim=1, keepdim=True)
        waves = torch.sin(torch.arange(1, BASIS + 1, device=r.device) * torch.pi * r / CUTOFF) / r
        fade = torch.cos(torch.pi * r / (2 * CUTOFF)) ** 4
        messages = self.radial(waves) * fade * own[edges[1]]
        hidden = own + self.sharpen(torch.zeros_like(own).index_add(0, edges[0], messages))
        energies: torch.Tensor = self.readout(self.norm(hidden))[:, 0] + self.references[species]
        return energies


class ToyCalculator(Calculator):
    """An atom and a pair at a time, without batches."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, model: Radial) -> None:
        super().__init__()
        self.model = model

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        pairs = [(i, j) for i in range(len(self.atoms)) for j in range(len(self.atoms)) if i != j]
        near = [(i, j) for i, j in pairs if self.atoms.get_distance(i, j) < CUTOFF]
        edges = torch.tensor(near, dtype=torch.int64).reshape(-1, 2).T
        positions = torch.tensor(self.atoms.positions, requires_grad=True)
        species = torch.tensor([ELEMENTS.index(z) for z in self.atoms.numbers])
        energy = self.model(species, positions[edges[1]] - positions[edges[0]], edges).sum()
        slope = torch.autograd.grad(energy, positions)[0] if near else torch.zeros_like(positions)
        self.results = {"energy": energy.item(), "forces": -slope.numpy()}


class ToyPotential:
    family = "toy"
    elements = ELEMENTS

    def __init__(self, model: Radial) -> None:
        self.model = model.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.model.references.device

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.model)

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        graph = build_graph(structures, CUTOFF)
        positions = torch.tensor(graph.positions, device=self.device)
        edges = torch.tensor(graph.edges, device=self.device)
        shifts = torch.tensor(graph.shifts, device=self.device)
        species = torch.tensor(np.searchsorted(ELEMENTS, graph.numbers), device=self.device)
        owner = torch.tensor(np.repeat(np.arange(len(structures)), graph.counts), device=self.device)
        owners = {"nodes": owner, "edges": owner[edges[0]]}
        return Batch((species, edges, shifts), positions, len(structures), species, owners)

    def atom_energies(self, batch: Batch) -> torch.Tensor:
        species, edges, shifts = batch.inputs
        found: torch.Tensor = self.model(
            species, batch.positions[edges[1]] - batch.positions[edges[0]] + shifts, edges
        )
        return found

    def energies(self, batch: Batch) -> torch.Tensor:
        atoms = self.atom_energies(batch)
        return atoms.new_zeros(batch.count).index_add(0, batch.owners["nodes"], atoms)

    def rules(self) -> dict[str, Any]:
        return {}

    def layers(self) -> list[Layer]:
        return [Layer(self.model.norm, WIDTH, lambda output: output)]

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        return predictions(self, structures)

    def calculator(self) -> Calculator:
        return ToyCalculator(self.model)

    def save(self, path: str | Path) -> None:
        torch.save(self.model.state_dict(), path)

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> ToyPotential:
        model = copy.deepcopy(self.model)
        model.references += torch.tensor([shifts.get(z, 0.0) for z in ELEMENTS])
        return ToyPotential(model)

    def trainer(self, settings: FineTuningSettings, replay: Sequence[Atoms] = ()) -> Trainer:
        return Descent(settings.updates, settings.learning_rate)


class Descent:
    """Adam on energies and forces of all structures at once."""

    def __init__(self, updates: int, learning_rate: float) -> None:
        self.updates, self.learning_rate = updates, learning_rate

    def __call__(
        self,
        start: Potential,
        train: Sequence[Atoms],
        valid: Sequence[Atoms],
        *,
        seed: int,
        workdir: Path,
        references: Mapping[int, float] | None = None,
    ) -> ToyPotential:
        assert isinstance(start, ToyPotential)
        tuned = ToyPotential(copy.deepcopy(start.model))
        batch = tuned.batch(train)
        batch.positions.requires_grad_(True)
        labels = [labels_of(atoms, "train") for atoms in train]
        energies = torch.tensor([label.energy for label in labels])
        forces = torch.tensor(np.concatenate([label.forces for label in labels]))
        optimiser = torch.optim.Adam(tuned.model.requires_grad_(True).parameters(), self.learning_rate)
        for _ in range(self.updates):
            found = tuned.energies(batch)
            slope = torch.autograd.grad(found.sum(), batch.positions, create_graph=True)[0]
            loss = (found - energies).pow(2).mean() + (slope + forces).pow(2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return ToyPotential(tuned.model)


class Toy:
    suffixes = (".toy",)

    def names(self) -> Sequence[str]:
        return ("small",)

    def open(self, source: str, *, device: str | None, dtype: str | None, head: str | None) -> ToyPotential:
        torch.manual_seed(0)
        model = Radial().double()
        if source not in self.names():
            model.load_state_dict(torch.load(source, weights_only=True))
        return ToyPotential(model.to(device or "cpu"))


FAMILY = Toy()


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "toy", target: str = "toy_family:FAMILY"
) -> None:
    """What pip leaves behind of a package that announces a family."""
    info = folder / f"{name}_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[surveyor.potentials]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(str(folder))
