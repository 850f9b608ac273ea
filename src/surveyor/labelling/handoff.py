"""Hand-off: labels of a batch that were computed elsewhere are brought back, by content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.errors import LabellingError, SurveyorError, notice
from surveyor.labelling.batch import BatchFolder, is_own, is_separate
from surveyor.labelling.frames import FREE, ONE_FRAME, ZERO, Frame, labels_in, zeroed
from surveyor.labelling.ledger import Ledger
from surveyor.labelling.likely import Candidates
from surveyor.labelling.matching import TOLERANCE, Match, match
from surveyor.labelling.names import shown
from surveyor.labelling.reading_apart import ApartReader, Fault, files_of
from surveyor.structures.labels import labels_of
from surveyor.types import Labels

SAME_ENERGY, SAME_FORCES = 1e-4, 1e-3
"""eV and eV/Å; two labels of one structure that differ by more contradict each other."""

Judge = Callable[[Sequence[tuple[Atoms, Labels]]], str]
"""Looks at all new labels before one is written; gives a remark, or raises if units or signs are wrong."""


@dataclass
class Collected:
    """What a look through results found.

    `new` and `known` say of ids where their labels stand, `missing` has neither label nor failure,
    `free_energies` are labels whose energy is not the one at zero smearing, `check` is what the look at units
    and signs found, and `largest_offset` (Å) how far an atom is from its place.
    """

    new: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    rejected: list[Fault] = field(default_factory=list)
    passed_over: list[Fault] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    free_energies: list[str] = field(default_factory=list)
    check: str = ""
    largest_offset: float = 0.0


@dataclass(frozen=True, eq=False)
class _Told:
    """A label that was found for a structure of the batch."""

    where: str
    match: Match
    labels: Labels
    kind: str


def collect(
    batch: BatchFolder,
    results: Sequence[Path],
    ledger: Ledger,
    *,
    tolerance: float = TOLERANCE,
    align: bool = False,
    judge: Judge | None = None,
) -> Collected:
    """Match results with the batch, look at all that fit, and write them to the ledger, one by one.

    Args:
        results: files that ASE reads, or folders of them.
        tolerance, align: see `match`.
        judge: looks at units and signs of the new labels before one is written.

    Raises:
        LabellingError: there are no such results, or the judge refuses them.
    """
    for path in results:
        if not path.exists() and not path.is_symlink():
            raise LabellingError(
                f"there is no {shown(path)}", expected="a file of results, or a folder of them"
            )
    if not 0 < tolerance < np.inf:
        raise LabellingError(f"a tolerance of {tolerance} Å", expected="more than 0")
    found = Collected()
    told: dict[str, _Told] = {}
    candidates = Candidates(batch.structures, tolerance)
    for frame in _frames(batch, results, found):
        try:
            _take(frame, candidates, ledger, found, told, align)
        except SurveyorError as error:
            reason = error.got.removeprefix(f"{frame.where}: ")
            found.rejected.append(Fault(frame.where, shown(reason)))
        except Exception as error:  # numbers of all kinds stand in results; none of them stops the others
            found.rejected.append(Fault(frame.where, shown(f"{type(error).__name__}: {error}"[:400])))
    if judge is not None and told:
        found.check = judge([(batch.structures[name], one.labels) for name, one in told.items()])
    for name, one in told.items():
        ledger.append(name, batch.structures[name], one.labels)
        found.new[name] = one.where
        found.largest_offset = max(found.largest_offset, one.match.offset)
    found.free_energies = [name for name, one in told.items() if one.kind == FREE]
    _say_which_energy(told)
    settled = {*ledger.structures, *ledger.failures}
    found.missing = [name for name in batch.structures if name not in settled]
    return found


def _take(
    frame: Frame,
    candidates: Candidates,
    ledger: Ledger,
    found: Collected,
    told: dict[str, _Told],
    align: bool,
) -> None:
    """Note the label of a frame, or why it is none of the batch."""
    labels, kind = labels_in(frame)
    outcome = match(frame.atoms, labels, candidates, align=align, certain=frame.format in ONE_FRAME)
    name, labels_found = outcome.name, outcome.labels
    if name is None or labels_found is None:
        found.rejected.append(Fault(frame.where, outcome.reason))
        return
    if reason := zeroed(candidates.structures[name], labels_found.forces):
        found.rejected.append(Fault(frame.where, f"{name[:8]}: {reason}"))
        return
    earlier = _earlier(name, told, ledger)
    if earlier is None:
        told[name] = _Told(frame.where, outcome, labels_found, kind)
    elif reason := _contradiction(labels_found, earlier[1]):
        found.rejected.append(Fault(frame.where, f"{name[:8]} has a label from {earlier[0]}; {reason}"))
    elif name not in told:
        found.known[name] = frame.where


def _earlier(name: str, told: Mapping[str, _Told], ledger: Ledger) -> tuple[str, Labels] | None:
    if name in told:
        return told[name].where, told[name].labels
    return ("an earlier collection", labels_of(ledger.structures[name])) if name in ledger else None


def _contradiction(labels: Labels, earlier: Labels) -> str:
    energy = abs(labels.energy - earlier.energy)
    forces = float(np.abs(labels.forces - earlier.forces).max())
    if energy <= SAME_ENERGY and forces <= SAME_FORCES:
        return ""
    return f"this one differs by {energy:.4g} eV and {forces:.4g} eV/Å"


def _say_which_energy(told: Mapping[str, _Told]) -> None:
    free = sum(one.kind == FREE for one in told.values())
    if free:
        notice(
            f"{free} results hold several energies: their free energies were taken, whose gradient the "
            "forces are, and not the energies extrapolated to zero smearing"
        )
    zero = sum(one.kind == ZERO for one in told.values())
    if zero:
        notice(
            f"the energies of {zero} results are extrapolated to zero smearing, for ASE reads no others from "
            "GPAW's text; with smearing, forces are the gradient of the free energy"
        )


def _frames(batch: BatchFolder, results: Sequence[Path], found: Collected) -> Iterator[Frame]:
    """Every structure in the results; what cannot be read is noted."""
    with ApartReader() as reader:
        for file, inside, fault in files_of(results):
            if inside and is_own(file, batch.folder):
                continue
            # The single structures of the export are no results unless somebody filled them in.
            bare = 0 if inside and is_separate(file, batch.folder) else 1
            for one in [Fault(shown(file), fault)] if fault else reader.read(file):
                if isinstance(one, Fault):
                    (found.passed_over if inside else found.rejected).append(one)
                elif not (inside and _is_bare(one)):
                    yield one
                elif bare:
                    found.passed_over.append(Fault(shown(file), "structures without energy and forces"))
                    bare = 0  # said once per file


def _is_bare(frame: Frame) -> bool:
    """Whether there is no trace of a label, as in the inputs that lie beside their outputs."""
    keys = [*frame.atoms.info, *frame.atoms.arrays]
    return not frame.results and not any(str(key).startswith("REF_") for key in keys)


def as_dict(found: Collected, batch: Mapping[str, Atoms]) -> dict[str, object]:
    """For JSON."""
    return {"batch": len(batch), **asdict(found)}
