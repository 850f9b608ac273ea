"""What a selection hands back: the chosen structures, with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from surveyor.acquisition import Batch, first_few
from surveyor.errors import FeatureError, notice
from surveyor.reasons import atom_shares
from surveyor.structures import structure_id
from surveyor.structures.labels import without_marks
from surveyor.types import FeatureMap, FloatArray

NOISE_FLOOR = 1.05
"""× λ: a second look at what is known already leaves a residual variance of λ."""


@dataclass(frozen=True, eq=False)
class Picked:
    """The chosen structures, best first, and how they were chosen.

    `structures` are copies with `surveyor_rank`, `surveyor_std`, `surveyor_id` and, where there were labelled
    structures, `surveyor_nearest` (id) and `surveyor_similarity` in `info`; where φ is a sum over atoms, each
    atom's share of the residual variance is in `arrays` as `surveyor_atom_share`.
    """

    structures: list[Atoms]
    batch: Batch

    @property
    def indices(self) -> list[int]:
        """Positions in the pool, best first."""
        return self.batch.indices

    def __len__(self) -> int:
        return len(self.structures)

    def __repr__(self) -> str:
        return f"Picked({len(self)} of {self.batch.n_pool} structures: {first_few(self.indices)})"


def note_noise_floor(batch: Batch, noise: float) -> None:
    """Say from which pick on the residual variance is that of the noise: those labels tell nothing new."""
    above = [pick.rank for pick in batch.picks if pick.std**2 > NOISE_FLOOR * noise]
    first = max(above, default=-1) + 1
    if first < len(batch):
        floor = float(np.sqrt(NOISE_FLOOR * noise))
        notice(
            f"the picks from rank {first} on lie at the noise floor (std ≤ {floor:.2g}): "
            "what is labelled or picked before them says as much"
        )


def marked_structures(
    candidates: Iterable[Atoms],
    batch: Batch,
    feature_map: FeatureMap,
    marks: Mapping[str, FloatArray | None],
) -> list[Atoms]:
    """Copies of the picks, best first, with what `Picked` says.

    Args:
        marks: key of `info` → one number a candidate, or None.

    Raises:
        FeatureError: the candidates are not those that were chosen from.
    """
    structures = _found(candidates, batch)
    for key, values in marks.items():
        if values is not None:
            for atoms, index in zip(structures, batch.indices, strict=True):
                atoms.info[key] = float(values[index])
    _add_atom_shares(structures, batch, feature_map)
    return structures


def _found(candidates: Iterable[Atoms], batch: Batch) -> list[Atoms]:
    by_index = {pick.index: pick for pick in batch.picks}
    found: dict[int, Atoms] = {}
    for index, atoms in enumerate(candidates):
        if index in by_index:
            pick, chosen = by_index[index], without_marks(atoms)
            if structure_id(atoms) != pick.id:
                raise FeatureError(
                    f"structure {index} of the pool is not the one that the feature store holds",
                    expected="the file that was embedded",
                    todo="embed this pool into a new store",
                )
            chosen.calc = None
            chosen.info |= {
                "surveyor_rank": pick.rank,
                "surveyor_std": pick.std,
                "surveyor_id": pick.id,
            }
            if pick.nearest is not None:
                chosen.info |= {"surveyor_nearest": pick.nearest, "surveyor_similarity": pick.similarity}
            found[index] = chosen
            if len(found) == len(by_index):
                break
    if len(found) < len(by_index):
        raise FeatureError(
            f"the pool is shorter than the feature store: {len(found)} of {len(by_index)} picks found",
            expected="the file that was embedded",
        )
    return [found[index] for index in batch.indices]


def _add_atom_shares(structures: Sequence[Atoms], batch: Batch, feature_map: FeatureMap) -> None:
    if batch.directions is None:
        return
    for atoms, direction in zip(structures, batch.directions, strict=True):
        shares = atom_shares(feature_map, atoms, direction)
        if shares is not None:
            atoms.set_array("surveyor_atom_share", shares)
