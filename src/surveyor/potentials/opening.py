"""From what a user names to an opened potential."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from surveyor.errors import PotentialError
from surveyor.types import Potential

if TYPE_CHECKING:
    from surveyor.potentials.base import Family

BUILTIN = "builtin"
BUILTIN_FAMILY = "mace"
GROUP = "surveyor.potentials"
"""The group of entry points through which families, those of other packages too, make themselves known."""


def builtin_path() -> Path:
    """The weights that come with the package."""
    return Path(str(resources.files("surveyor"))) / "potentials" / "weights" / "builtin.model"


def beside(model: str, part: str) -> Path | None:
    """The `held-out` or `replay` frames beside a `.model` file, as `surveyor pretrain` writes them."""
    path = builtin_path() if model == BUILTIN else Path(model)
    frames = path.with_name(f"{path.stem}-{part}.extxyz.gz")
    return frames if frames.is_file() else None


def checksum(path: Path) -> str:
    """SHA-256 of a `.model` file, as a card states it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def families() -> Mapping[str, EntryPoint]:
    """Name → entry point of every installed family of potentials."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def open_potential(
    source: str | Path,
    device: str | None = None,
    dtype: Literal["float32", "float64"] | None = None,
    *,
    head: str | None = None,
) -> Potential:
    """Open a pretrained potential.

    A `.model` file is a Python pickle: opening one runs code that it holds. Open only files from people
    you trust.

    Args:
        source: `"builtin"` (in the package), the path of a file, a published potential by name, such as
            MACE's `"medium-mpa-0"`, `"off-small"` or `"omol"`, which mace-torch downloads once into its
            cache; or either of the latter behind the name of its family, `"mace:medium-mpa-0"`.
        device: `"cpu"`, `"cuda"`, …; None takes a GPU where there is one.
        dtype: None keeps the dtype that the model was saved with.
        head: which head of a multi-head model; None takes the only one, or the one named "default".

    Raises:
        PotentialError: no such file, name or family, not a potential, an unusable device or dtype, or no
            network.
    """
    if dtype not in (None, "float32", "float64"):
        raise PotentialError(f"dtype {dtype!r}", expected="float32 or float64")
    name, what = _family_of(str(source))
    return _loaded(name).open(what, device=device, dtype=dtype, head=head)


def suffix_of(family: str) -> str:
    """Ending of the files that a family saves."""
    return next(iter(_loaded(family).suffixes))


def _family_of(source: str) -> tuple[str, str]:
    """Family of what a user named, and its file or name there.

    Raises:
        PotentialError: there is no such file, name or family, or more than one family claims the file.
    """
    known = families()
    if not known:
        raise PotentialError(
            "no family of potentials is installed, not even mace",
            todo="install surveyor again: pip install surveyor, or pip install -e . in a checkout",
        )
    if source == BUILTIN:
        return BUILTIN_FAMILY, str(builtin_path())
    if Path(source).is_file():
        return _family_of_file(Path(source), known), source
    family, colon, what = source.partition(":")
    if colon and family in known:
        if not (Path(what).is_file() or what in (names := _names(family))):
            raise PotentialError(
                f"no potential {what!r} of the family {family!r}",
                expected="a file, or one of " + (", ".join(names) or "its names, of which it has none"),
                todo=f"check the spelling; the current folder is {Path.cwd()}",
            )
        return family, what
    if Path(source).suffix != "" or "/" in source:
        raise PotentialError(
            f"no potential {source!r}: no such file",
            expected=_expected(known),
            todo=f"check the spelling; the current folder is {Path.cwd()}",
        )
    for candidate in known:
        if source in _names(candidate):
            return candidate, source
    raise PotentialError(
        f"no potential {source!r}",
        expected=_expected(known) + "".join(", " + name for each in known for name in _names(each)),
        todo=f"check the spelling; the current folder is {Path.cwd()}",
    )


def _family_of_file(path: Path, known: Mapping[str, EntryPoint]) -> str:
    """The family whose files end like this one; where none does, the only one there is."""
    claims = [name for name in known if path.name.endswith(tuple(_loaded(name).suffixes))]
    if len(claims or known) == 1:
        return next(iter(claims or known))
    raise PotentialError(
        f"{path}: its ending does not tell which family of potentials it is of",
        expected="a file of " + ", ".join(f"{name} ({', '.join(_loaded(name).suffixes)})" for name in known),
        todo=f"name the family: {next(iter(claims or known))}:{path}",
    )


def _expected(known: Mapping[str, EntryPoint]) -> str:
    endings = {ending: None for name in known for ending in _loaded(name).suffixes}
    return f"'builtin', the path of a {' or '.join(endings)} file, or one of " + ", ".join(
        f"{name}:NAME" for name in known
    )


def _names(family: str) -> list[str]:
    return list(_loaded(family).names())


def _loaded(family: str) -> Family:
    """
    Raises:
        PotentialError: the family cannot be imported.
    """
    entry = families()[family]
    try:
        found: Family = entry.load()
    except ImportError as error:
        raise PotentialError(
            f"the family {family!r} of potentials cannot be imported: {error}",
            expected=f"the package behind {entry.value}",
            todo="install what is missing, or uninstall the package that announces the family",
        ) from error
    return found
