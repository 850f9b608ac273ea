"""Formats that ASE's readers open, and what they may not: follow a name, guess elements, run on for ever."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat

from surveyor.errors import Notice, StructureError, SurveyorError
from surveyor.structures.archives import DAMAGES, damage, empty, encoding_of, inner_name, open_bytes, packing
from surveyor.structures.xyz_rows import not_an_element

KNOWN = "extxyz, xyz, traj, db, cif, …"
PEEK = 50_000
FULL = 1e-3
"""How far the occupancy of a site may be from 1."""
MAX_ENDS = 10_000
"""Reads at the end of a file, one after the other, before a reader counts as lost."""

NAMES = "atoms have names and no elements; whether CA is calcium or a carbon is a guess"
TYPES = "atoms have types and no elements; a type is no atomic number"
_REFUSED = {
    "lammps-data": f"a LAMMPS data file: {TYPES}",
    "lammps-dump-binary": f"a binary LAMMPS dump: {TYPES}",
    "netcdftrajectory": f"a NetCDF trajectory: {TYPES}",
    "gromacs": f"a GROMACS file: {NAMES}",
    "gromos": f"a GROMOS file: {NAMES}",
    "postgresql": "the name of a database server",
    "mysql": "the name of a database server",
    "nwchem-in": "an input of NWChem, which ASE's reader can search without end",
    "onetep-in": "an input of ONETEP, which may name other files to read",
}
_SIGN = re.compile(r"[A-Z][a-z]?[0-9]{0,3}|[0-9]{1,3}|\?+")
"""What stands for an element in files, and as the key of an error where it is none."""
_DUMP = b"ITEM: TIMESTEP"
_DATA = (re.compile(rb"^\s*\d+\s+atoms\s*(#.*)?$", re.M), re.compile(rb"^\s*\d+\s+atom\s+types\b", re.M))


def is_dump(head: bytes) -> bool:
    """Whether a file that begins so is a text dump of LAMMPS."""
    return _DUMP in head


def read_foreign(path: Path) -> Iterator[tuple[str, Atoms]]:
    """ASE's name of the format, and a frame, of a file in any format that ASE reads, xyz aside.

    The file itself is read, whatever signs its name holds: ASE takes `@` and what follows for an index.

    Raises:
        StructureError: whatever the reader raised, as one message.
    """
    number = 0
    form = None
    try:
        with _plain(path) as plain:
            form = _format_of(plain, path)
            for atoms in _read(plain, form):
                if not isinstance(atoms, Atoms):
                    raise TypeError(f"a {type(atoms).__name__} in place of a structure")
                _check_occupied(atoms, f"{path.name}, frame {number}")
                yield form, atoms
                number += 1
    except (SurveyorError, Notice):
        raise
    except UnknownFileTypeError as error:
        raise StructureError(
            f"{path.name}: not a format that ASE knows ({error})",
            expected=KNOWN,
            todo="give the file the suffix of its format, or convert it to extxyz",
        ) from error
    except (*DAMAGES, UnicodeError, PermissionError, MemoryError) as error:
        raise damage(path, f"{path.name}, frame {number}", error) from error
    except Exception as error:
        raise _failed(error, form, f"{path.name}, frame {number}") from error


def _check_occupied(atoms: Atoms, where: str) -> None:
    """ASE's reader of CIF keeps one element of a site that several share, and fills what is partly empty."""
    sites = atoms.info.get("occupancy")
    for site in sites.values() if isinstance(sites, dict) else ():
        if isinstance(site, dict) and (len(site) > 1 or any(abs(float(x) - 1) > FULL for x in site.values())):
            shares = ", ".join(f"{symbol} {share:g}" for symbol, share in site.items())
            raise StructureError(
                f"{where}: a site of partial occupancy ({shares})",
                expected="one whole atom per site",
                todo="make an ordered structure of it, a supercell in which every site is one element",
            )


def _failed(error: Exception, form: str | None, where: str) -> StructureError:
    """What a reader of ASE raised, in words."""
    if isinstance(error, ImportError):
        return StructureError(
            f"{where}: ASE's reader of {form} needs a package that is not installed ({error})",
            expected="a format whose reader is installed",
            todo="install that package, or convert the file to extxyz",
        )
    if isinstance(error, KeyError) and _SIGN.fullmatch(sign := str(error.args[0] if error.args else "")):
        return not_an_element(sign, f"{where} (read as {form})")
    reason = " ".join(str(error).split())[:200]
    return StructureError(
        f"{where}: ASE could not read it as {form} ({type(error).__name__}{': ' if reason else ''}{reason})",
        expected="a whole, undamaged file in a format that ase.io.read opens",
        todo="check how the file was written, or convert it to extxyz",
    )


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """The file, or an unpacked copy in UTF-8 where it is compressed or begins with a byte order mark.

    Other formats than xyz seek freely in what they read.
    """
    with open_bytes(path) as stream:
        encoding = encoding_of(stream)
        if not packing(path) and encoding is None:
            yield path
            return
        with TemporaryDirectory(prefix="surveyor-") as folder:
            plain = Path(folder) / inner_name(path)
            if encoding is None:
                with plain.open("wb") as target:
                    shutil.copyfileobj(stream, target)
            else:
                with (
                    io.TextIOWrapper(stream, encoding=encoding, newline="") as text,
                    plain.open("w", encoding="utf-8", newline="") as converted,
                ):
                    shutil.copyfileobj(text, converted)
            yield plain


def _format_of(plain: Path, path: Path) -> str:
    """ASE's name of the format, by name and content.

    Raises:
        StructureError: nothing is in the file, or its atoms have types and no elements.
    """
    with plain.open("rb") as file:
        head = file.read(PEEK)
    if not head:
        raise empty(path)
    if is_dump(head):
        _check_dump(plain, path)
        return "lammps-dump-text"
    form = "lammps-data" if all(part.search(head) for part in _DATA) else str(filetype(str(plain.absolute())))
    if form == "proteindatabank":
        _check_pdb(plain, path)
    if form in _REFUSED:
        raise StructureError(
            f"{path.name} is {_REFUSED[form]}",
            expected=f"a file of structures that names the element of every atom ({KNOWN})",
            todo="convert it to extxyz, with the elements",
        )
    return form


def _check_pdb(plain: Path, path: Path) -> None:
    """Raise StructureError unless every atom of a PDB file names its element, in columns 77 and 78."""
    with plain.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(2**20), b""), 1):
            if line.startswith((b"ATOM", b"HETATM")) and not line[76:78].strip():
                name = line[12:16].decode("ascii", "replace").strip()
                raise StructureError(
                    f"{path.name}, line {number}: {NAMES} (the atom {name!r})",
                    expected="the symbol of the element in columns 77 and 78",
                    todo="write the elements into the file, or convert it to extxyz",
                )


def _check_dump(plain: Path, path: Path) -> None:
    """Raise StructureError unless every frame of a LAMMPS dump names the elements."""
    number = 0
    with plain.open("rb") as file:
        for line in iter(lambda: file.readline(2**20), b""):
            if line.startswith(b"ITEM: ATOMS"):
                if b"element" not in line.split():
                    columns = line.decode("ascii", "replace").split()[2:]
                    raise StructureError(
                        f"{path.name}, frame {number}: a LAMMPS dump whose {TYPES} "
                        f"(columns: {' '.join(columns)[:200]})",
                        expected="a column `element`",
                        todo="dump id element x y z, with dump_modify element; or convert it to extxyz",
                    )
                number += 1


def _read(plain: Path, form: str) -> Iterator[Any]:
    how = get_ioformat(form)
    if not how.can_read:
        raise UnknownFileTypeError(f"{form} can be written only")
    if not how.acceptsfd:
        yield from iread(str(plain.absolute()), index=":", format=form, do_not_split_by_at_sign=True)
    elif how.isbinary:
        with plain.open("rb") as binary:
            yield from iread(cast(Any, binary), index=":", format=form)
    else:
        with _Ending(plain.open("rb"), encoding="utf-8") as text:
            yield from iread(cast(Any, text), index=":", format=form)


class _Ending(io.TextIOWrapper):
    """A text file whose end is an error for readers that would go on reading there."""

    _ends = 0

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        line = super().readline(size)
        self._ends = 0 if line else self._ends + 1
        if self._ends > MAX_ENDS:
            raise EOFError("the file ends, and more was announced")
        return line
