"""What was added to a campaign after its start: structures to choose from, and labels of one's own.

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

from surveyor.campaign.inputs import FOLDER, check_inputs, content_of
from surveyor.campaign.plan import Plan
from surveyor.campaign.records import read_campaign
from surveyor.errors import CampaignError, notice
from surveyor.labelling.journal import Lines
from surveyor.structures.identity import structure_id
from surveyor.structures.label_keys import (
    LabelledFrames,
    is_isolated_atom,
    read_labelled,
    reference_energies,
    without_acting_keys,
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


def _keep(
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


def own_labels(folder: Path) -> LabelledFrames:
    """All labels of one's own that were added."""
    found = [labels_in(folder, entry) for entry in read_extensions(folder) if entry.kind == LABELS]
    return LabelledFrames(
        [atoms for frames in found for atoms in frames.structures],
        [atoms for frames in found for atoms in frames.isolated],
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


def extend(
    folder: Path, plan: Plan, *, pool: Path | None = None, labels: Path | None = None, method: str = ""
) -> list[Extension]:
    """Add structures to choose from, or labels of one's own, to a campaign; its lock is held.

    All of it is checked before any of it is kept.

    Args:
        folder: of the campaign.
        plan: its plan.
        pool: a file of structures; those that the campaign has already are left out.
        labels: a file of labelled structures, which join the start set.
        method: how the labels were made, in words.

    Raises:
        CampaignError: a structure is in the test set, or none is new; labels without a method.
        StructureError: a file cannot be used.
    """
    number = len(read_campaign(folder).rounds)
    elements = plan.potential.elements
    check_inputs(folder, plan.sources)
    check_extensions(folder)
    new: list[tuple[str, Path, list[Atoms]]] = []
    if pool is not None:
        found = (without_acting_keys(atoms) for atoms in StructureFile(pool, elements))
        new.append((POOL, pool, _new(plan, POOL, LabelledFrames(list(found)), folder, pool)))
    if labels is not None:
        if not method.strip():
            raise CampaignError(
                f"{labels.name}: labels without a word on how they were made",
                expected="the method: labels of two methods must not mix",
                todo="--method 'wB97X-D3/def2-TZVP, ORCA 6', say",
            )
        frames = read_labelled(labels, elements)
        reference_energies([*plan.isolated, *own_labels(folder).isolated, *frames.isolated])
        new.append((LABELS, labels, _new(plan, LABELS, frames, folder, labels)))
    words = {POOL: "", LABELS: method.strip()}
    return [
        _keep(folder, kind, frames, source=path, number=number, method=words[kind])
        for kind, path, frames in new
    ]


def _new(plan: Plan, kind: str, frames: LabelledFrames, folder: Path, source: Path) -> list[Atoms]:
    """What of a file is new to the campaign; isolated atoms are no choice, and none of them a repetition."""
    mine = [*frames.structures, *frames.isolated]
    ids = [structure_id(atoms) for atoms in mine]
    test = {structure_id(atoms) for atoms in plan.test}
    if leaked := [number for number, name in enumerate(ids) if name in test]:
        raise CampaignError(
            f"{source.name}: {len(leaked)} of its structures are in the test set (first: {ids[leaked[0]]})",
            expected="structures that no error is measured on",
            todo="take them out of the file",
        )
    others = extended_pool(folder, plan.pool) if kind == POOL else ()
    known = {structure_id(a) for a in (*plan.start, *own_labels(folder).structures, *others)}
    new = []
    for name, atoms in zip(ids, mine, strict=True):
        if name not in known or (kind == LABELS and is_isolated_atom(atoms)):
            known.add(name)
            new.append(atoms)
    if not new:
        raise CampaignError(
            f"{source.name}: none of its {len(ids)} structures is new to the campaign",
            expected="structures that it does not have yet",
        )
    if len(new) < len(ids):
        notice(f"{source.name}: {len(ids) - len(new)} of {len(ids)} structures are there already: left out")
    return new
