"""Input files and command lines of an external program, filled in for one structure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ase import Atoms
from ase.io import write
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from surveyor.errors import LabellingError
from surveyor.structures.identity import structure_id

# Input files of quantum chemistry, not HTML: nothing is to be escaped.
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
)


def variables(atoms: Atoms, charge: int, multiplicity: int) -> dict[str, Any]:
    """What a template may use.

    | name         | meaning                                                   | unit |
    |--------------|-----------------------------------------------------------|------|
    | coordinates  | a line `El x y z` an atom, ten decimals                   | Å    |
    | xyz          | a whole plain xyz file                                    | Å    |
    | extxyz       | a whole extended xyz file, with cell and pbc              | Å    |
    | charge       | total charge                                              | e    |
    | multiplicity | 2S+1                                                      |      |
    | unpaired     | 2S, the number of unpaired electrons                      |      |
    | n_atoms      |                                                           |      |
    | elements     | the different symbols, in order of appearance             |      |
    | symbols, numbers | one an atom                                           |      |
    | positions    | (n_atoms, 3)                                              | Å    |
    | cell         | (3, 3), one vector a row                                  | Å    |
    | pbc          | three booleans                                            |      |
    | id           | content hash of the structure                             |      |
    """
    symbols = list(atoms.symbols)
    rows = [
        f"{symbol:<2} {x:16.10f} {y:16.10f} {z:16.10f}"
        for symbol, (x, y, z) in zip(symbols, atoms.positions.tolist(), strict=True)
    ]
    coordinates = "\n".join(rows)
    name = structure_id(atoms)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    extended = io.StringIO()
    write(extended, bare, format="extxyz")
    return {
        "coordinates": coordinates,
        "xyz": f"{len(atoms)}\n{name}\n{coordinates}\n",
        "extxyz": extended.getvalue(),
        "charge": charge,
        "multiplicity": multiplicity,
        "unpaired": multiplicity - 1,
        "n_atoms": len(atoms),
        "elements": list(dict.fromkeys(symbols)),
        "symbols": symbols,
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "id": name,
    }


def render(template: str, values: Mapping[str, Any], what: str) -> str:
    """A template with its values.

    Args:
        what: which template, for the message.

    Raises:
        LabellingError: the template is malformed, or uses a name that there is not.
    """
    try:
        return _ENVIRONMENT.from_string(template).render(values)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise LabellingError(
            f"the template of {what}: {error}",
            expected="names in double braces: " + ", ".join("{{ " + name + " }}" for name in values),
            todo="correct the template; a literal {{ is written {{ '{{' }}",
        ) from error
