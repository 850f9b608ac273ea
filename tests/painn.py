"""A PaiNN with random weights, as schnetpack's trainer leaves them."""

from __future__ import annotations

from pathlib import Path

import torch

from surveyor.potentials.schnetpack.importing import schnetpack


def painn_file(path: Path, width: int = 16, *, stress: bool = False, references: bool = False) -> Path:
    """Write one; weights of seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        representation = schnetpack.representation.PaiNN(
            n_atom_basis=width,
            n_interactions=2,
            radial_basis=schnetpack.nn.GaussianRBF(n_rbf=12, cutoff=4.0, trainable=True),
            cutoff_fn=schnetpack.nn.CosineCutoff(4.0),
        )
        energy = schnetpack.atomistic.Atomwise(n_in=width, output_key="U")
    after = [schnetpack.transform.CastTo64()]
    if references:
        after.append(schnetpack.transform.AddOffsets("U", add_atomrefs=True))
        after[-1].atomref[[1, 6, 8]] = torch.tensor([-13.6, -1030.0, -2040.0])
    model = schnetpack.model.NeuralNetworkPotential(
        representation,
        input_modules=[
            *([schnetpack.atomistic.Strain()] if stress else []),
            schnetpack.atomistic.PairwiseDistances(),
        ],
        output_modules=[energy, schnetpack.atomistic.Forces(energy_key="U", calc_stress=stress)],
        postprocessors=after,
    )
    torch.save(model, path)
    return path
