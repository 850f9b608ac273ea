"""The folder of a batch: structures as files for whoever computes them elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from surveyor.errors import LabellingError
from surveyor.labelling.names import ID, METHOD, check_method_name, shown
from surveyor.labelling.shared_files import read_regular
from surveyor.structures.identity import structure_id
from surveyor.structures.labels import without_labels
from surveyor.structures.reading import read_structures
from surveyor.structures.writing import atomic_write, write_structures

STRUCTURES = "structures.extxyz"
MANIFEST = "batch.json"
README_NAME = "README.txt"
SEPARATE = "xyz"
LABELS = "labels"
LOCK = "owner.lock"
MANIFEST_BYTES = 64 * 2**20
"""A manifest of a million structures is half as long."""

README = """Structures that wait for labels.

structures.extxyz   all of them (positions in Å; total_charge in e, total_spin = 2S+1, where they are given)
xyz/                one file per structure, where they were asked for
batch.json          which structures, for which method

Compute energy (eV) and forces (eV/Å) of each with one method. Send back files that ASE reads: extended xyz
with energy and forces (or REF_energy and REF_forces), or the output files of your program. Names and order of
the files do not matter, the geometries do: keep them as they are, and do not let the program turn them.

    surveyor label collect THIS_FOLDER RESULTS...
"""

_SEPARATE_NAME = re.compile(r"\d{4,}-[0-9a-f]{8}\.xyz")


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("no absolute path")
    return path


class _Manifest(BaseModel):
    """Which structures were exported, for which method, and from which campaign."""

    model_config = ConfigDict(frozen=True)

    schema_: Literal[1] = Field(alias="schema")
    method: Annotated[str, StringConstraints(pattern=f"^{METHOD}$")]
    campaign: Annotated[Path, AfterValidator(_absolute)] | None
    ids: Annotated[tuple[Annotated[str, StringConstraints(pattern=f"^{ID}$")], ...], Field(min_length=1)]


@dataclass(frozen=True, eq=False)
class BatchFolder:
    """An exported batch: id → structure, for one method, and the folder of its campaign, if there is one."""

    folder: Path
    method: str
    campaign: Path | None
    structures: dict[str, Atoms]


def export_batch(
    structures: Iterable[Atoms], folder: Path, *, method: str, campaign: Path | None, separate: bool
) -> BatchFolder:
    """Write a batch; the same structures may be exported again into the same folder.

    No file that is there already is written over: a new batch refuses them, and the same batch adds what is
    missing.

    Args:
        separate: one xyz file per structure as well.

    Raises:
        LabellingError: nothing waits, the folder holds another batch or files of somebody else, or a
            structure does not survive the trip through a file.
    """
    check_method_name(method)
    named = _named(structures, campaign is not None)
    if not named:
        raise LabellingError("no structure waits for a label", todo="nothing; go on with the campaign")
    place = None if campaign is None else campaign.resolve()
    manifest = _Manifest(schema=1, method=method, campaign=place, ids=tuple(named))
    targets = [STRUCTURES, README_NAME, *([SEPARATE] if separate else [])]
    if (folder / MANIFEST).is_file():
        if _manifest(folder) != manifest:
            raise LabellingError(
                f"{folder} holds another batch",
                expected="a new folder, or the one that these structures were exported to",
                todo="choose another folder name",
            )
        if _lies(folder / STRUCTURES):
            open_batch(folder)
    else:
        _refuse_foreign(folder, [MANIFEST, *targets])
    if (folder / SEPARATE).is_symlink():
        raise LabellingError(f"{folder / SEPARATE} is a link to elsewhere", expected="a folder of the batch")
    # not by pydantic: a path may hold bytes that are no UTF-8
    text = json.dumps(manifest.model_dump(by_alias=True), indent=1, default=str)
    atomic_write(folder / MANIFEST, lambda file: file.write(text + "\n"))
    if not _lies(folder / STRUCTURES):
        write_structures(folder / STRUCTURES, named.values())
    if separate:
        for number, (name, atoms) in enumerate(named.items()):
            path = folder / SEPARATE / f"{number:04d}-{name[:8]}.xyz"
            if not _lies(path):
                write_structures(path, [atoms])
    if not _lies(folder / README_NAME):
        atomic_write(folder / README_NAME, lambda file: file.write(README))
    return BatchFolder(folder, method, campaign, named)


def _named(structures: Iterable[Atoms], fixed: bool) -> dict[str, Atoms]:
    """id → structure with the eight decimals that an extxyz file keeps, for that is what comes back.

    Args:
        fixed: the ids are those of a campaign, and may not change on the way through the file.
    """
    named: dict[str, Atoms] = {}
    for number, atoms in enumerate(structures):
        bare = without_labels(atoms)
        bare.positions = np.char.mod("%.8f", bare.positions).astype(np.float64)
        name = structure_id(bare)
        if fixed and name != structure_id(atoms):
            raise LabellingError(
                f"structure {number}, {atoms.get_chemical_formula()}, is another one with eight decimals: "
                f"{name}",
                expected=structure_id(atoms),
                todo="round its positions to six decimals in the pool",
            )
        bare.info["surveyor_id"] = name
        named.setdefault(name, bare)
    return named


def _refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    there = [name for name in names if _lies(folder / name)]
    if there:
        raise LabellingError(
            f"{folder} holds {', '.join(there)} already, and no batch that an export has written",
            expected="a new folder, or an empty one",
            todo="choose another folder name",
        )


def _lies(path: Path) -> bool:
    """Whether anything has that name, a link into nothing included."""
    return path.is_symlink() or path.exists()


def _manifest(folder: Path) -> _Manifest:
    """The manifest, each of its values checked: it may have been anywhere.

    Raises:
        LabellingError: it is none of ours.
    """
    try:
        return _Manifest.model_validate(json.loads(read_regular(folder / MANIFEST, MANIFEST_BYTES)))
    except (OSError, ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise LabellingError(
            f"{folder} is not an exported batch: {MANIFEST} cannot be read ({shown(why)[:200]})",
            expected="a folder that `surveyor label export` wrote",
            todo="check the path; if only the campaign has moved, name it with --campaign",
        ) from error


def open_batch(folder: Path) -> BatchFolder:
    """Read an exported batch.

    Raises:
        LabellingError: it is none, its structures were changed, or its labels would be written elsewhere.
    """
    manifest = _manifest(folder)
    if not (folder / STRUCTURES).is_file():
        raise LabellingError(
            f"{folder} has lost {STRUCTURES}",
            expected="the folder as it was exported",
            todo="export the same structures into it again",
        )
    structures: dict[str, Atoms] = {}
    names: list[str] = []
    for atoms in read_structures(folder / STRUCTURES):
        names.append(structure_id(atoms))
        structures[names[-1]] = atoms
    if changed := _difference(names, manifest.ids):
        raise LabellingError(
            f"{folder / STRUCTURES} does not hold the structures that were exported: {changed}",
            expected="the file as it was written",
            todo=f"delete {STRUCTURES} and export the same structures into the folder again; "
            "results go into files of their own",
        )
    for path in (folder / LABELS, folder / LOCK, *(folder / LABELS).glob("*")):
        if path.is_symlink():
            raise LabellingError(
                f"{shown(path)} is a link: labels would be written elsewhere",
                expected="a batch folder that holds its own labels",
                todo="take the link away",
            )
    return BatchFolder(folder, manifest.method, manifest.campaign, structures)


def _difference(names: Sequence[str], ids: Sequence[str]) -> str:
    """The first frame that is not the one that was exported, or empty."""
    if len(names) != len(ids):
        return f"{len(names)} frames, not {len(ids)}"
    for number, (name, expected) in enumerate(zip(names, ids, strict=True)):
        if name != expected:
            moved = f", that is frame {ids.index(name)} of the export" if name in ids else ""
            return f"frame {number} is {name}{moved}, not {expected}"
    return ""


def is_own(file: Path, folder: Path) -> bool:
    """Whether the file is one that holds the batch or its labels; `xyz/` may be filled in."""
    try:
        parts = file.resolve().relative_to(folder.resolve()).parts
    except (ValueError, OSError, RuntimeError):
        return False
    return parts[0] in (STRUCTURES, MANIFEST, README_NAME, LABELS, LOCK)


def is_separate(file: Path, folder: Path) -> bool:
    """Whether the file has the name of one of the batch's single structures."""
    return (
        file.parent.name == SEPARATE
        and _SEPARATE_NAME.fullmatch(file.name) is not None
        and file.parent.parent.resolve() == folder.resolve()
    )
