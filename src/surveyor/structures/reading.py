"""Reading structures of any format that ASE knows, compressed or not, as a stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError

from surveyor.errors import StructureError
from surveyor.structures.validation import validate

CHUNK_FRAMES = 64

_OPENERS: dict[str, Callable[..., IO[bytes]]] = {
    ".gz": cast(Callable[..., IO[bytes]], gzip.open),
    ".xz": cast(Callable[..., IO[bytes]], lzma.open),
    ".bz2": cast(Callable[..., IO[bytes]], bz2.open),
}
_XYZ_SUFFIXES = (".extxyz", ".xyz", ".exyz")


def read_structures(path: str | Path, *, check: bool = True) -> Iterator[Atoms]:
    """Frames of a file, one at a time, in bounded memory.

    Extended XYZ, plain or compressed (.gz, .xz, .bz2), is cut into blocks of frames that ASE parses from
    memory: its own reader seeks back in the file, which is quadratic in a compressed stream.

    Args:
        check: validate every frame.

    Raises:
        StructureError: the file is missing, empty, of an unknown format or damaged, or a frame is not valid;
            the message names the file and the frame.
    """
    path = Path(path)
    if not path.exists():
        raise StructureError(
            f"no such file: {path}",
            expected="a file of structures that ASE reads (extxyz, xyz, traj, db, cif, …)",
            todo=f"check the path; the current folder is {Path.cwd()}",
        )
    if path.is_dir():
        raise StructureError(f"{path} is a folder", expected="a file of structures")
    return _read(path, check)


def _read(path: Path, check: bool) -> Iterator[Atoms]:
    found = False
    for number, atoms in enumerate(_frames(path)):
        found = True
        yield validate(atoms, f"{path.name}, frame {number}") if check else atoms
    if not found:
        raise StructureError(
            f"{path} holds no structure", expected="at least one frame", todo="check how the file was written"
        )


def count_structures(path: str | Path) -> int:
    """Number of frames in the file, without validating them."""
    path = Path(path)
    if is_xyz(path):
        with _open(path) as stream:
            return sum(1 for _ in _cut(stream, path))
    return sum(1 for _ in read_structures(path, check=False))


def xyz_frames(path: Path) -> Iterator[str]:
    """The text of each frame of an xyz file, compressed or not.

    Raises:
        StructureError: a frame does not begin with its number of atoms, or is cut short.
    """
    with _open(path) as stream:
        yield from _cut(stream, path)


def _inner_suffix(path: Path) -> str:
    suffixes = path.suffixes
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _OPENERS else path.suffix


def is_xyz(path: Path) -> bool:
    """Whether the name is that of an xyz file, compressed or not."""
    return _inner_suffix(path).lower() in _XYZ_SUFFIXES


def _open(path: Path) -> IO[str]:
    opener = _OPENERS.get(path.suffix)
    binary = opener(path, "rb") if opener else path.open("rb")
    return io.TextIOWrapper(binary, encoding="utf-8", newline=None)


def _frames(path: Path) -> Iterator[Atoms]:
    try:
        if is_xyz(path):
            with _open(path) as stream:
                yield from _parse(_cut(stream, path), path)
        elif path.suffix in _OPENERS:
            yield from _decompressed(path)
        else:
            yield from iread(path, index=":")
    except StructureError:
        raise
    except UnknownFileTypeError as error:
        raise StructureError(
            f"{path.name}: not a format that ASE knows ({error})", expected="extxyz, xyz, traj, db, cif, …"
        ) from error
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, OSError) as error:
        raise StructureError(
            f"{path.name}: damaged or cut short ({error})",
            expected="a whole file",
            todo="copy the file again",
        ) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise StructureError(
            f"{path.name}: ASE could not read it ({type(error).__name__}: {error})",
            expected="a file that ase.io.read opens",
        ) from error


def _decompressed(path: Path) -> Iterator[Atoms]:
    """Other formats seek freely: give ASE a plain copy."""
    with TemporaryDirectory(prefix="surveyor-") as folder:
        plain = Path(folder) / path.stem
        with _OPENERS[path.suffix](path, "rb") as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield from iread(plain, index=":")


def _cut(stream: IO[str], path: Path) -> Iterator[str]:
    """The text of one xyz frame after the other."""
    number = 0
    line = stream.readline()
    while line:
        if not line.strip():
            line = stream.readline()
            continue
        try:
            n_atoms = int(line)
        except ValueError:
            raise StructureError(
                f"{path.name}, frame {number}: begins with {line.strip()[:60]!r}",
                expected="the number of atoms",
                todo="check that the file is (extended) xyz and not damaged",
            ) from None
        lines = [line]
        for _ in range(n_atoms + 1):
            line = stream.readline()
            if not line:
                raise StructureError(
                    f"{path.name}, frame {number}: ends after {len(lines) - 2} of {n_atoms} atoms",
                    expected="a whole frame",
                    todo="the file was cut short: copy it again, or cut off the last frame",
                )
            lines.append(line)
        line = stream.readline()
        while line.lstrip().startswith("VEC"):
            lines.append(line)
            line = stream.readline()
        number += 1
        yield "".join(lines)


def _parse(frames: Iterator[str], path: Path) -> Iterator[Atoms]:
    number = 0
    block: list[str] = []
    for frame in frames:
        block.append(frame)
        if len(block) == CHUNK_FRAMES:
            yield from _parse_block(block, path, number)
            number += len(block)
            block = []
    yield from _parse_block(block, path, number)


def _parse_block(block: list[str], path: Path, first: int) -> Iterator[Atoms]:
    if not block:
        return
    try:
        yield from list(iread(io.StringIO("".join(block)), index=":", format="extxyz"))
    except (ValueError, KeyError, IndexError, OSError) as error:
        for offset, frame in enumerate(block):  # find the frame to name it
            try:
                list(iread(io.StringIO(frame), index=":", format="extxyz"))
            except (ValueError, KeyError, IndexError, OSError) as cause:
                raise StructureError(
                    f"{path.name}, frame {first + offset}: {cause}", expected="a frame of extended xyz"
                ) from error
        raise
