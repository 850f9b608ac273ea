"""`surveyor.evaluate`: errors of a potential on labelled frames, in all and by group, and the worst."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from surveyor.errors import PotentialError, StructureError, notice
from surveyor.metrics import Errors, differences, errors_from, predictions, without_offsets
from surveyor.potentials.opening import opened
from surveyor.progress import Progress, Silent
from surveyor.structures import StructureFile, labels_of, validated
from surveyor.structures.labels import MARK
from surveyor.types import Float64Array, Labels, Potential, StructureSource

GROUPED_BY = ("config_type", "reaction")
"""Keys of `info` that say of which kind a frame is."""

NAMELESS = "(none)"
"""Group of the frames that lack the key, where others have it."""

OTHER_LEVEL = 10.0
"""So much smaller the energy error becomes without constants of the elements, it was mostly constants."""


@dataclass(frozen=True)
class Summary:
    """Errors on some frames.

    | field                   | meaning                                                    | unit     |
    |-------------------------|------------------------------------------------------------|----------|
    | frames                  | how many                                                   |          |
    | energy_mae, energy_rmse | of (E_ref − E) / n_atoms                                   | meV/atom |
    | force_mae, force_rmse   | of F_ref − F, over all atoms and components                | meV/Å    |
    | stress_frames           | frames whose stress is labelled and predicted              |          |
    | stress_mae, stress_rmse | of these, over the six components; None where there is none | meV/Å³  |
    """

    frames: int
    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float
    stress_frames: int
    stress_mae: float | None
    stress_rmse: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found; frames are in their order.

    | field      | meaning                                                                   | unit    |
    |------------|---------------------------------------------------------------------------|---------|
    | structures | copies with the predictions: `surveyor_energy` and, where there is one,   | eV, Å   |
    |            | `surveyor_stress` in `info`, `surveyor_forces` in `arrays`                |         |
    | places     | file, or None for a structure in memory, and number there of each frame   |         |
    | labels     | of each frame                                                             | eV, Å   |
    | predicted  | for each frame, as the potential gives it                                 | eV, Å   |
    | total      | errors on all frames                                                      |         |
    | groups     | key of `info`, where a frame has it → group → errors on its frames        |         |
    | each       | errors of each frame: `energy_each`, `force_each`                         |         |
    | residuals  | (E_ref − E) / n_atoms without the offsets, (frames,)                      | eV/atom |
    | offsets    | symbol → constant that was taken off; empty: none was                     | eV      |
    """

    structures: list[Atoms]
    places: list[tuple[str | None, int]]
    labels: list[Labels]
    predicted: list[Labels]
    total: Summary
    groups: dict[str, dict[str, Summary]]
    each: Errors
    residuals: Float64Array
    offsets: dict[str, float]

    def worst(self, n: int = 5, of: Literal["energy", "force"] = "force") -> list[int]:
        """Positions of the n frames of largest error, largest first."""
        errors = self.each.energy_each if of == "energy" else self.each.force_each
        return [int(index) for index in np.argsort(-errors, kind="stable")[:n]]

    def parity(self) -> dict[str, tuple[Float64Array, Float64Array]]:
        """Quantity with its unit → labels, and predictions (energies without the offsets)."""
        energy = np.array([label.energy / len(label.forces) for label in self.labels])
        force, found = (
            np.concatenate([each.forces.ravel() for each in all_of])
            for all_of in (self.labels, self.predicted)
        )
        shown = {"energy, eV/atom": (energy, energy - self.residuals), "forces, eV/Å": (force, found)}
        pairs = _stresses(self.labels, self.predicted)
        if pairs:
            stress, told = (np.concatenate(part) for part in zip(*pairs, strict=True))
            shown["stress, eV/Å³"] = (stress, told)
        return shown

    def __len__(self) -> int:
        return len(self.structures)

    def __repr__(self) -> str:
        return (
            f"Evaluation({len(self)} frames: energy MAE {self.total.energy_mae:.1f} meV/atom, "
            f"force MAE {self.total.force_mae:.1f} meV/Å)"
        )


def evaluate(
    frames: StructureSource | Sequence[str | Path],
    model: str | Path | Potential = "builtin",
    *,
    offsets: bool = False,
    head: str | None = None,
    device: str | None = None,
    python: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare a potential's predictions with labels.

    Args:
        frames: a file, several files, or structures, with `REF_energy` (eV), `REF_forces` (eV/Å), and where
            there is one `REF_stress` (eV/Å³).
        model: an opened potential, or what `open_potential` takes.
        offsets: take one constant an element, fitted to these frames, off the energy errors: labels and
            potential may be of two levels of theory.
        head: which head of a multi-head model.
        device: on which the potential is opened; None takes a GPU where there is one.
        python: of another environment, in which the potential is opened; None: this one.

    Raises:
        StructureError: a frame cannot be read, has no labels, or an element that the potential does not know.
        PotentialError: the potential cannot be opened, or predicts something that is no number.
    """
    progress = progress or Silent()
    potential = opened(model, device, python, head)
    places, structures = _read(frames, potential.elements)
    labels = [labels_of(atoms, _named(place)) for atoms, place in zip(structures, places, strict=True)]
    progress.start("predictions", len(structures))
    predicted = predictions(potential, structures, progress.advance)
    progress.finish()
    energy, force = differences(labels, predicted)
    _check_finite(potential, places, energy, force)
    rest, constants = without_offsets(energy, structures)
    if offsets:
        energy = rest
    else:
        _say_constants(energy, rest, len(constants))

    def summary(index: Sequence[int]) -> Summary:
        found = errors_from(energy[index], [force[i] for i in index])
        pairs = _stresses([labels[i] for i in index], [predicted[i] for i in index])
        stress = 1e3 * np.concatenate([a - b for a, b in pairs]) if pairs else None
        return Summary(
            len(index), found.energy_mae, found.energy_rmse, found.force_mae, found.force_rmse, len(pairs),
            None if stress is None else float(np.abs(stress).mean()),
            None if stress is None else float(np.sqrt((stress**2).mean())),
        )  # fmt: skip

    return Evaluation(
        [_with_predictions(atoms, found) for atoms, found in zip(structures, predicted, strict=True)],
        places, labels, predicted, summary(range(len(structures))),
        {key: {name: summary(index) for name, index in own.items()} for key, own in _groups(structures)},
        errors_from(energy, force), energy,
        {chemical_symbols[z]: offset for z, offset in constants.items()} if offsets else {},
    )  # fmt: skip


def _read(
    frames: StructureSource | Sequence[str | Path], elements: Sequence[int]
) -> tuple[list[tuple[str | None, int]], list[Atoms]]:
    """Where each frame stands, and the frames."""
    if isinstance(frames, str | Path):
        frames = [frames]
    listed = list(frames) if isinstance(frames, Iterable) and not isinstance(frames, Atoms) else frames
    if isinstance(listed, list) and listed and all(isinstance(each, str | Path) for each in listed):
        found = list(chain.from_iterable(_numbered(Path(path), elements) for path in listed))
    else:
        found = [((None, i), atoms) for i, atoms in enumerate(validated(listed, elements))]
    if not found:
        raise StructureError("no frame to evaluate", expected="at least one labelled structure")
    return [place for place, _ in found], [atoms for _, atoms in found]


def _numbered(path: Path, elements: Sequence[int]) -> Iterator[tuple[tuple[str | None, int], Atoms]]:
    for number, atoms in enumerate(StructureFile(path, elements)):
        yield (str(path), number), atoms


def _named(place: tuple[str | None, int]) -> str:
    path, number = place
    return f"structure {number}" if path is None else f"{Path(path).name}, frame {number}"


def _stresses(
    labels: Sequence[Labels], predicted: Sequence[Labels]
) -> list[tuple[Float64Array, Float64Array]]:
    """Labels and predictions, (6,) each, of the frames that have both."""
    pairs = zip(labels, predicted, strict=True)
    return [(a.stress, b.stress) for a, b in pairs if a.stress is not None and b.stress is not None]


def _groups(structures: Sequence[Atoms]) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Keys that some frame has, and the frames of each of its values."""
    for key in GROUPED_BY:
        if not any(key in atoms.info for atoms in structures):
            continue
        own: dict[str, list[int]] = {}
        for index, atoms in enumerate(structures):
            own.setdefault(str(atoms.info.get(key, NAMELESS)), []).append(index)
        yield key, dict(sorted(own.items()))


def _check_finite(
    potential: Potential,
    places: Sequence[tuple[str | None, int]],
    energy: Float64Array,
    force: Sequence[Float64Array],
) -> None:
    for place, e, f in zip(places, energy, force, strict=True):
        if not (np.isfinite(e) and np.isfinite(f).all()):
            raise PotentialError(
                f"{_named(place)}: the {potential.family} potential predicts NaN or inf",
                expected="finite energies and forces",
                todo="look at that frame's geometry, and at the training of the potential",
            )


def _say_constants(energy: Float64Array, rest: Float64Array, n_elements: int) -> None:
    """Say where constants of the elements are most of the energy errors, and the frames can tell."""
    before, after = (1e3 * float(np.abs(values).mean()) for values in (energy, rest))
    if len(energy) > 2 * n_elements and before > max(1.0, OTHER_LEVEL * after):
        notice(
            f"constants of the elements explain most of the energy error ({before:.0f} → {after:.1f} "
            "meV/atom): are labels and potential of two levels of theory? --offsets takes them off"
        )


def _with_predictions(atoms: Atoms, found: Labels) -> Atoms:
    marked = atoms.copy()
    marked.info[f"{MARK}energy"] = float(found.energy)
    marked.arrays[f"{MARK}forces"] = np.array(found.forces, dtype=np.float64)
    marked.info.pop(f"{MARK}stress", None)
    if found.stress is not None:
        marked.info[f"{MARK}stress"] = np.array(found.stress, dtype=np.float64)
    return marked
