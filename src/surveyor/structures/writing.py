"""Writing without half-written files: temporary file, fsync, replace."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from ase import Atoms
from ase.io import write

from surveyor.errors import StructureError, SurveyorError


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write into that takes the place of `path` when the block ends well, and goes otherwise.

    Readers see the old content or the new one, never a part.

    Raises:
        SurveyorError: the folder is missing, not writable, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error


def atomic_write(path: str | Path, fill: Callable[[IO[str]], object]) -> Path:
    """Write a text file as a whole or not at all; see `whole_file`.

    Args:
        fill: writes the content to the open file that it is given.

    Raises:
        SurveyorError: the folder is missing, not writable, or the disk is full.
    """
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8")
        fill(text)
        text.flush()
        text.detach()
    return Path(path)


def write_error(path: Path, error: OSError) -> SurveyorError:
    """The error that tells a user why a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SurveyorError(
            f"the disk is full: could not write {path}",
            expected="free space",
            todo="free some space and run the same command again; nothing already written is lost",
        )
    return SurveyorError(
        f"could not write {path}: {error.strerror or error}",
        expected="a folder that exists and is writable",
        todo="choose another output path, or change its permissions",
    )


def write_structures(path: str | Path, structures: Iterable[Atoms]) -> Path:
    """Write extended XYZ (`info` and arrays included), replacing the file as a whole.

    Raises:
        StructureError: the path does not end in .extxyz or .xyz.
        SurveyorError: the file cannot be written.
    """
    path = Path(path)
    _check_suffix(path)
    frames = list(structures)
    return atomic_write(path, lambda file: write(file, frames, format="extxyz") if frames else None)


def check_output(path: Path) -> None:
    """Raise before the work begins if the output file could not be written after it."""
    _check_suffix(path)
    parent = path.parent
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise StructureError(
            f"cannot write {path}", expected="a file name in a folder that exists and is writable"
        )


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".extxyz", ".xyz"):
        raise StructureError(f"output file {path.name}", expected="a name that ends in .extxyz or .xyz")
