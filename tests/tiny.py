"""Small random MACE models and structures for the tests: real architecture, no download."""

from __future__ import annotations

from collections.abc import Sequence

from surveyor.potentials.mace import MacePotential  # isort: skip  (before e3nn)
import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace import modules

ELEMENTS = (1, 6, 7, 8)


def tiny_mace(
    *,
    channels: int = 8,
    max_L: int = 0,
    max_ell: int = 2,
    correlation: int = 2,
    interactions: int = 2,
    interaction: str = "RealAgnosticResidualInteractionBlock",
    interaction_first: str | None = None,
    cutoff: float = 4.0,
    heads: Sequence[str] = ("Default",),
    scale_shift: bool = True,
    pair_repulsion: bool = False,
    elements: Sequence[int] = ELEMENTS,
    dtype: str = "float64",
    seed: int = 0,
) -> MacePotential:
    """A randomly initialised MACE, opened as a potential."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        torch.manual_seed(seed)
        settings = {
            "r_max": cutoff,
            "num_bessel": 6,
            "num_polynomial_cutoff": 5,
            "max_ell": max_ell,
            "interaction_cls": modules.interaction_classes[interaction],
            "interaction_cls_first": modules.interaction_classes[interaction_first or interaction],
            "num_interactions": interactions,
            "num_elements": len(elements),
            "hidden_irreps": o3.Irreps([(channels, (L, (-1) ** L)) for L in range(max_L + 1)]),
            "MLP_irreps": o3.Irreps("8x0e"),
            "atomic_energies": np.full((len(heads), len(elements)), -3.0)
            if len(heads) > 1
            else np.full(len(elements), -3.0),
            "avg_num_neighbors": 6.0,
            "atomic_numbers": list(elements),
            "correlation": correlation,
            "gate": torch.nn.functional.silu,
            "radial_MLP": [16, 16],
            "heads": list(heads),
            "pair_repulsion": pair_repulsion,
        }
        if scale_shift:
            zeros = np.zeros(len(heads)) if len(heads) > 1 else 0.0
            model = modules.ScaleShiftMACE(
                atomic_inter_scale=np.ones(len(heads)) if len(heads) > 1 else 1.0,
                atomic_inter_shift=zeros,
                **settings,
            )
        else:
            model = modules.MACE(**settings)
    finally:
        torch.set_default_dtype(previous)
    return MacePotential(model, source="tiny", head=heads[0] if len(heads) > 1 else None)


def random_molecule(rng: np.random.Generator, n_atoms: int = 6, elements: Sequence[int] = ELEMENTS) -> Atoms:
    """Atoms at random, none closer than 0.8 Å."""
    positions: list[np.ndarray] = []
    while len(positions) < n_atoms:
        trial = rng.uniform(0, 1.2 * n_atoms ** (1 / 3), 3)
        if all(np.linalg.norm(trial - other) > 0.8 for other in positions):
            positions.append(trial)
    return Atoms(rng.choice(elements, n_atoms), np.array(positions))


def random_crystal(rng: np.random.Generator, n_atoms: int = 4) -> Atoms:
    """A periodic cell with atoms at random."""
    atoms = random_molecule(rng, n_atoms)
    atoms.set_cell(np.diag([3.5, 4.0, 4.5]) + rng.uniform(-0.3, 0.3, (3, 3)))
    atoms.pbc = True
    return atoms
