"""Reading structures of any format that ASE knows, compressed or not, as a stream."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ase import Atoms

from surveyor.errors import Notice, StructureError, SurveyorError
from surveyor.structures.archives import check_file, damage, empty, inner_name, open_bytes, open_text
from surveyor.structures.foreign import is_dump, read_foreign
from surveyor.structures.validation import validate
from surveyor.structures.xyz import cut, parse, read_xyz

_XYZ_SUFFIXES = (".extxyz", ".xyz", ".exyz")


def read_structures(path: str | Path, *, check: bool = True) -> Iterator[Atoms]:
    """Frames of a file, one at a time, in bounded memory.

    Extended XYZ, plain or compressed (.gz, .xz, .bz2), is cut into blocks of frames that ASE parses from
    memory: its own reader seeks back in the file, which is quadratic in a compressed stream.

    Args:
        check: validate every frame.

    Raises:
        StructureError: the file is missing, no ordinary file, empty, of an unknown format, encoding or
            packing, or damaged, or a frame is not valid; the message names the file and the frame.
    """
    if not isinstance(path, str | os.PathLike):
        raise StructureError(f"{type(path).__name__} where a file is expected", expected="the path of a file")
    path = Path(path)
    check_file(path)
    return _read(path, check)


def _read(path: Path, check: bool) -> Iterator[Atoms]:
    found = False
    for number, atoms in enumerate(_frames(path)):
        found = True
        yield validate(atoms, f"{path.name}, frame {number}") if check else atoms
    if not found:
        raise empty(path)


def count_structures(path: str | Path) -> int:
    """Number of frames in the file, without validating them.

    Raises:
        StructureError: as `read_structures`, as far as counting notices.
    """
    path = Path(path)
    check_file(path)
    if _holds_xyz(path):
        with _told(path), open_text(path) as stream:
            return sum(1 for _ in cut(stream, path))
    return sum(1 for _ in read_structures(path, check=False))


def read_all_that_can(path: Path) -> Iterator[tuple[str, Atoms | StructureError]]:
    """ASE's name of the format, and each frame as it is, or why it is none, where the file goes on behind it.

    Raises:
        StructureError: the file cannot be read on.
    """
    check_file(path)
    if not _holds_xyz(path):
        yield from read_foreign(path)
        return
    with _told(path), open_text(path) as stream:
        for number, lines in enumerate(cut(stream, path)):
            found: Atoms | StructureError
            try:
                (found,) = parse([lines], path, number)
            except StructureError as error:
                found = error
            yield "extxyz", found


def is_xyz(path: Path) -> bool:
    """Whether the name is that of an xyz file, compressed or not."""
    return Path(inner_name(path)).suffix.lower() in _XYZ_SUFFIXES


def _holds_xyz(path: Path) -> bool:
    """Whether it is to be read as xyz: by its name, or without a suffix by its first line."""
    with _told(path), open_bytes(path) as stream:
        head = stream.peek(256)[:256]
        if is_xyz(path):
            return not is_dump(head)
        return not Path(inner_name(path)).suffix and head.split(b"\n", 1)[0].strip().isdigit()


def _frames(path: Path) -> Iterator[Atoms]:
    if not _holds_xyz(path):
        for _, atoms in read_foreign(path):
            yield atoms
        return
    with _told(path), open_text(path) as stream:
        yield from read_xyz(stream, path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Anything that opening or unpacking raises, as one message."""
    try:
        yield
    except (SurveyorError, Notice):
        raise
    except Exception as error:
        raise damage(path, path.name, error) from error
