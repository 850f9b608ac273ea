"""Gradients of a batch, assembled from captures, against automatic differentiation a structure at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from e3nn import o3
from mace import modules

from surveyor.errors import Notice, PotentialError
from surveyor.features import ForceTangent, Tangent
from surveyor.features.probes import directions
from surveyor.potentials.e3nn_rules import IrrepsLinear
from surveyor.potentials.loop import energy_gradients, force_gradients
from surveyor.potentials.mace import MacePotential
from surveyor.potentials.parameters import parameter_names, parameter_sizes
from surveyor.potentials.plan import gradient_plan
from surveyor.potentials.taps import Block
from tiny import random_crystal, random_molecule, tiny_mace


def omol_like(dtype: str = "float64", seed: int = 0) -> MacePotential:
    """The blocks of MACE-OMOL: charge and spin embeddings, non-linear interactions, readouts with biases."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        torch.manual_seed(seed)
        block = modules.interaction_classes["RealAgnosticResidualNonLinearInteractionBlock"]
        model = modules.ScaleShiftMACE(
            atomic_inter_scale=1.3,
            atomic_inter_shift=0.1,
            r_max=4.0,
            num_bessel=6,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=2,
            num_elements=4,
            hidden_irreps=o3.Irreps("6x0e + 6x1o"),
            MLP_irreps=o3.Irreps("5x0e"),
            edge_irreps=o3.Irreps("4x0e + 4x1o"),
            atomic_energies=np.full(4, -3.0),
            avg_num_neighbors=6.0,
            atomic_numbers=[1, 6, 7, 8],
            correlation=2,
            gate=torch.nn.functional.silu,
            radial_MLP=[12, 12],
            apply_cutoff=False,
            use_agnostic_product=True,
            use_last_readout_only=True,
            use_embedding_readout=True,
            distance_transform="Agnesi",
            readout_cls=modules.blocks.NonLinearBiasReadoutBlock,
            embedding_specs={
                "total_charge": {
                    "type": "categorical", "per": "graph", "num_classes": 7, "offset": 3, "emb_dim": 4,
                },
                "total_spin": {"type": "continuous", "per": "graph", "in_dim": 1, "emb_dim": 3},
            },
        )  # fmt: skip
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", ".beta")):
                torch.nn.init.normal_(parameter, std=0.3)
    finally:
        torch.set_default_dtype(previous)
    return MacePotential(model, source="omol-like")


MODELS: dict[str, Callable[[str], MacePotential]] = {
    "scalar": lambda dtype: tiny_mace(dtype=dtype, correlation=3),
    "vector": lambda dtype: tiny_mace(dtype=dtype, max_L=1, scale_shift=False),
    "L=2": lambda dtype: tiny_mace(dtype=dtype, channels=4, max_L=2, correlation=3),
    "one layer": lambda dtype: tiny_mace(dtype=dtype, interactions=1, max_L=1),
    "three layers": lambda dtype: tiny_mace(dtype=dtype, interactions=3, channels=4, max_L=1),
    "one element": lambda dtype: tiny_mace(dtype=dtype, elements=(6,)),
    "heads": lambda dtype: tiny_mace(dtype=dtype, heads=("b", "Default"), max_L=1),
    "heads, plain MACE": lambda dtype: tiny_mace(dtype=dtype, heads=("b", "a"), scale_shift=False),
    "MACE-MP-0": lambda dtype: tiny_mace(
        dtype=dtype,
        max_L=1,
        interaction="RealAgnosticResidualInteractionBlock",
        interaction_first="RealAgnosticInteractionBlock",
    ),
    "MACE-MPA-0": lambda dtype: tiny_mace(
        dtype=dtype,
        max_L=1,
        interaction="RealAgnosticDensityResidualInteractionBlock",
        interaction_first="RealAgnosticDensityInteractionBlock",
        pair_repulsion=True,
    ),
    "density, scalar": lambda dtype: tiny_mace(
        dtype=dtype,
        interaction="RealAgnosticDensityResidualInteractionBlock",
        pair_repulsion=True,
        scale_shift=False,
    ),
    "attention": lambda dtype: tiny_mace(
        dtype=dtype, channels=4, interaction="RealAgnosticAttResidualInteractionBlock"
    ),
    "MACE-OMOL": omol_like,
}


SINGLE_PRECISION = ("scalar", "MACE-MPA-0", "MACE-OMOL")
CASES = [(model, "float64", 1e-9) for model in MODELS] + [
    pytest.param(model, "float32", 1e-3, marks=() if model in SINGLE_PRECISION else pytest.mark.slow)
    for model in MODELS
]


@functools.cache
def opened(model: str, dtype: str) -> MacePotential:
    return MODELS[model](dtype)


@pytest.fixture(autouse=True)
def _plain_execution() -> Iterator[None]:
    """Compiling TorchScript anew for each shape would take most of the time."""
    with torch.jit.optimized_execution(False):
        yield


def structures(potential: MacePotential) -> list[Atoms]:
    """Molecules and crystals of several sizes, a lone atom among them."""
    rng = np.random.default_rng(5)
    found = [random_molecule(rng, n, potential.elements) for n in (3, 6, 1, 4, 2)]
    crystal = random_crystal(rng, 3)
    crystal.numbers = rng.choice(potential.elements, 3)
    found.insert(2, crystal)
    found[1].info.update(total_charge=-1, total_spin=2)
    return found


def loop_rows(potential: MacePotential, batch: list[Atoms], names: list[str]) -> np.ndarray:
    return np.stack([row.cpu().numpy() for row in energy_gradients(potential, batch, names)])


def loop_force_rows(
    potential: MacePotential, atoms: Atoms, probes: np.ndarray, names: list[str]
) -> np.ndarray:
    return force_gradients(potential, atoms, probes, names).cpu().numpy()


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest error of a row, as a share of the largest row."""
    scale = np.linalg.norm(wanted, axis=1).max()
    return float(np.linalg.norm(found - wanted, axis=1).max() / scale)


@pytest.mark.parametrize(("model", "dtype", "tolerance"), CASES)
def test_energy_rows_equal_the_loop(model: str, dtype: str, tolerance: float) -> None:
    potential = opened(model, dtype)
    batch = structures(potential)
    names = parameter_names(potential.model)
    found = Tangent(potential, dim=None)(batch)
    wanted = loop_rows(potential, batch, names)
    assert relative(found.values, wanted) < tolerance
    assert np.count_nonzero(np.abs(wanted).max(axis=0)) > 0.2 * wanted.shape[1]


@pytest.mark.parametrize(("model", "dtype", "tolerance"), CASES)
def test_force_rows_equal_the_loop(model: str, dtype: str, tolerance: float) -> None:
    potential = opened(model, dtype)
    batch = structures(potential)[:4]
    found = ForceTangent(potential, probes=2, dim=None, seed=3)(batch)
    wanted = np.concatenate(
        [
            loop_force_rows(potential, atoms, directions(len(atoms), 2, 3), parameter_names(potential.model))
            for atoms in batch
        ]
    )
    assert relative(found.values, wanted) < tolerance


def test_every_parameter_of_the_fast_models_has_a_rule() -> None:
    for name in MODELS:
        potential = opened(name, "float64")
        assert gradient_plan(potential, parameter_names(potential.model)).rest == (), name


@pytest.mark.parametrize("parameters", ["readout", "interactions", "embedding", r"weights\.0"])
def test_subsets_are_columns_of_the_whole(parameters: str) -> None:
    potential = opened("MACE-MPA-0", "float64")
    batch = structures(potential)
    all_names = parameter_names(potential.model)
    names = parameter_names(potential.model, parameters)
    assert 0 < len(names) < len(all_names)
    all_sizes = parameter_sizes(potential.model, all_names)
    ends = np.cumsum(all_sizes)
    columns = np.concatenate(
        [
            np.arange(end - size, end)
            for name, size, end in zip(
                all_names, parameter_sizes(potential.model, all_names), ends, strict=True
            )
            if name in names
        ]
    )
    whole = loop_rows(potential, batch, all_names)
    assert relative(Tangent(potential, parameters, dim=None)(batch).values, whole[:, columns]) < 1e-9


def test_force_rows_are_the_slope_of_energy_rows() -> None:
    potential = opened("MACE-MPA-0", "float64")
    batch = [random_molecule(np.random.default_rng(1), n) for n in (4, 5)]
    energies = Tangent(potential, dim=64)
    found = ForceTangent(potential, probes=3, dim=64)(batch)
    step = 1e-3
    for number in range(3):

        def moved(share: float, number: int = number) -> np.ndarray:
            shifted = [atoms.copy() for atoms in batch]
            for atoms in shifted:
                atoms.positions += share * step * directions(len(atoms), 3, 0)[number]
            return np.asarray(energies(shifted).values)

        slope = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)
        assert relative(found.values[number::3], -slope) < 1e-6


def test_all_probes_are_the_force_components() -> None:
    potential = tiny_mace()
    atoms = molecule("H2O")
    rows = ForceTangent(potential, probes="all", dim=None)([atoms])
    assert len(rows.values) == 9
    # The total is linear in the readouts' last weights W, so that Σ_W W · ∂F/∂W is F itself.
    sizes = parameter_sizes(potential.model, parameter_names(potential.model))
    columns = np.split(rows.values, np.cumsum(sizes)[:-1], axis=1)
    parts = dict(zip(parameter_names(potential.model), columns, strict=True))
    forces = sum(
        parts[name] @ potential.model.get_parameter(name).numpy()
        for name in ("readouts.0.linear.weight", "readouts.1.linear_2.weight")
    )
    np.testing.assert_allclose(forces.reshape(3, 3), potential.predict([atoms])[0].forces, atol=1e-10)


def test_model_and_parameters_are_left_as_they_were() -> None:
    potential = omol_like()
    before = potential.predict([molecule("H2O")])[0]
    own = [name for name, module in potential.model.named_modules() if "forward" in module.__dict__]
    Tangent(potential)([molecule("CH4")])
    ForceTangent(potential, probes=1)([molecule("CH4")])
    after = potential.predict([molecule("H2O")])[0]
    assert before.energy == after.energy
    assert own == [name for name, module in potential.model.named_modules() if "forward" in module.__dict__]
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in potential.model.parameters())
    assert not any(parameter.requires_grad for parameter in potential.model.parameters())


class Scaled(torch.nn.Module):
    """Around a module, a factor with a parameter of its own."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.strength = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64), requires_grad=False)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(*inputs) * torch.tanh(self.strength)


def rows_are_those_of_the_loop(potential: MacePotential) -> None:
    batch = structures(potential)[:3]
    names = parameter_names(potential.model)
    energies, forces = Tangent(potential, dim=None)(batch), ForceTangent(potential, probes=2, dim=None)(batch)
    assert relative(energies.values, loop_rows(potential, batch, names)) < 1e-9
    wanted = np.concatenate(
        [loop_force_rows(potential, atoms, directions(len(atoms), 2, 0), names) for atoms in batch]
    )
    assert relative(forces.values, wanted) < 1e-9


def test_unknown_module_falls_back_with_a_warning_that_names_it() -> None:
    potential = tiny_mace()
    potential.model.readouts[1] = Scaled(potential.model.readouts[1])
    with pytest.warns(Notice, match=r"readouts\.1 \(Scaled\).* a backward pass per structure"):
        rows_are_those_of_the_loop(potential)


def test_a_rule_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = IrrepsLinear.blocks

    def doubled(self: IrrepsLinear, *arguments: Any) -> Iterator[Block]:
        for block in blocks(self, *arguments):
            wrong = "linear_up" in self.name
            yield replace(block, values=2 * block.values if wrong else block.values)

    monkeypatch.setattr(IrrepsLinear, "blocks", doubled)
    with pytest.warns(Notice, match=r"linear_up \(Linear\)"):
        rows_are_those_of_the_loop(tiny_mace())


def test_no_matching_parameter_is_an_error() -> None:
    with pytest.raises(PotentialError, match="no parameter matches"):
        Tangent(tiny_mace(), "nothing-like-this")
