"""The values that flow between the stages. Units everywhere: eV, Å."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from surveyor.errors import FeatureError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

FloatArray = NDArray[np.floating]
Float64Array = NDArray[np.float64]
IndexArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Labels:
    """Energy and forces of one structure, what they cost, and whether the code itself doubts them.

    | variable     | shape        | unit                       |
    |--------------|--------------|----------------------------|
    | energy       | scalar       | eV                         |
    | forces       | (n_atoms, 3) | eV/Å                       |
    | stress       | (6,) or None | eV/Å³, ASE's Voigt order   |
    | core_seconds | scalar       | s × cores; 0: not known    |
    | doubt        | text or None |                            |
    | free_energy  | truth value  | energy is a free energy, not the one extrapolated to zero smearing |
    """

    energy: float
    forces: Float64Array
    stress: Float64Array | None = None
    core_seconds: float = 0.0
    doubt: str | None = None
    free_energy: bool = False

    def __repr__(self) -> str:
        return f"Labels({self.energy:.6g} eV, forces of {len(self.forces)} atoms)"


@dataclass(frozen=True)
class Failure:
    """A label that did not come.

    | variable     | meaning                                                     | unit      |
    |--------------|-------------------------------------------------------------|-----------|
    | reason       | short enough for a table                                    |           |
    | final        | trying again cannot help: the same input fails the same way |           |
    | core_seconds | what the attempt cost; 0: not known                         | s × cores |
    """

    reason: str
    final: bool = False
    core_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Features:
    """Feature rows φ of a list of structures; a structure may own several rows.

    | variable     | shape       | meaning                                                     |
    |--------------|-------------|-------------------------------------------------------------|
    | values       | (rows, dim) | one φ a row, finite, float32 or float64                     |
    | owner        | (rows,)     | row → structure index, non-decreasing                       |
    | n_structures | scalar      | number of structures, each of which owns at least one row   |
    | finite       | flag        | the values were scanned before: they are not read again     |

    Raises:
        FeatureError: a value is NaN or inf, or the shapes do not fit.
    """

    values: FloatArray
    owner: IndexArray
    n_structures: int
    finite: InitVar[bool] = False

    def __post_init__(self, finite: bool) -> None:
        if self.values.ndim != 2 or self.owner.shape != (self.values.shape[0],):
            raise FeatureError(
                f"feature values of shape {self.values.shape} with owner of shape {self.owner.shape}",
                expected="values (rows, dim) and owner (rows,)",
            )
        if not finite:
            self._scan()
        if len(self.owner) and (
            ((steps := np.diff(self.owner)) < 0).any()
            or (steps > 1).any()
            or self.owner[0] != 0
            or self.owner[-1] != self.n_structures - 1
        ):
            raise FeatureError(
                f"owner does not cover structures 0 to {self.n_structures - 1} in order",
                expected="a non-decreasing owner in which every structure owns a row",
            )
        if len(self.owner) == 0 and self.n_structures:
            raise FeatureError(
                f"{self.n_structures} structures but no feature row", expected="at least one row each"
            )

    def _scan(self) -> None:
        for start in range(0, self.values.shape[0], 4096):  # values may be a memory map or a zarr array
            finite = np.isfinite(np.asarray(self.values[start : start + 4096])).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise FeatureError(
                    f"feature row {row} (structure {int(self.owner[row])}) holds NaN or inf",
                    expected="finite features",
                    todo="look at that structure's geometry, and at the potential's dtype",
                )

    @classmethod
    def one_row_each(cls, values: FloatArray) -> Features:
        """Features in which structure i owns row i."""
        n = int(values.shape[0])
        return cls(values=values, owner=np.arange(n, dtype=np.intp), n_structures=n)

    @classmethod
    def empty(cls, dim: int) -> Features:
        """No structures at all: the state before the first label."""
        return cls.one_row_each(np.zeros((0, dim)))

    @property
    def dim(self) -> int:
        return int(self.values.shape[1])

    def __len__(self) -> int:
        return self.n_structures

    def __repr__(self) -> str:
        rows = self.values.shape[0]
        return f"Features({self.n_structures} structures, {rows} rows × {self.dim}, {self.values.dtype})"

    def take(self, structures: Sequence[int] | IndexArray) -> Features:
        """Features of the given structures, in the given order."""
        wanted = np.asarray(structures, dtype=np.intp)
        start = np.searchsorted(self.owner, wanted, side="left")
        stop = np.searchsorted(self.owner, wanted, side="right")
        rows = [np.arange(a, b, dtype=np.intp) for a, b in zip(start, stop, strict=True)]
        index = np.concatenate(rows) if rows else np.zeros(0, dtype=np.intp)
        owner = np.repeat(np.arange(len(wanted), dtype=np.intp), stop - start)
        return Features(np.asarray(self.values[index]), owner, len(wanted), finite=True)

    @classmethod
    def concatenate(cls, parts: Sequence[Features]) -> Features:
        """One after the other; all must have the same width.

        Raises:
            FeatureError: there is no part, or the widths differ.
        """
        widths = {part.dim for part in parts}
        if len(widths) != 1:
            raise FeatureError(
                f"features of widths {sorted(widths)}",
                expected="one width",
                todo="make all features with the same feature map and settings",
            )
        offsets = np.cumsum([0, *(part.n_structures for part in parts)])
        return cls(
            values=np.concatenate([part.values for part in parts]),
            owner=np.concatenate([part.owner + off for part, off in zip(parts, offsets[:-1], strict=True)]),
            n_structures=int(offsets[-1]),
            finite=True,
        )


class Stopped(StrEnum):
    """Why a selector stopped; the value is the message that users see."""

    FILLED = "filled"
    EXHAUSTED = "pool exhausted"
    BUDGET_SPENT = "budget spent"
    BELOW_THRESHOLD = "below threshold"


@dataclass(frozen=True, eq=False)
class Selection:
    """The picks of a selector, best first.

    | variable | shape | meaning                                                                 |
    |----------|-------|-------------------------------------------------------------------------|
    | indices  | (n,)  | pool structure index of each pick, no repeats                           |
    | scores   | (n,)  | the rule's score when picked (residual variance, squared distance, …)   |
    | stopped  |       | why there are n picks and not more                                      |
    | certain  |       | first picks that a shortlist cannot have changed; None: not known       |
    """

    indices: IndexArray
    scores: Float64Array
    stopped: Stopped
    certain: int | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Selection({len(self)} picks; {self.stopped.value})"


@runtime_checkable
class Potential(Protocol):
    """A machine-learning interatomic potential; what it may offer beyond is in `potentials.base`."""

    @property
    def family(self) -> str:
        """Name under which the family is registered: `open_potential("family:path")` opens what it saved."""

    @property
    def fingerprint(self) -> str:
        """Hash of architecture and weights: equal if and only if the predictions are."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the potential knows, ascending."""

    def predict(self, structures: Sequence[Atoms]) -> list[Labels]:
        """Energies (eV) and forces (eV/Å), in order."""

    def calculator(self) -> Calculator:
        """An ASE calculator for molecular dynamics and relaxation."""

    def save(self, path: Path) -> None:
        """Write the potential in its family's own format."""


class FeatureMap(Protocol):
    """structures → feature rows; deterministic, and independent of how structures are batched."""

    @property
    def dim(self) -> int: ...

    def __call__(self, structures: Sequence[Atoms]) -> Features: ...


class StorableFeatureMap(FeatureMap, Protocol):
    """A feature map that can say what its rows depend on, besides the structures."""

    @property
    def settings(self) -> Mapping[str, object]: ...


class Selector(Protocol):
    """A rule that picks k structures of the pool, given those already labelled.

    Of structures that tie, the lowest `rank` (structures,) wins; None: the lowest index.
    """

    def __call__(
        self,
        pool: Features,
        train: Features,
        k: int,
        *,
        rng: np.random.Generator,
        rank: IndexArray | None = None,
    ) -> Selection: ...


class Labeller(Protocol):
    """A source of labels; yields each result as it arrives, in any order."""

    @property
    def method(self) -> str:
        """Short, file-name-safe name of code and settings; labels of two methods never mix."""

    def __call__(self, todo: Mapping[str, Atoms]) -> Iterator[tuple[str, Labels | Failure]]: ...


TRAINING_SETTINGS = "settings.json"
"""What a trainer did, in the folder in which it works."""


class Trainer(Protocol):
    """Fine-tuning: a start potential and labelled structures in, a better potential out.

    Reference energies (atomic number → eV) are those of `references`, or re-fitted to the labels without.
    What it really did may be left in `workdir/settings.json`, a flat mapping, for the record of the round.
    """

    def __call__(
        self,
        start: Potential,
        train: Sequence[Atoms],
        valid: Sequence[Atoms],
        *,
        seed: int,
        workdir: Path,
        references: Mapping[int, float] | None = None,
    ) -> Potential: ...


StructureSource = str | Path | Iterable["Atoms"]
