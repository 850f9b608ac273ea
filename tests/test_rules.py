"""Rules of gradients where a module is called in an unusual way, or is a kin of what the rule is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from surveyor.features import ForceTangent, Tangent
from surveyor.features.probes import directions
from surveyor.potentials.base import Batch
from surveyor.potentials.loop import energy_gradients, force_gradients
from surveyor.potentials.mace import MacePotential  # noqa: F401  (before e3nn)
from surveyor.potentials.parameters import parameter_names
from surveyor.potentials.plan import gradient_plan
from surveyor.potentials.prediction import PotentialCalculator, fingerprint_of, predictions
from surveyor.potentials.taps import Rule
from surveyor.types import Labels
from tiny import random_molecule

from e3nn import o3  # isort: skip

WIDTH = 4


class One(torch.nn.Module):
    """E_b = Σ_a tanh(f(x_a)), x_a depends on the positions; `part` is the module in question."""

    def __init__(
        self, part: torch.nn.Module, use: Callable[[torch.nn.Module, torch.Tensor, Batch], torch.Tensor]
    ):
        super().__init__()
        self.part, self.use = part, use

    def forward(self, batch: Batch) -> torch.Tensor:
        vectors = 0.3 * batch.positions
        x = torch.stack([vectors, vectors**2, vectors.roll(1, 1), torch.sin(vectors)], dim=2)  # (atoms, 3, 4)
        values = torch.tanh(self.use(self.part, x, batch)).flatten(1).sum(dim=1)
        return values.new_zeros(batch.count).index_add(0, batch.owners["nodes"], values)


class OnePotential:
    family, elements, device = "one", (1, 6, 7, 8), torch.device("cpu")

    def __init__(self, model: One) -> None:
        self.model = model.double().requires_grad_(False)
        self.fingerprint = fingerprint_of(model)

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        positions = torch.tensor(np.concatenate([atoms.positions for atoms in structures]))
        numbers = np.concatenate([atoms.numbers for atoms in structures])
        owner = torch.tensor(np.repeat(np.arange(len(structures)), [len(atoms) for atoms in structures]))
        places = torch.tensor(np.searchsorted(self.elements, numbers))
        return Batch(None, positions, len(structures), places, {"nodes": owner})

    def energies(self, batch: Batch) -> torch.Tensor:
        return self.model(batch)

    def rules(self) -> dict[str, Rule]:
        return {}

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        return predictions(self, structures)

    def calculator(self) -> PotentialCalculator:
        return PotentialCalculator(self)

    def save(self, path: Path) -> None:
        torch.save(self.model.state_dict(), path)


class Dense(torch.nn.Linear):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.activation = torch.nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(super().forward(x))


class Named(torch.nn.Linear):
    """Only the name is new."""


class Halved(torch.nn.Linear):
    """Has an activation, and does something else with it."""

    activation = staticmethod(torch.tanh)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(0.5 * super().forward(x))


def pairs(part: torch.nn.Module, x: torch.Tensor, batch: Batch) -> torch.Tensor:
    places = torch.stack([batch.elements, (batch.elements + 1) % 4], dim=1)
    return part(places.int()) * x[:, :2]


def attributes(soft: bool) -> Callable[[torch.nn.Module, torch.Tensor, Batch], torch.Tensor]:
    def use(part: torch.nn.Module, x: torch.Tensor, batch: Batch) -> torch.Tensor:
        chosen = torch.nn.functional.one_hot(batch.elements, WIDTH).to(x)
        return part(x[:, 0], torch.softmax(chosen + x[:, 1], dim=1) if soft else chosen)

    return use


class Power(torch.nn.Module):
    """exp(−s x): its backward formula needs its result."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.strength = torch.nn.Parameter(torch.linspace(0.5, 1.5, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-self.strength * x)


def rows(part: torch.nn.Module, x: torch.Tensor, _batch: Batch) -> torch.Tensor:
    return part(x)


def first(part: torch.nn.Module, x: torch.Tensor, _batch: Batch) -> torch.Tensor:
    return part(x[:, 0] - 0.3)


def product() -> torch.nn.Module:
    return o3.FullyConnectedTensorProduct("4x0e", "4x0e", "5x0e")


CASES = {
    "Linear, three axes": (lambda: torch.nn.Linear(WIDTH, 5), rows, "Affine"),
    "a named Linear": (lambda: Named(WIDTH, 5), rows, "Affine"),
    "Linear with its activation": (lambda: Dense(WIDTH, 5), rows, "Activated"),
    "Linear that computes something else": (lambda: Halved(WIDTH, 5), rows, "RowLocal"),
    "Embedding, two indices of 32 bits": (lambda: torch.nn.Embedding(4, WIDTH), pairs, "Lookup"),
    "Embedding with a padding": (lambda: torch.nn.Embedding(4, WIDTH, padding_idx=1), pairs, "Lookup"),
    "tensor product, one-hot": (product, attributes(False), "ElementProduct"),
    "tensor product, soft attributes": (product, attributes(True), "AttributeProduct"),
    "LayerNorm": (lambda: torch.nn.LayerNorm(WIDTH), rows, "Norm"),
    "an activation with a parameter": (lambda: torch.nn.PReLU(), first, "RowLocal"),
    "a parameter in an exponent": (lambda: Power(WIDTH), first, "RowLocal"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rule_that_holds_is_taken_and_is_right(name: str) -> None:
    make, use, wanted = CASES[name]
    torch.manual_seed(0)
    potential = OnePotential(One(make(), use))
    names = parameter_names(potential.model)
    plan = gradient_plan(potential, names)
    assert plan.rest == ()
    assert {type(rule).__name__ for rule in plan.rules.values()} == {wanted}
    rng = np.random.default_rng(3)
    structures = [random_molecule(rng, n) for n in (3, 5, 1)]
    loop = torch.stack(list(energy_gradients(potential, structures, names))).numpy()
    assert np.abs(loop).max() > 1e-3
    np.testing.assert_allclose(Tangent(potential, dim=None)(structures).values, loop, rtol=1e-9, atol=1e-12)
    forces = ForceTangent(potential, probes=2, dim=None, seed=1)(structures).values
    wanted_forces = np.concatenate(
        [force_gradients(potential, atoms, directions(len(atoms), 2, 1), names) for atoms in structures]
    )
    np.testing.assert_allclose(forces, wanted_forces, rtol=1e-8, atol=1e-11)
