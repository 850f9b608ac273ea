"""What a potential must offer, and what it may offer beyond: small capabilities, asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from ase import Atoms

from surveyor.errors import PotentialError
from surveyor.potentials.fine_tuning import FineTuningSettings
from surveyor.potentials.taps import Rule
from surveyor.types import Potential, StorableFeatureMap, Trainer

Dtype = Literal["float32", "float64"]
Capability = TypeVar("Capability")


@dataclass(frozen=True, eq=False)
class Batch:
    """Structures side by side, as a family's model takes them.

    | variable  | shape      | meaning                                                                      |
    |-----------|------------|------------------------------------------------------------------------------|
    | inputs    |            | what the family's own forward pass takes                                     |
    | positions | (atoms, 3) | Å, part of the inputs: energies depend on this very tensor                   |
    | count     |            | number of structures                                                         |
    | elements  | (atoms,)   | index of each atom's element in the potential's `elements`                   |
    | owners    | (rows,) each | structure of each row, by domain: `nodes` (the atoms), `edges`, own names  |
    """

    inputs: Any
    positions: torch.Tensor
    count: int
    elements: torch.Tensor
    owners: Mapping[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Layer:
    """Hidden features of the atoms, at the output of one module.

    | field  | meaning                                                                         |
    |--------|---------------------------------------------------------------------------------|
    | module | its output is looked at                                                         |
    | width  | number of features                                                              |
    | pick   | output → rotation-invariant features (atoms, width)                             |
    """

    module: torch.nn.Module
    width: int
    pick: Callable[[Any], torch.Tensor]


@runtime_checkable
class Differentiable(Potential, Protocol):
    """A torch model whose energies can be differentiated: tangent features."""

    @property
    def model(self) -> torch.nn.Module:
        """The parameters are its own; none of them requires a gradient."""

    @property
    def device(self) -> torch.device: ...

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """The model's input, atoms in the order of the structures."""

    def energies(self, batch: Batch) -> torch.Tensor:
        """Energies (eV), (count,), still part of the graph of differentiation."""

    def rules(self) -> Mapping[str, Rule]:
        """Gradient rules of the family's own modules, or scalar parameters, by name; see `gradient_plan`."""


@runtime_checkable
class Layered(Differentiable, Protocol):
    """A model with hidden features of its atoms: activations."""

    def layers(self) -> Sequence[Layer]:
        """The layers, from the input to the output."""


@runtime_checkable
class Atomic(Differentiable, Protocol):
    """A model whose energy is a sum over atoms: shares of the atoms in an uncertainty."""

    def atom_energies(self, batch: Batch) -> torch.Tensor | None:
        """Energy of each atom (eV), (atoms,), still part of the graph; None: this model has none."""


@runtime_checkable
class Shiftable(Potential, Protocol):
    """Energies of the elements can be shifted: fits of reference energies."""

    def with_reference_shifts(self, shifts: Mapping[int, float]) -> Potential:
        """A copy whose energies have so many eV more for each atom of the elements; the same forces."""


@runtime_checkable
class Trainable(Potential, Protocol):
    """The family has a trainer: campaigns."""

    def trainer(self, settings: FineTuningSettings, replay: Sequence[Atoms] = ()) -> Trainer:
        """The family's own trainer.

        Args:
            settings: those of the campaign's `training`.
            replay: labelled structures of the pretraining level, with mode replay.

        Raises:
            SurveyorError: a setting that the family cannot take.
        """


@runtime_checkable
class Redrawable(Potential, Protocol):
    """The same architecture with fresh weights: a baseline."""

    def with_random_weights(self, seed: int) -> Potential:
        """A copy whose weights are drawn as before any training."""


@runtime_checkable
class Remote(Potential, Protocol):
    """A potential in another environment: what needs its family, or its model, is done there."""

    @property
    def suffix(self) -> str:
        """Ending of the files of its family."""

    def opened(self, path: Path, device: str | None) -> Potential:
        """A file of its family, opened there."""

    def feature_map(
        self, name: str, given: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> StorableFeatureMap:
        """A feature map by name over the potential; see `features.registry.make_features`."""


class Family(Protocol):
    """How the potentials of one family are opened; registered in the entry-point group `surveyor.potentials`.

    Importing it should be quick: the family's library is imported when a potential is opened.
    """

    @property
    def suffixes(self) -> Sequence[str]:
        """Endings of the files that it opens; a potential is saved with the first."""

    def names(self) -> Sequence[str]:
        """Published potentials that it knows by name."""

    def open(self, source: str, *, device: str | None, dtype: Dtype | None, head: str | None) -> Potential:
        """Open a file that exists, or one of the names.

        Raises:
            PotentialError: it holds no potential of this family, or the device, dtype or head does not exist.
        """


OFFERED: dict[type[Any], str] = {
    Differentiable: "batch(structures) and energies(batch) of a torch model",
    Layered: "layers()",
    Atomic: "atom_energies(batch)",
    Shiftable: "with_reference_shifts(shifts)",
    Trainable: "trainer(settings)",
    Redrawable: "with_random_weights(seed)",
}
"""Capability → what a family adds to have it."""


def require(potential: Potential, capability: type[Capability], what_for: str) -> Capability:
    """The potential, known to have a capability.

    Raises:
        PotentialError: it lacks it; naming the capability, the family and what to do.
    """
    if isinstance(potential, capability):
        return potential
    name = capability.__name__
    raise PotentialError(
        f"{what_for}: the family {potential.family!r} is not {name} ({type(potential).__name__})",
        expected=f"a potential with {OFFERED.get(capability, name)}",
        todo="take a potential of another family, or see 'Add your own family' in docs/extending.md",
    )
