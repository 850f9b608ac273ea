"""Extended xyz: cut into frames in bounded memory, checked, and parsed by ASE."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ase import Atoms
from ase.io import iread

from surveyor.errors import Notice, StructureError, SurveyorError
from surveyor.structures.archives import packing
from surveyor.structures.xyz_rows import check_rows, properties_text, with_elements

CHUNK_FRAMES = 64

MAX_LINE = 2**24
"""Characters of a line."""
MAX_FRAME = 2**28
"""Characters of a frame."""
LEAST_ROW = 8
"""Characters of the shortest row of an atom, `H 0 0 0` and its end."""
MAX_BLANK = 10_000
"""Blank lines between frames."""


def read_xyz(stream: IO[str], path: Path) -> Iterator[Atoms]:
    """The frames of an open xyz file.

    Raises:
        StructureError: a frame is cut short or cannot be parsed; the message names it.
    """
    number = 0
    block: list[list[str]] = []
    for lines in cut(stream, path):
        block.append(lines)
        if len(block) == CHUNK_FRAMES:
            yield from parse(block, path, number)
            number += len(block)
            block = []
    yield from parse(block, path, number)


def cut(stream: IO[str], path: Path) -> Iterator[list[str]]:
    """The lines of one xyz frame after the other."""
    most = MAX_FRAME if packing(path) else min(MAX_FRAME, path.stat().st_size)
    number = 0
    line = _line(stream, path, number)
    while line:
        blank = 0
        while line and not line.strip():
            blank += 1
            if blank > MAX_BLANK:
                raise StructureError(
                    f"{path.name}, frame {number}: more than {MAX_BLANK:,} blank lines",
                    expected="a frame of xyz",
                )
            line = _line(stream, path, number)
        if not line:
            return
        where = f"{path.name}, frame {number}"
        n_atoms = _count(line, where, most)
        lines = [line]
        length = 0
        for _ in range(n_atoms + 1):
            line = _line(stream, path, number)
            if not line:
                raise StructureError(
                    f"{where}: ends after {max(0, len(lines) - 2)} of {n_atoms} atoms",
                    expected="a whole frame",
                    todo="the file was cut short: copy it again, or cut off the last frame",
                )
            lines.append(line)
            length += len(line)
            if length > MAX_FRAME:
                raise StructureError(
                    f"{where}: longer than {MAX_FRAME:,} characters", expected="a smaller frame"
                )
        line = _line(stream, path, number)
        while line.lstrip().startswith("VEC") and len(lines) < n_atoms + 5:
            lines.append(line)
            line = _line(stream, path, number)
        number += 1
        yield lines


def _line(stream: IO[str], path: Path, number: int) -> str:
    line = stream.readline(MAX_LINE)
    if len(line) == MAX_LINE:
        raise StructureError(
            f"{path.name}, frame {number}: a line of more than {MAX_LINE:,} characters",
            expected="lines of text",
        )
    return line


def _count(line: str, where: str, most: int) -> int:
    """The number of atoms that the first line of a frame announces; `most`: characters it can have."""
    try:
        n_atoms = int(line)
    except ValueError:
        raise StructureError(
            f"{where}: begins with {line.strip()[:60]!r}",
            expected="the number of atoms",
            todo="check that the file is (extended) xyz and not damaged",
        ) from None
    if n_atoms < 1:
        raise StructureError(
            f"{where}: {n_atoms} atoms, a structure without atoms", expected="at least one atom"
        )
    if n_atoms * LEAST_ROW > most + LEAST_ROW:
        raise StructureError(
            f"{where}: announces {line.strip()[:30]} atoms, more than the file or a frame can hold",
            expected=f"at most {most // LEAST_ROW:,}",
            todo="the file is damaged or cut short: copy it again",
        )
    return n_atoms


def parse(block: list[list[str]], path: Path, first: int) -> Iterator[Atoms]:
    """Frames from their lines; `first`: number of the first in the file.

    Raises:
        StructureError: one cannot be parsed.
    """
    if not block:
        return
    for offset, lines in enumerate(block):
        check_rows(lines, f"{path.name}, frame {first + offset}")
    try:
        frames = _parse("".join(map("".join, block)))
    except Exception:
        frames = [
            _parse_one(lines, path, f"{path.name}, frame {first + offset}")
            for offset, lines in enumerate(block)
        ]
    yield from frames


def _parse(text: str) -> list[Atoms]:
    return list(iread(io.StringIO(text), index=":", format="extxyz"))


def _parse_one(lines: list[str], path: Path, where: str) -> Atoms:
    """One frame of a block that ASE could not parse as it is: mended where that is safe, or the error."""
    try:
        (atoms,) = _parse("".join(with_elements(lines, path, where)))
    except (SurveyorError, Notice):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        text = properties_text(lines[1])
        described = f"; Properties {text!r}" if text else ""
        raise StructureError(
            f"{where}: cannot be parsed ({reason}{described})",
            expected="a frame of extended xyz: number of atoms, comment, one row per atom",
            todo="correct the frame, or take it out",
        ) from error
    return atoms
