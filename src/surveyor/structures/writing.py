"""Writing without half-written files: temporary file, fsync, replace."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ase import Atoms

from surveyor.errors import StructureError, SurveyorError, notice
from surveyor.structures.portable import frame_text
from surveyor.structures.validation import each_structure

GENERATOR = '<meta name="generator" content="Surveyor">'
_PAGES = (
    GENERATOR,
    " · Surveyor</title>",
    "from the raw records by `surveyor benchmark report`",
    "<dc:title>Surveyor</dc:title>",
    "Author\0Surveyor",
)
"""What says that a page is Surveyor's: the tag, reports from before it, pages of a benchmark, pictures."""

_SUFFIXES = (".extxyz", ".xyz")
_HEAD = 2**16
"""Bytes in which a file must say who wrote it."""


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write into that takes the place of `path` when the block ends well, and goes otherwise.

    Readers see the old content or the new one, never a part. A new file has the permissions that the umask
    leaves, a replaced one keeps its own; a link is replaced, never followed.

    Raises:
        SurveyorError: the folder is missing, not writable, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        # Mode x never opens what is there, and the kernel applies the umask: there is nothing to look up.
        with temporary.open("xb") as file:
            try:
                mode = _mode(path)
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
    except OSError as error:
        raise write_error(path, error) from error


def _mode(path: Path) -> int | None:
    """Permissions of a plain file; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_mode & 0o777 if stat.S_ISREG(found.st_mode) else None


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


def write_json(path: Path, content: Any) -> None:
    """JSON for people and programs, written as a whole; see `whole_file`."""
    atomic_write(path, lambda file: file.write(json.dumps(content, indent=1, allow_nan=False) + "\n"))


def emptied(folder: Path) -> Path:
    """A folder with nothing in it: what an earlier attempt left there is gone, a link is not followed."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


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
    """Write extended XYZ, replacing the file as a whole; see `frame_text` for what it cannot hold.

    Each key that is left out is named once.

    Raises:
        StructureError: the path does not end in .extxyz or .xyz, or a geometry cannot be written.
        SurveyorError: the file cannot be written.
    """
    path = Path(path)
    _check_suffix(path)
    return atomic_write(path, lambda file: file.writelines(frame_texts(path, each_structure(structures))))


def frame_texts(path: Path, structures: Iterable[Atoms]) -> Iterator[str]:
    """The frames as text, for a file of this name; each key that is left out is named once."""
    for number, atoms in enumerate(structures):
        text, left = frame_text(atoms, f"{path.name}, frame {number}")
        for name, reason in left.items():
            notice(
                f"{path}, frame {number}: {name} is left out, extended xyz cannot hold it: {reason}",
                about=(path.name, name),
            )
        yield text


def check_output(path: Path, *, overwrite: bool = False, inputs: Iterable[Path | None] = ()) -> None:
    """Raise before the work begins if the structures could not be written, or would replace another's file.

    Args:
        overwrite: replace whatever file is there, but none of the inputs.
        inputs: files that the work reads.

    Raises:
        StructureError: the name or the folder is wrong, or the file there is not Surveyor's.
    """
    _check_suffix(path)
    if any(each is not None and each.resolve() == path.resolve() for each in inputs):
        raise StructureError(
            f"{path} would be replaced, and it is what the command reads",
            expected="an output of another name",
        )
    check_place(path, overwrite=overwrite)


def check_place(path: Path, *, overwrite: bool = False) -> None:
    """As `check_output`, for files of any name."""
    parent = path.parent
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise StructureError(
            f"cannot write {path}", expected="a file name in a folder that exists and is writable"
        )
    if overwrite or not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file():
        found = "a link" if path.is_symlink() else "no plain file"
    elif path.stat().st_size and not _is_ours(path):
        found = "there already, and Surveyor did not write it"
    else:
        return
    raise StructureError(
        f"{path} is {found}",
        expected="a new name, or a file that Surveyor wrote",
        todo="choose another name, or give --overwrite to replace it",
    )


def _is_ours(path: Path) -> bool:
    """Whether the file says that Surveyor wrote it, or lies beside the labels that it was made of."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if path.suffix in _SUFFIXES:
        marked = re.match(rb"[^\n]*\n[^\n]*\bsurveyor_\w", head)
        return marked is not None or path.with_suffix(".ledger").is_dir()
    return any(mark.encode() in head for mark in _PAGES)


def _check_suffix(path: Path) -> None:
    if path.suffix not in _SUFFIXES:
        raise StructureError(f"output file {path.name}", expected="a name that ends in .extxyz or .xyz")
