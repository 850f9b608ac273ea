"""Structures that can be gone through more than once without being held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from surveyor.structures.reading import count_structures, is_xyz, read_structures
from surveyor.structures.validation import check_elements, each_structure, validate


@dataclass(frozen=True)
class StructureFile:
    """A file of structures; every iteration reads it anew.

    Args:
        path: anything that `read_structures` reads.
        elements: atomic numbers that the potential knows; None accepts all.
    """

    path: Path
    elements: Sequence[int] | None = None

    def __iter__(self) -> Iterator[Atoms]:
        for number, atoms in enumerate(read_structures(self.path)):
            if self.elements is not None:
                check_elements(atoms, self.elements, f"{self.path.name}, frame {number}")
            yield atoms

    def count(self) -> int | None:
        """Number of frames where that is cheap to know."""
        return count_structures(self.path) if self.path.is_file() and is_xyz(self.path) else None


def validated(structures: Iterable[Atoms], elements: Sequence[int] | None = None) -> list[Atoms]:
    """Structures in memory, each looked at as the frames of a file are.

    Raises:
        StructureError: one is not valid or of an element that the potential does not know, or these are no
            structures.
    """
    listed = list(each_structure(structures))
    for number, atoms in enumerate(listed):
        validate(atoms, f"structure {number}")
        if elements is not None:
            check_elements(atoms, elements, f"structure {number}")
    return listed
