"""From what a user names to an opened potential."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    python: str | Path | None = None,
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
        python: path of the Python of another environment, whose families open it, in a process there;
            None: this environment.

    Raises:
        PotentialError: no such file, name or family, not a potential, an unusable device or dtype, or no
            network.
    """
    if dtype not in (None, "float32", "float64"):
        raise PotentialError(f"dtype {dtype!r}", expected="float32 or float64")
    if python is not None:
        from surveyor.potentials.elsewhere.potential import open_elsewhere

        return open_elsewhere(python, str(source), device, dtype, head)
    name, what = _family_of(str(source))
    family = _loaded(name)
    with _importing(name):
        return family.open(what, device=device, dtype=dtype, head=head)


def opened(
    source: str | Path | Potential,
    device: str | None = None,
    python: str | Path | None = None,
    head: str | None = None,
) -> Potential:
    """A potential that is open already, or what `open_potential` opens.

    Raises:
        PotentialError: neither of them, or as of `open_potential`.
    """
    if isinstance(source, str | Path):
        return open_potential(source, device, head=head, python=python)
    if isinstance(source, Potential):
        return source
    raise PotentialError(
        f"{type(source).__name__} where a potential is expected",
        expected="a name, the path of a file, or what surveyor.open_potential returned",
        todo="potentials of a library of your own: see 'Add your own family' in docs/extending.md",
    )


def open_alike(potential: Potential, path: Path, device: str | None = None) -> Potential:
    """A file of a potential's family, opened where that potential runs.

    Raises:
        PotentialError: as of `open_potential`.
    """
    from surveyor.potentials.base import Remote

    if isinstance(potential, Remote):
        return potential.opened(path, device)
    return open_potential(f"{potential.family}:{path}", device)


def suffix_of(potential: Potential) -> str:
    """Ending of the files that the potential's family saves."""
    from surveyor.potentials.base import Remote

    if isinstance(potential, Remote):
        return potential.suffix
    return next(iter(_loaded(potential.family).suffixes))


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
        with _importing(family):
            own = list(_loaded(family).names())
        if not (Path(what).is_file() or what in own):
            raise _nothing(what, f" of the family {family!r}", ", ".join(["a file", *own]))
        return family, what
    published = {each: _names(each) for each in known}
    for candidate, names in published.items():
        if source in names:
            return candidate, source
    endings = dict.fromkeys(ending for each in known for ending in _suffixes(each))
    every = [name for each, names in published.items() if names for name in (f"{each}:NAME", *names)]
    raise _nothing(
        source, "", f"'builtin', the path of a {' or '.join(endings)} file, or one of {', '.join(every)}"
    )


def _nothing(source: str, where: str, expected: str) -> PotentialError:
    if Path(source).is_dir():
        why = ": that is a folder"
    elif Path(source).exists():
        why = ": that is no file, but a pipe, socket or device"
    else:
        why = ": no such file" if Path(source).suffix != "" or "/" in source else ""
    return PotentialError(
        f"no potential {source!r}{where}{why}",
        expected=expected,
        todo=f"check the spelling; the current folder is {Path.cwd()}",
    )


def _family_of_file(path: Path, known: Iterable[str]) -> str:
    """The family whose files end like this one; where none does, the only one that publishes potentials.

    Of the families that come with Surveyor only the built-in potential's may have files of any ending.
    """
    endings = {name: _suffixes(name) for name in known}
    claims = [name for name, own in endings.items() if path.name.endswith(own)]
    claims = claims or [name for name in known if _any_ending(name) and _names(name)] or list(endings)
    if len(claims) == 1:
        return claims[0]
    raise PotentialError(
        f"{path}: its ending does not tell which family of potentials it is of",
        expected="a file of " + ", ".join(f"{name} ({', '.join(endings[name])})" for name in claims),
        todo=f"name the family: {claims[0]}:{path}",
    )


def _any_ending(family: str) -> bool:
    return family == BUILTIN_FAMILY or not families()[family].value.startswith("surveyor.")


def _suffixes(family: str) -> tuple[str, ...]:
    """Endings of its files."""
    return _told(family, lambda opened: opened.suffixes)


def _names(family: str) -> tuple[str, ...]:
    """Published potentials that it knows."""
    return _told(family, lambda opened: opened.names())


def _told(family: str, what: Callable[[Family], Sequence[str]]) -> tuple[str, ...]:
    """Nothing where it, or its library, cannot be imported, which must not keep others from theirs."""
    try:
        return tuple(what(_loaded(family)))
    except Exception:  # whatever somebody else's package does
        return ()


def _loaded(family: str) -> Family:
    try:
        found: Family = families()[family].load()
    except (Exception, SystemExit) as error:
        raise _unimportable(family, error) from error
    return found


@contextlib.contextmanager
def _importing(family: str) -> Iterator[None]:
    """
    Raises:
        PotentialError: something that the family needs cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise _unimportable(family, error) from error


def _unimportable(family: str, error: BaseException) -> PotentialError:
    ours = families()[family].value.startswith("surveyor.potentials.")
    return PotentialError(
        f"the family {family!r} of potentials cannot be imported: {error}",
        expected=f"the packages that {families()[family].value} needs",
        todo=f"pip install 'surveyor[{family}]'"
        if ours
        else "install what is missing, or uninstall the package that announces the family",
    )
