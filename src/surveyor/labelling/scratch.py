"""A folder of its own for every calculation: current folder, temporary folder, and log of what is printed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from surveyor.labelling.printing import flush, redirected
from surveyor.structures.writing import write_error

LOG = "output.log"
"""What calculator and programs printed."""

KEPT = 20
"""Folders of failed calculations that stay."""

KEPT_BYTES = 20_000_000
"""Of each; files that do not fit are left out, the longest first, the log to its end."""

LOG_BYTES = 200_000

FILES = "; files: "
"""Stands in the reason of a failure between what happened and where its files are."""

current: Path | None = None
"""The scratch folder of the calculation that this process is at; None in a process that is no worker."""


def make_scratch() -> Path:
    """A new folder on this machine.

    Raises:
        SurveyorError: there is no room for one.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="surveyor-"))
    except OSError as error:
        raise write_error(Path(tempfile.gettempdir()), error) from error


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Be in a scratch folder: relative names, temporary files and all output end there."""
    global current
    before, temporary, variable = Path.cwd(), tempfile.tempdir, os.environ.get("TMPDIR")
    with (folder / LOG).open("ab") as log, redirected(log.fileno(), 1, 2):
        os.chdir(folder)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        current = folder
        try:
            yield
        finally:
            current, tempfile.tempdir = None, temporary
            os.environ.pop("TMPDIR")
            if variable is not None:
                os.environ["TMPDIR"] = variable
            os.chdir(before)


def keep(scratch: Path, kept: Path | None, name: str) -> str:
    """Move what a failed calculation left into `kept`, where a person finds it (None: nothing is kept).

    Its scratch folder is gone afterwards; what is returned belongs to the reason of the failure.
    """
    flush()
    try:
        if kept is None or not scratch.is_dir():
            return ""
        target = kept / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{scratch.name[-4:]}"
        _prune(kept)
        _copy(scratch, target)
        return f"{FILES}{target}"
    except OSError:  # no room: the failure is on record all the same
        return ""
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _prune(kept: Path) -> None:
    """Make room for one more, the oldest go; what Surveyor did not put there stays."""
    kept.mkdir(parents=True, exist_ok=True)
    ours = [path for path in kept.iterdir() if re.fullmatch(r"[0-9a-f]{32}-\d{8}-\d{6}-\w+", path.name)]
    for path in sorted(ours, key=lambda path: path.name.partition("-")[2])[: max(0, len(ours) - KEPT + 1)]:
        if not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Regular files, the shortest first, as long as they fit."""
    target.mkdir(mode=0o700)
    left = KEPT_BYTES
    files = [
        (state.st_size, path)
        for place, _, names in os.walk(source)
        for path in (Path(place) / name for name in names)
        if stat.S_ISREG((state := path.lstat()).st_mode) and path != source / LOG
    ]
    for size, path in sorted(files):
        if size > left:
            break
        goal = target / path.relative_to(source)
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, goal, follow_symlinks=False)
        left -= size
    with contextlib.suppress(FileNotFoundError), (source / LOG).open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_BYTES))
        (target / LOG).write_bytes(log.read())
