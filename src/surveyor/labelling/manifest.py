"""What the labels of an output file are of: one method, and one set of structures that only grows."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from surveyor.errors import LabellingError
from surveyor.labelling.labeller import labeller_of
from surveyor.labelling.names import ID
from surveyor.structures.writing import atomic_write
from surveyor.types import Labeller

NAME = "ledger.json"

TODO = "name another output (-o), or the calculator, settings and structures of before"


class Manifest(BaseModel):
    """What an output was begun with.

    `method` names the journal, `computed_by` what computes: another name where an earlier version began it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = 1
    method: str
    computed_by: str
    ids: frozenset[Annotated[str, StringConstraints(pattern=f"^{ID}$")]]


def begin(folder: Path, labeller: Labeller, ids: Collection[str]) -> Labeller:
    """Write down what an output is of, before anything is paid, or check that it is the same.

    Returns:
        The labeller, under the name that the output's journal bears.

    Raises:
        LabellingError: the output was begun with another method, or with structures that are not asked about
            any more, or the manifest is damaged.
    """
    path = folder / NAME
    now = labeller.method
    if path.exists():
        begun = _read(path)
        before = begun.ids
        goes_on = labeller_of(begun.method, labeller)
        if goes_on is None or begun.computed_by != now:
            raise _other_method(folder, begun.computed_by, now)
    else:
        before, goes_on = frozenset(), _of_journal(folder, labeller)
    if missing := before - set(ids):
        raise LabellingError(
            f"{folder} holds labels of {len(before)} structures; {len(missing)} of them are not in the file, "
            f"the first: {min(missing)}",
            expected="the structures that the output was begun with; more of them may be added",
            todo=TODO,
        )
    manifest = Manifest(method=goes_on.method, computed_by=now, ids=before | set(ids))
    content = manifest.model_dump(mode="json") | {"ids": sorted(manifest.ids)}
    atomic_write(path, lambda file: json.dump(content, file))
    return goes_on


def _read(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise LabellingError(
            f"{path} is damaged, it does not say which method the labels beside it are of",
            expected="the file that Surveyor wrote",
            todo="restore it; or delete it if you know that the method is the same",
        ) from error


def _of_journal(folder: Path, labeller: Labeller) -> Labeller:
    """The labeller that goes on with the journals of a folder without a manifest (of an earlier version)."""
    journals = sorted(path.stem for path in (folder / "labels").glob("*.extxyz") if path.stat().st_size)
    if not journals:
        return labeller
    for name in journals:
        if (goes_on := labeller_of(name, labeller)) is not None:
            return goes_on
    raise _other_method(folder, " and ".join(journals), labeller.method)


def _other_method(folder: Path, before: str, now: str) -> LabellingError:
    return LabellingError(
        f"{folder} was begun with the method {before}; the method is now {now}",
        expected="one method per output: code, version, settings, and files that they name",
        todo=TODO,
    )
