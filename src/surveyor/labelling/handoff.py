"""Hand-off: a batch of structures goes out as files and comes back as labels, by content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from surveyor.errors import LabellingError, StructureError
from surveyor.labelling.ledger import Ledger
from surveyor.labelling.matching import TOLERANCE, match
from surveyor.structures.identity import structure_id
from surveyor.structures.labels import FORCES_KEY, has_labels, labels_of, without_labels
from surveyor.structures.reading import read_structures
from surveyor.structures.writing import atomic_write, write_structures
from surveyor.types import Labels

SCHEMA = 1
STRUCTURES = "structures.extxyz"
MANIFEST = "batch.json"
SAME_ENERGY, SAME_FORCES = 1e-4, 1e-3
"""eV and eV/Å; two labels of one structure that differ by more contradict each other."""

README = """Structures that wait for labels.

structures.extxyz   all of them (positions in Å; total_charge in e, total_spin = 2S+1, where they are given)
xyz/                one file a structure, where they were asked for
batch.json          which structures, for which method

Compute energy (eV) and forces (eV/Å) of each with one method. Send back files that ASE reads: extended xyz
with energy and forces (or REF_energy and REF_forces), or the output files of your program. Names and order of
the files do not matter, the geometries do: keep them as they are, and do not let the program turn them.

    surveyor label collect THIS_FOLDER RESULTS...
"""


@dataclass(frozen=True, eq=False)
class BatchFolder:
    """An exported batch.

    | field      | meaning                                                         |
    |------------|-----------------------------------------------------------------|
    | folder     | where it lies                                                   |
    | method     | name of the method that the labels are of                       |
    | campaign   | the campaign's folder, or None                                  |
    | structures | id → structure                                                  |
    """

    folder: Path
    method: str
    campaign: Path | None
    structures: dict[str, Atoms]


@dataclass(frozen=True)
class Rejected:
    """A result that was not taken: where it stands, and why."""

    where: str
    reason: str


@dataclass
class Collected:
    """What a look through results found; ids, and distances in Å."""

    new: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    largest_offset: float = 0.0


def export_batch(
    structures: Iterable[Atoms], folder: Path, *, method: str, campaign: Path | None, separate: bool
) -> BatchFolder:
    """Write a batch; the same structures may be exported again into the same folder.

    Args:
        separate: one xyz file a structure as well.

    Raises:
        LabellingError: nothing waits, or the folder holds another batch.
    """
    named: dict[str, Atoms] = {}
    for atoms in structures:
        named.setdefault(structure_id(atoms), without_labels(atoms))
    if not named:
        raise LabellingError("no structure waits for a label", todo="nothing; go on with the campaign")
    manifest = {
        "schema": SCHEMA,
        "method": method,
        "campaign": None if campaign is None else str(campaign.resolve()),
        "ids": list(named),
    }
    if (folder / MANIFEST).exists() and _manifest(folder) != manifest:
        raise LabellingError(
            f"{folder} holds another batch",
            expected="a new folder, or the one that these structures were exported to",
            todo="choose another folder name",
        )
    for name, atoms in named.items():
        atoms.info["surveyor_id"] = name
    write_structures(folder / STRUCTURES, named.values())
    if separate:
        for number, (name, atoms) in enumerate(named.items()):
            write_structures(folder / "xyz" / f"{number:04d}-{name[:8]}.xyz", [atoms])
    atomic_write(folder / "README.txt", lambda file: file.write(README))
    atomic_write(folder / MANIFEST, lambda file: file.write(json.dumps(manifest, indent=1) + "\n"))
    return BatchFolder(folder, method, campaign, named)


def _manifest(folder: Path) -> dict[str, object]:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LabellingError(
            f"{folder} is not an exported batch: {MANIFEST} cannot be read",
            expected="a folder that `surveyor label export` wrote",
            todo="check the path",
        ) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise LabellingError(f"{folder / MANIFEST} is not of schema {SCHEMA}", expected=f"schema {SCHEMA}")
    return content


def open_batch(folder: Path) -> BatchFolder:
    """Read an exported batch.

    Raises:
        LabellingError: it is none, or its structures were changed.
    """
    manifest = _manifest(folder)
    structures = {structure_id(atoms): atoms for atoms in read_structures(folder / STRUCTURES)}
    if list(structures) != manifest["ids"]:
        raise LabellingError(
            f"{folder / STRUCTURES} does not hold the structures that were exported",
            expected="the file as it was written",
            todo="export the batch again; results go into files of their own",
        )
    campaign = manifest["campaign"]
    return BatchFolder(
        folder, str(manifest["method"]), None if campaign is None else Path(str(campaign)), structures
    )


def collect(
    batch: BatchFolder,
    results: Sequence[Path],
    ledger: Ledger,
    *,
    tolerance: float = TOLERANCE,
    align: bool = False,
) -> Collected:
    """Match results with the batch and write the labels that fit to the ledger, one by one.

    Args:
        results: files that ASE reads, or folders of them.
        tolerance: largest distance of an atom from its place, Å.
        align: undo shift and rotation of molecules, and turn the forces back.
    """
    found = Collected()
    told: dict[str, tuple[str, Labels]] = {}
    for where, atoms in _frames(batch, results, found):
        try:
            labels = _result_labels(atoms, where)
        except StructureError as error:
            found.rejected.append(Rejected(where, error.got.removeprefix(f"{where}: ")))
            continue
        outcome = match(atoms, labels, batch.structures, tolerance=tolerance, align=align)
        if outcome.name is None or outcome.labels is None:
            found.rejected.append(Rejected(where, outcome.reason))
            continue
        name, labels = outcome.name, outcome.labels
        earlier = told.get(name) or _journalled(ledger, name)
        if earlier is not None:
            if reason := _contradiction(labels, earlier[1]):
                found.rejected.append(Rejected(where, f"{name[:8]} has a label from {earlier[0]}; {reason}"))
            elif name not in found.new:
                found.known[name] = where
            continue
        ledger.append(name, batch.structures[name], labels)
        told[name] = (where, labels)
        found.new[name] = where
        found.largest_offset = max(found.largest_offset, outcome.offset)
    found.missing = [name for name in batch.structures if name not in ledger and name not in ledger.failures]
    return found


def _journalled(ledger: Ledger, name: str) -> tuple[str, Labels] | None:
    return ("an earlier collection", labels_of(ledger.structures[name])) if name in ledger else None


def _contradiction(labels: Labels, earlier: Labels) -> str:
    energy = abs(labels.energy - earlier.energy)
    forces = float(np.abs(labels.forces - earlier.forces).max())
    if energy <= SAME_ENERGY and forces <= SAME_FORCES:
        return ""
    return f"this one differs by {energy:.4g} eV and {forces:.4g} eV/Å"


def _frames(batch: BatchFolder, results: Sequence[Path], found: Collected) -> Iterator[tuple[str, Atoms]]:
    """Every structure in the results, with the place where it stands."""
    for path in results:
        if not path.exists():
            raise LabellingError(f"there is no {path}", expected="a file of results, or a folder of them")
        inside = path.is_dir()
        files = sorted(p for p in path.rglob("*") if p.is_file()) if inside else [path]
        for file in files:
            if inside and _is_own(file, batch.folder):
                continue
            try:
                # Overlapping atoms and the like cannot match; no check, so that the others of a file can.
                for number, atoms in enumerate(read_structures(file, check=False)):
                    yield f"{file}, frame {number}", atoms
            except StructureError as error:
                if inside:
                    found.passed_over.append(str(file))
                else:
                    found.rejected.append(Rejected(str(file), error.got))


def _is_own(file: Path, folder: Path) -> bool:
    """Whether the file is one of those that the export wrote, or the ledger of this batch."""
    try:
        parts = file.resolve().relative_to(folder.resolve()).parts
    except ValueError:
        return False
    return parts[0] in (STRUCTURES, MANIFEST, "README.txt", "xyz", "labels", "owner.lock")


def _result_labels(atoms: Atoms, where: str) -> Labels:
    """Labels under the `REF_*` keys, or those of the calculator that ASE's reader attaches.

    Raises:
        StructureError: energy or forces are missing, not finite, or of the wrong shape.
    """
    if has_labels(atoms):
        return labels_of(atoms, where)
    results = {} if atoms.calc is None else atoms.calc.results
    lacking = [key for key in ("energy", "forces") if results.get(key) is None]
    if lacking:
        raise StructureError(f"{where}: no {' and no '.join(lacking)}")
    trial = atoms.copy()
    trial.info["REF_energy"] = float(results["energy"])
    forces = np.asarray(results["forces"], dtype=np.float64)
    if forces.shape != (len(atoms), 3):
        raise StructureError(f"{where}: forces of shape {forces.shape}", expected=f"({len(atoms)}, 3)")
    trial.arrays[FORCES_KEY] = forces
    if results.get("stress") is not None and atoms.pbc.all():
        trial.info["REF_stress"] = np.asarray(results["stress"], dtype=np.float64)
    return labels_of(trial, where)


def as_dict(found: Collected, batch: Mapping[str, Atoms]) -> dict[str, object]:
    """For JSON."""
    return {
        "batch": len(batch),
        "new": found.new,
        "known": found.known,
        "missing": found.missing,
        "rejected": [{"where": r.where, "reason": r.reason} for r in found.rejected],
        "passed_over": found.passed_over,
        "largest_offset": found.largest_offset,
    }
