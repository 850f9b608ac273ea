"""The records of finished runs: loose files as they are written, and one archive of many.

    results/runs/LEARNER/TASK/STRATEGY/SEED.json    a record
    results/runs.tar.xz                             records under the same names, packed

A folder may have both: the records join, and where both have a run, the loose file counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surveyor.errors import ConfigError, SurveyorError
from surveyor.structures.writing import whole_file, write_error

ARCHIVE = "runs.tar.xz"
_NAME = re.compile(r"runs(?:/[A-Za-z0-9][A-Za-z0-9._+-]*){3}/[0-9]{3,}\.json")
_LAYOUT = "runs/LEARNER/TASK/STRATEGY/SEED.json"


@dataclass(frozen=True)
class RunName:
    """Which run of the grid."""

    learner: str
    task: str
    strategy: str
    seed: int

    @property
    def record(self) -> str:
        """Name of its record in the results folder, and in the archive."""
        return f"runs/{self.learner}/{self.task}/{self.strategy}/{self.seed:03d}.json"

    def path(self, folder: Path) -> Path:
        """Where its record is written."""
        return folder / self.record


@dataclass(frozen=True)
class Packed:
    """An archive: its path, how many records it holds, its size in bytes and its SHA-256."""

    path: Path
    records: int
    size: int
    sha256: str


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """All finished runs of a results folder, loose and packed, in the order of their names.

    Raises:
        ConfigError: there are none.
        SurveyorError: the archive or a record is damaged.
    """
    return [_parsed(folder, name, content) for name, content in _contents(folder).items()]


def finished(folder: Path) -> set[str]:
    """Names of the records that a results folder holds, loose or packed.

    Raises:
        SurveyorError: the archive is damaged.
    """
    return {*_loose(folder), *_unpacked(folder / ARCHIVE)}


def pack(folder: Path) -> Packed:
    """Move all records of a results folder into its archive; the same records give the same bytes.

    The loose files go when the archive has been read again, and not before.

    Raises:
        ConfigError: there are no records.
        SurveyorError: the archive or a record is damaged, or the archive cannot be written.
    """
    contents, loose, path = _contents(folder), _loose(folder), folder / ARCHIVE
    for name, content in contents.items():
        _parsed(folder, name, content)
    if loose:
        with whole_file(path) as file:
            file.write(_archive(contents))
        if _unpacked(path) != contents:
            raise SurveyorError(
                f"{path} does not read as it was written", todo="check the disk; nothing is lost"
            )
    for own in loose.values():
        _remove(own, folder)
    data = path.read_bytes()
    return Packed(path, len(contents), len(data), hashlib.sha256(data).hexdigest())


def _loose(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder).as_posix(): path for path in (folder / "runs").glob("*/*/*/*.json")}
    for name in found:
        if not _NAME.fullmatch(name):
            raise SurveyorError(
                f"{folder / name} is no record of a run", expected=_LAYOUT, todo="move it away"
            )
    return found


def _contents(folder: Path) -> dict[str, bytes]:
    """Every record by name, in the order of names."""
    loose = {name: path.read_bytes() for name, path in _loose(folder).items()}
    found = _unpacked(folder / ARCHIVE) | loose
    if not found:
        raise ConfigError(
            f"no finished run in {folder}",
            expected="the folder that `surveyor benchmark` wrote",
            todo="check the path",
        )
    return {name: found[name] for name in sorted(found, key=lambda name: name.split("/"))}


def _parsed(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(content)
        own = RunName(record["learner"], record["task"], record["strategy"], record["seed"]).record
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SurveyorError(
            f"{folder / name} is damaged: {type(error).__name__}: {error}",
            expected="the record of a run, JSON",
            todo="delete it and do the run again",
        ) from error
    if own != name:
        raise SurveyorError(f"{folder / name} holds the record of another run, {own}", todo="rename it")
    return record


def _archive(contents: dict[str, bytes]) -> bytes:
    """A tar of plain files without owners or times, compressed, with the SHA-256 of its content."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return lzma.compress(plain.getvalue(), check=lzma.CHECK_SHA256, preset=9)


def _unpacked(path: Path) -> dict[str, bytes]:
    """The records of an archive; none where there is no archive."""
    if not path.exists():
        return {}
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        plain = reader.decompress(path.read_bytes())
    except lzma.LZMAError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise SurveyorError(f"could not read {path}: {error.strerror or error}") from error
    if not reader.eof:
        raise _damaged(path, "it ends too early")
    if reader.unused_data or reader.check != lzma.CHECK_SHA256:
        raise _damaged(path, "something else follows its end" if reader.unused_data else "it has no SHA-256")
    try:
        return _members(path, plain)
    except tarfile.TarError as error:
        raise _damaged(path, str(error)) from error


def _members(path: Path, plain: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            if file is None or not _NAME.fullmatch(member.name) or member.name in found:
                raise SurveyorError(
                    f"{path}: the member {member.name!r} is no record of a run, or stands there twice",
                    expected=f"plain files {_LAYOUT}",
                    todo="use an archive that `surveyor benchmark pack` wrote",
                )
            found[member.name] = file.read()
    return found


def _damaged(path: Path, why: str) -> SurveyorError:
    return SurveyorError(
        f"the archive {path} is damaged: {why}",
        expected="an archive that `surveyor benchmark pack` wrote, with its SHA-256",
        todo="take it from where it came from once more",
    )


def _remove(path: Path, folder: Path) -> None:
    """Remove a record, and the folders that it leaves empty."""
    try:
        path.unlink()
        for parent in path.relative_to(folder).parents[:-1]:
            if any((folder / parent).iterdir()):
                return
            (folder / parent).rmdir()
    except OSError as error:
        raise write_error(path, error) from error
