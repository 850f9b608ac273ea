"""The record of what was added to a campaign after its start: structures to choose from, labels of one's own.

extensions.jsonl           one line each, append-only: what, from where, when, in which round
inputs/pool-001.extxyz     the structures themselves, as they were when they were added
inputs/labels-002.extxyz
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ase import Atoms
from pydantic import TypeAdapter, ValidationError

from surveyor.campaign.inputs import FOLDER, content_of
from surveyor.errors import CampaignError
from surveyor.labelling.journal import Lines
from surveyor.structures.label_keys import (
    LabelledFrames,
    is_isolated_atom,
)
from surveyor.structures.reading import read_structures
from surveyor.structures.source import StructureFile
from surveyor.structures.writing import write_structures

EXTENSIONS = "extensions.jsonl"
POOL, LABELS = "pool", "labels"


@dataclass(frozen=True)
class Extension:
    """One addition.

    | field  | meaning                                                              | unit |
    |--------|----------------------------------------------------------------------|------|
    | number | 1, 2, …; names the file inside the campaign                          |      |
    | kind   | pool or labels                                                       |      |
    | source | the file that it came from                                           |      |
    | frames | number of structures                                                 |      |
    | digest | of its content                                                       |      |
    | round  | the first round that sees it                                         |      |
    | method | of labels: how they were made, in the words of the one who added them |     |
    | time   | when, since 1970                                                     | s    |
    """

    number: int
    kind: str
    source: str
    frames: int
    digest: str
    round: int
    method: str = ""
    time: float = 0.0

    @property
    def name(self) -> str:
        """`pool-001` and the like."""
        return f"{self.kind}-{self.number:03d}"

    def path(self, folder: Path) -> Path:
        """Where its structures lie."""
        return folder / FOLDER / f"{self.name}.extxyz"

    def __str__(self) -> str:
        what = "structures to choose from" if self.kind == POOL else f"labels of one's own ({self.method})"
        return f"{self.frames} {what}, {self.source}, from round {self.round} on"


_EXTENSION: TypeAdapter[Extension] = TypeAdapter(Extension)


@dataclass(frozen=True)
class LongerPool:
    """A pool with what was added to it behind it, so that positions in it stay what they were."""

    parts: Sequence[Iterable[Atoms]]

    def __iter__(self) -> Iterator[Atoms]:
        for part in self.parts:
            yield from part


def read_extensions(folder: Path) -> tuple[Extension, ...]:
    """All additions, in their order.

    Raises:
        CampaignError: the record is damaged.
    """
    lines = Lines(folder / EXTENSIONS, _extension, read_only=True)
    expected = enumerate(lines.entries, 1)
    wrong = [*lines.damaged, *(number for number, entry in expected if entry.number != number)]
    if wrong:
        raise CampaignError(
            f"{lines.path}, line {min(wrong)} is damaged",
            expected="what surveyor extend wrote",
            todo="restore it from a copy",
        )
    return tuple(lines.entries)


def _extension(line: bytes) -> Extension | None:
    """What a line of the record says, or None."""
    try:
        entry = _EXTENSION.validate_json(line)
    except ValidationError:
        return None
    return entry if entry.kind in (POOL, LABELS) else None


def keep_extension(
    folder: Path, kind: str, frames: Sequence[Atoms], *, source: Path, number: int, method: str = ""
) -> Extension:
    """Copy the structures into the campaign, then record them.

    Args:
        number: of the first round that sees them.
    """
    known = read_extensions(folder)
    content = content_of(frames)
    entry = Extension(
        len(known) + 1,
        kind,
        str(source),
        content.frames,
        content.digest,
        number,
        method,
        round(time.time(), 3),
    )
    write_structures(entry.path(folder), frames)
    if content_of(read_structures(entry.path(folder))).digest != content.digest:
        raise CampaignError(
            f"{source}: its structures do not survive extended xyz", todo="take odd keys out of its frames"
        )
    Lines(folder / EXTENSIONS, _extension).append(asdict(entry))
    return entry


def pool_parts(
    folder: Path, pool: Iterable[Atoms], elements: Sequence[int] | None = None
) -> dict[str, Iterable[Atoms]]:
    """The pool, and all that was added to it, by name."""
    added = [entry for entry in read_extensions(folder) if entry.kind == POOL]
    return {"pool": pool, **{entry.name: StructureFile(entry.path(folder), elements) for entry in added}}


def extended_pool(folder: Path, pool: Iterable[Atoms]) -> Iterable[Atoms]:
    """The pool with all that was added to it."""
    return LongerPool(tuple(pool_parts(folder, pool).values()))


def labels_in(folder: Path, entry: Extension) -> LabelledFrames:
    """What an addition of labels holds."""
    frames = list(read_structures(entry.path(folder)))
    return LabelledFrames(
        [atoms for atoms in frames if not is_isolated_atom(atoms)],
        [atoms for atoms in frames if is_isolated_atom(atoms)],
    )


def check_extensions(folder: Path) -> None:
    """Raise CampaignError if a file of an addition is missing, or holds something else than was added."""
    for entry in read_extensions(folder):
        path = entry.path(folder)
        if not path.is_file() or content_of(read_structures(path)).digest != entry.digest:
            raise CampaignError(
                f"{path} {'is missing' if not path.is_file() else 'holds something else'}: {entry}",
                expected="the file as surveyor extend wrote it",
                todo=f"restore it, from a copy or from {entry.source}",
            )
