"""Predictions for a seeded sample of a file's frames, so that large files are checked in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from surveyor.doctor.dataset import Dataset
from surveyor.doctor.fits import differences
from surveyor.errors import PotentialError
from surveyor.progress import Progress
from surveyor.structures.label_keys import is_isolated_atom
from surveyor.types import Float64Array, IndexArray, Labels, Potential

ATOMS = 16_000
"""Atoms that are predicted at most: seconds on one core, whatever the file's size."""
EXTREMES = 0.2
"""Share of the sample that goes to the frames whose energies stand out."""
RUN = 4
"""Consecutive frames that are drawn together: they mostly share a composition."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Labels and predictions of some frames.

    | variable    | shape         | meaning                                               | unit |
    |-------------|---------------|-------------------------------------------------------|------|
    | index       | (m,)          | position in the file, ascending                       |      |
    | drawn       | (m,)          | drawn at random, and not for its energy that stands out |    |
    | energy      | (m,)          | label                                                 | eV   |
    | predicted   | (m,)          | the potential's energy                                | eV   |
    | forces      | (m,) of (n,3) | label                                                 | eV/Å |
    | predicted_forces | (m,) of (n,3) | the potential's forces                           | eV/Å |
    | predicted_stress | (m,) of (6,)  | the potential's stress; None where it gives none      | eV/Å³ |
    | failed      | (f,)          | frames whose prediction is NaN or inf                 |      |
    | eligible    |               | frames of the file that could have been drawn         |      |
    """

    data: Dataset
    index: IndexArray
    drawn: np.ndarray[tuple[int], np.dtype[np.bool_]]
    energy: Float64Array
    predicted: Float64Array
    forces: Sequence[Float64Array]
    predicted_forces: Sequence[Float64Array]
    failed: Sequence[int]
    eligible: int
    predicted_stress: Sequence[Float64Array | None] = ()

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def structures(self) -> list[Atoms]:
        return [self.data.structures[i] for i in self.index.tolist()]

    @cached_property
    def sizes(self) -> Float64Array:
        """(m,) number of atoms."""
        return np.array([len(atoms) for atoms in self.structures], dtype=np.float64)

    @cached_property
    def residual(self) -> Float64Array:
        """(m,) E − Ê − Σ_z n_z δ_z − δ_q: what per-element (and per-charge) references leave, in eV."""
        return differences(self.structures, self.energy - self.predicted)


def sample(data: Dataset, potential: Potential, progress: Progress, *, seed: int) -> Sample:
    """Predict the frames that have labels and known elements: all, or a seeded sample of 16,000 atoms."""
    known = set(potential.elements)
    eligible = np.array(
        [
            i
            for i in np.flatnonzero(data.labelled).tolist()
            if known.issuperset(data.structures[i].numbers.tolist())
            and not is_isolated_atom(data.structures[i])
        ],
        dtype=np.intp,
    )
    index, drawn = _choose(data, eligible, seed)
    progress.start(f"{data.name}: predicting {len(index)} of {len(data)} frames", len(index))
    kept: list[int] = []
    labels: list[Labels] = []
    failed: list[int] = []
    for position, prediction in predictions(potential, [data.structures[i] for i in index]):
        progress.advance()
        if prediction is None:
            failed.append(int(index[position]))
        else:
            kept.append(position)
            labels.append(prediction)
    progress.finish()
    index, drawn = index[kept], drawn[kept]
    return Sample(
        data=data,
        index=index,
        drawn=drawn,
        energy=data.energy[index],
        predicted=np.array([label.energy for label in labels]),
        forces=[forces for i in index if (forces := data.forces[i]) is not None],
        predicted_forces=[label.forces for label in labels],
        predicted_stress=[label.stress for label in labels],
        failed=failed,
        eligible=len(eligible),
    )


def predictions(
    potential: Potential, structures: Sequence[Atoms], chunk: int = 64
) -> Iterator[tuple[int, Labels | None]]:
    """Position and prediction; None where the potential gives NaN."""
    for start in range(0, len(structures), chunk):
        block = structures[start : start + chunk]
        try:
            yield from enumerate(potential.predict(block), start)
        except PotentialError:
            if len(block) == 1:
                yield start, None
            else:
                for offset, atoms in enumerate(block):
                    for _, prediction in predictions(potential, [atoms], 1):
                        yield start + offset, prediction


def _choose(
    data: Dataset, eligible: IndexArray, seed: int
) -> tuple[IndexArray, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Runs of consecutive frames, and the frames whose energies stand out most; at most 16,000 atoms."""
    sizes = np.array([len(data.structures[i]) for i in eligible])
    if sizes.sum() <= ATOMS:
        return eligible, np.ones(len(eligible), dtype=bool)
    count = max(RUN, int(ATOMS / sizes.mean()))
    energy = data.energy[eligible]
    left = np.abs(differences([data.structures[i] for i in eligible], energy)) / sizes
    extremes = np.argsort(-left, kind="stable")[: int(EXTREMES * count)]
    starts = np.random.default_rng(seed).permutation(np.arange(0, len(eligible), RUN))
    runs = (starts[: (count - len(extremes)) // RUN, None] + np.arange(RUN)).ravel()
    random = np.unique(runs[runs < len(eligible)])
    both = np.union1d(random, extremes)
    return eligible[both], np.isin(both, random)
