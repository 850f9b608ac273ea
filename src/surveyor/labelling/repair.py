"""Putting a damaged journal right: what is whole is kept, the damaged file is set aside, never deleted."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from surveyor.errors import LabellingError
from surveyor.labelling.journal import own_file
from surveyor.labelling.ledger import keep_count, paid_labels
from surveyor.labelling.sealing import recover
from surveyor.structures.writing import whole_file, write_error


@dataclass(frozen=True)
class Repaired:
    """What became of a journal: labels in it, labels lost, and the damaged file, if it was set aside."""

    journal: Path
    labels: int
    lost: int
    aside: Path | None


def repair(folder: Path, *, accept_loss: bool = False) -> list[Repaired]:
    """Mend every journal of a folder of labels. The caller holds the lock of the campaign.

    Raises:
        LabellingError: a journal is missing, and the loss of its labels is not accepted.
    """
    journals = sorted(
        {*folder.glob("*.extxyz"), *(_journal_of(tally) for tally in folder.glob("*.paid.json"))}
    )
    return [_repair(path, accept_loss) for path in journals]


def _journal_of(tally: Path) -> Path:
    return tally.with_name(f"{tally.name.removesuffix('.paid.json')}.extxyz")


def _repair(path: Path, accept_loss: bool) -> Repaired:
    paid = paid_labels(path)
    if not path.exists():
        if paid and not accept_loss:
            raise LabellingError(
                f"{path} is missing, and so are its {paid} labels",
                expected="the journal, restored from a copy",
                todo="--accept-loss goes on without them: they will be computed and paid for again",
            )
        keep_count(path, 0)
        return Repaired(path, 0, paid, None)
    with own_file(path, os.O_RDONLY) as file:
        content = file.read()
    frames = recover(content)
    mended = b"".join(frames)
    if mended == content:
        keep_count(path, len(frames))
        return Repaired(path, len(frames), max(0, paid - len(frames)), None)
    aside = _set_aside(path)
    with whole_file(path) as file:
        file.write(mended)
    keep_count(path, len(frames))
    return Repaired(path, len(frames), max(0, paid - len(frames)), aside)


def _set_aside(path: Path) -> Path:
    """A second name for the file as it is; the first one is then free to be replaced."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists() or aside.is_symlink():
        number += 1
    try:
        try:
            os.link(path, aside, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(path, aside, follow_symlinks=False)
    except OSError as error:
        raise write_error(aside, error) from error
    return aside
