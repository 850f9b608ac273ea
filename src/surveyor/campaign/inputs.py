"""The inputs of a campaign, known by content: where a file lies and how it is packed does not matter.

inputs.json           role → path, number of frames, digest
inputs/pool.frames    8 bytes a frame: which frame another content differs in
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from surveyor.campaign.latent_map import read_map
from surveyor.campaign.records import read_json
from surveyor.errors import CampaignError, notice
from surveyor.structures.identity import structure_id
from surveyor.structures.labels import ENERGY_KEY, FORCES_KEY, STRESS_KEY
from surveyor.structures.writing import whole_file, write_json
from surveyor.types import Float64Array

INPUTS = "inputs.json"
FOLDER = "inputs"
SCHEMA = 1
FRAME_BYTES = 8
SETTLED = 2.0
"""s; a file that changed less than this before it was read may change again without another time stamp."""


@dataclass(frozen=True)
class Content:
    """What a file of structures says.

    | field  | meaning                                                                        |
    |--------|--------------------------------------------------------------------------------|
    | frames | number of structures                                                           |
    | digest | SHA-256 of `each`                                                              |
    | each   | 8 bytes a structure: of its id, and of its labels as far as extxyz keeps them  |
    """

    frames: int
    digest: str
    each: bytes = field(repr=False, default=b"")


@dataclass(frozen=True)
class Source:
    """Structures that a campaign is given.

    Args:
        structures: iterated once, if at all.
        path: the file that they came from; None where they were handed over in memory.
    """

    structures: Iterable[Atoms]
    path: Path | None = None

    @property
    def stamp(self) -> list[int] | None:
        """What a file system knows of the file: the same stamp, the same bytes."""
        if self.path is None or not self.path.is_file():
            return None
        found = self.path.stat()
        return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def content_of(structures: Iterable[Atoms]) -> Content:
    """Ids and labels in their order; the same for a copy that was saved again, packed or moved."""
    each = b"".join(_of_frame(atoms) for atoms in structures)
    return Content(len(each) // FRAME_BYTES, hashlib.sha256(each).hexdigest(), each)


def _of_frame(atoms: Atoms) -> bytes:
    digest = hashlib.sha256(structure_id(atoms).encode())
    labels = (atoms.info.get(ENERGY_KEY), atoms.arrays.get(FORCES_KEY), atoms.info.get(STRESS_KEY))
    for label in labels:
        digest.update(b"|")
        if label is not None:
            digest.update(_micro(np.asarray(label, dtype=np.float64)))
    return digest.digest()[:FRAME_BYTES]


def _micro(values: Float64Array) -> bytes:
    """Whole 1e-6 units, by way of the 1e-8 that extxyz keeps; see `structure_id`."""
    hundredths = np.rint(values * 1e8).astype(np.int64)
    return ((hundredths + 50) // 100).astype("<i8").tobytes()


def check_inputs(folder: Path, sources: Mapping[str, Source]) -> None:
    """Record the inputs of a new campaign; in an old one, refuse any that holds something else.

    Args:
        folder: of the campaign.
        sources: role (pool, start, …) → structures.

    Raises:
        CampaignError: naming the file, and what changed in it.
    """
    path = folder / INPUTS
    known = _read(path) if path.is_file() else None
    if known is None:
        _check_map(folder, sources)
    now: dict[str, dict[str, Any]] = {}
    for role, source in sources.items():
        then = known.get(role) if known is not None else None
        stamp = source.stamp
        place = None if source.path is None else str(source.path.resolve())
        if then and stamp and then.get("stamp") == stamp and then["path"] == place:
            now[role] = then
            continue
        content = content_of(source.structures)
        if known is not None:
            _compare(folder, role, source, known.get(role), content)
        if not then or then["digest"] != content.digest or not _frames_file(folder, role).is_file():
            _keep_frames(folder, role, content)
        now[role] = {"path": place, "frames": content.frames, "digest": content.digest}
        if stamp and stamp == source.stamp and time.time() - max(stamp[1:3]) / 1e9 > SETTLED:
            now[role]["stamp"] = stamp
    if now != known:
        write_json(path, {"schema": SCHEMA, "files": now})
    if known is None and (folder / "rounds").is_dir():
        files = ", ".join(
            f"{role} ({entry['frames']} frames)" for role, entry in now.items() if entry["frames"]
        )
        notice(
            f"the campaign {folder} was started by a version that kept no record of its inputs; they are "
            f"recorded as they are now: {files}"
        )


def compare_inputs(folder: Path, sources: Mapping[str, Source]) -> None:
    """Refuse inputs that hold something else than the campaign's record says; write nothing.

    Raises:
        CampaignError: naming the file, and what changed in it.
    """
    known = _read(folder / INPUTS)
    for role, source in sources.items():
        _compare(folder, role, source, known.get(role), content_of(source.structures))


def _read(path: Path) -> dict[str, dict[str, Any]]:
    content = read_json(path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(entry, dict)
        and isinstance(entry.get("frames"), int)
        and isinstance(entry.get("digest"), str)
        and "path" in entry
        for entry in files.values()
    ):
        raise CampaignError(
            f"{path} holds no record of inputs",
            expected="a file that Surveyor wrote",
            todo="restore it from a copy",
        )
    return files


def _compare(folder: Path, role: str, source: Source, then: Mapping[str, Any] | None, now: Content) -> None:
    frames = 0 if then is None else int(then["frames"])
    if (then is None and now.frames == 0) or (then is not None and then["digest"] == now.digest):
        return
    old = _frames_file(folder, role)
    each = old.read_bytes() if old.is_file() else b""
    what = [
        f"{frames} frames then, {now.frames} now" if frames != now.frames else f"{frames} frames as before"
    ]
    grown = False
    if then is not None and hashlib.sha256(each).hexdigest() == then["digest"]:
        first = _first_difference(each, now.each)
        grown = first == frames < now.frames
        what.append(
            f"the first {first} are the same"
            if first == min(frames, now.frames)
            else f"frame {first} differs"
        )
    name = role if source.path is None else f"{source.path.name} ({role})"
    add = (
        f"surveyor extend {folder} --pool FILE, with the new frames alone" if grown and role == "pool"
        else "add to it with surveyor extend" if role in ("pool", "start")
        else ""
    )  # fmt: skip
    raise CampaignError(
        f"{name}: {'; '.join(what)}: not what the campaign {folder} was started with",
        expected="the same structures and labels in the same order; where the file lies does not matter",
        todo="; ".join(
            filter(None, ("restore the file", add, "or start another campaign with -o NEW_FOLDER"))
        ),
    )


def _first_difference(a: bytes, b: bytes) -> int:
    """The first frame in which two contents differ; the length of the shorter one if none does."""
    n = min(len(a), len(b)) // FRAME_BYTES
    one, other = (np.frombuffer(each[: n * FRAME_BYTES], dtype="<u8") for each in (a, b))
    different = np.flatnonzero(one != other)
    return int(different[0]) if len(different) else n


def _frames_file(folder: Path, role: str) -> Path:
    return folder / FOLDER / f"{role.replace(' ', '-')}.frames"


def _keep_frames(folder: Path, role: str, content: Content) -> None:
    if content.each:
        with whole_file(_frames_file(folder, role)) as file:
            file.write(content.each)


def _check_map(folder: Path, sources: Mapping[str, Source]) -> None:
    """What the map of a campaign without a record tells of its pool and its test set."""
    found = read_map(folder)
    if found is None:
        return
    for role in ("pool", "test"):
        if role not in sources:
            continue
        ids = [structure_id(atoms) for atoms in sources[role].structures]
        frames = len(getattr(found, role))
        kept = zip(found.kept[role].tolist(), found.frames[role], strict=True)
        wrong = [
            index
            for index, atoms in kept
            if index >= len(ids) or ids[index] != str(atoms.info["surveyor_id"])
        ]
        if len(ids) != frames or wrong:
            path = sources[role].path
            name = role if path is None else f"{path.name} ({role})"
            raise CampaignError(
                f"{name}: {frames} frames then, {len(ids)} now"
                + (f"; frame {wrong[0]} differs" if wrong else "")
                + f": not what the campaign {folder} was started with",
                expected="the same structures in the same order; where the file lies does not matter",
                todo="restore the file, or start another campaign with -o NEW_FOLDER",
            )
