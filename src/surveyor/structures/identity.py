"""What a calculation depends on, and the content-hash ids made of it.

The same structure has the same name in every file and on every machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from surveyor.errors import StructureError, notice
from surveyor.types import Float64Array

ID_LENGTH = 32

CHARGE_KEYS = ("total_charge", "charge")
SPIN_KEYS = ("total_spin", "spin", "multiplicity", "spin_multiplicity")
"""Keys of `info` in the order in which they count; the first is the one that Surveyor writes."""

MOMENTS = ("initial_magmoms", "initial_charges")
"""Columns that calculators read besides the geometry."""

_LOOKALIKES = re.compile(
    r"(total|tot|net|molecular|mol|formal|system|overall)?(charge|chg|spin|multiplicity|mult)"
    r"|q|spin(multiplicity|mult)|2s1|n?(um)?elec(t|trons?)?|n?unpaired(electrons?)?|uhf|nupdown"
    r"|(total|tot|net)?(magmoms?|magneticmoments?|magneti[sz]ation)"
)
"""Names, without case and signs, under which charge or spin stand in files of others."""

_LARGEST_STATE = 2**31
_LARGEST_LENGTH = 2.0**25
"""Å; up to here doubles tell neighbouring multiples of 1e-8 Å apart."""


def stated_charge(atoms: Atoms, where: str = "structure") -> int | None:
    """Total charge in e, from the first of `CHARGE_KEYS` in `info`; None where none stands.

    Raises:
        StructureError: it is not a whole number.
    """
    return _stated(atoms, CHARGE_KEYS, where, "charge, a whole number of e", -_LARGEST_STATE)


def stated_spin(atoms: Atoms, where: str = "structure") -> int | None:
    """Spin multiplicity 2S+1, from the first of `SPIN_KEYS` in `info`; None where none stands.

    Raises:
        StructureError: it is not a whole number of 1 or more.
    """
    return _stated(atoms, SPIN_KEYS, where, "spin multiplicity 2S+1: 1, 2, 3, …", 1)


def total_charge(atoms: Atoms, where: str = "structure") -> int:
    """Total charge in e; 0 where none is stated. Raises as `stated_charge`."""
    return stated_charge(atoms, where) or 0


def total_spin(atoms: Atoms, where: str = "structure") -> int:
    """Spin multiplicity 2S+1; 1 where none is stated. Raises as `stated_spin`."""
    return stated_spin(atoms, where) or 1


def _stated(atoms: Atoms, keys: Sequence[str], where: str, meaning: str, least: int) -> int | None:
    key = next((key for key in keys if key in atoms.info), None)
    if key is None:
        return None
    number = _whole(atoms.info[key])
    if number is None or number < least:
        raise StructureError(
            f"{where}: info {key!r} is {_short(atoms.info[key])}",
            expected=f"the {meaning}",
            todo="correct it in the file; nothing is rounded or guessed",
        )
    return number


def _whole(value: object) -> int | None:
    """The whole number that a value is, however it was read; None where it is none."""
    if isinstance(value, np.ma.MaskedArray):
        return None
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    whole = isinstance(value, int) or value.is_integer()
    return int(value) if whole and abs(value) < _LARGEST_STATE else None


def _short(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def check_state(atoms: Atoms, where: str = "structure") -> None:
    """Refuse charge, spin or initial moments that cannot be; say once per file which keys are not read.

    Raises:
        StructureError: charge or multiplicity is no whole number, or initial moments are no finite numbers.
    """
    stated_charge(atoms, where), stated_spin(atoms, where)
    for name in MOMENTS:
        _moments(atoms, name, where)
    file = re.sub(r"\d+$", "", where)
    for keys in (CHARGE_KEYS, SPIN_KEYS):
        there = [key for key in keys if key in atoms.info]
        others = [key for key in there[1:] if _whole(atoms.info[key]) != _whole(atoms.info[there[0]])]
        if others:
            values = ", ".join(f"{key} = {_short(atoms.info[key])}" for key in [there[0], *others])
            notice(f"{where}: {values} in info; {there[0]} is taken", about=(file, *others))
    for key in atoms.info:
        if isinstance(key, str) and key not in CHARGE_KEYS + SPIN_KEYS and _LOOKALIKES.fullmatch(_plain(key)):
            notice(
                f"{where}: info {key!r} ({_short(atoms.info[key])}) is not read; charge and multiplicity are "
                f"read from {', '.join(CHARGE_KEYS)} and {', '.join(SPIN_KEYS)}",
                about=(file, key),
            )


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())


def with_state(atoms: Atoms) -> Atoms:
    """The structure with charge and spin under the keys that other programs read, where it states them."""
    lacking = {key: value for key, value in _state(atoms).items() if key not in atoms.info}
    if not lacking:
        return atoms
    named = atoms.copy()
    named.calc = atoms.calc
    named.info |= lacking
    return named


def _state(atoms: Atoms) -> dict[str, int]:
    state = {CHARGE_KEYS[0]: stated_charge(atoms), SPIN_KEYS[0]: stated_spin(atoms)}
    return {key: value for key, value in state.items() if value is not None}


def essential(atoms: Atoms) -> Atoms:
    """A bare copy with only what decides a calculation; it has the same id.

    Elements, positions, cell, periodicity, initial magnetic moments and charges where there are any, and
    `total_charge` and `total_spin` where they are stated, under whatever key.

    Raises:
        StructureError: charge, spin or moments cannot be.
    """
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in MOMENTS:
        values = _moments(atoms, name, "structure")
        if values is not None:
            bare.set_array(name, values)
    bare.info = dict(_state(atoms))
    return bare


def _moments(atoms: Atoms, name: str, where: str) -> Float64Array | None:
    """Initial moments or charges, (n_atoms,) or magnetic ones (n_atoms, 3); None where all are zero."""
    if name not in atoms.arrays:
        return None
    values = np.asarray(atoms.arrays[name])
    shapes: list[tuple[int, ...]] = [(len(atoms),)]
    if name == MOMENTS[0]:
        shapes.append((len(atoms), 3))
    if values.dtype.kind not in "iuf" or values.shape not in shapes or not np.isfinite(values).all():
        raise StructureError(
            f"{where}: column {name!r} of shape {values.shape} is {_short(values.tolist())}",
            expected=f"finite numbers of shape {' or '.join(map(str, shapes))}",
        )
    found = values.astype(np.float64)
    return found if _millionths(found, name, where).any() else None


def _millionths(values: ArrayLike, what: str, where: str) -> NDArray[np.int64]:
    """Values as whole 1e-6, through the 1e-8 at which extxyz files store them.

    Rounding in two integer steps makes the result the same before and after a trip through a file:
    rounding once to 1e-6 would let a value near a half flip when its eighth decimal is cut.
    """
    return (hundred_millionths(values, what, where) + 50) // 100


def hundred_millionths(
    values: ArrayLike, what: str = "a length", where: str = "structure"
) -> NDArray[np.int64]:
    """Values as whole 1e-8, rounded exactly as the format `%.8f` rounds them.

    x · 1e8 is off by up to half a unit in its last place. Only where that leaves open to which side x rounds
    is the text of the number asked.

    Raises:
        StructureError: NaN, inf, or too large to keep eight decimals.
    """
    values = np.asarray(values, dtype=np.float64)
    within = np.abs(values) < _LARGEST_LENGTH
    if not within.all():
        raise StructureError(
            f"{where}: {what} of {values[~within].flat[0]:g}",
            expected=f"finite numbers below {_LARGEST_LENGTH:.2g}",
        )
    scaled = values * 1e8
    whole = np.rint(scaled)
    unsure = np.abs(np.abs(scaled - whole) - 0.5) <= np.abs(scaled) * 2.0**-51
    for place in np.flatnonzero(unsure):
        whole.flat[place] = float(f"{values.flat[place]:.8f}".replace(".", ""))
    return whole.astype(np.int64)


def structure_id(atoms: Atoms, where: str = "structure") -> str:
    """Content hash of elements, positions (1e-6 Å), cell, pbc, charge, multiplicity and initial moments.

    The order of the atoms counts; labels, names and other `info` do not. The cell counts only along
    periodic directions, initial magnetic moments and charges only where one is not zero.

    Returns:
        32 hexadecimal digits.

    Raises:
        StructureError: a value that cannot be: NaN, a fraction of a charge, …
    """
    if not isinstance(atoms, Atoms):
        raise StructureError(f"{where}: {type(atoms).__name__}", expected="an ase.Atoms")
    pbc = np.asarray(atoms.pbc, dtype=bool)
    cell = np.where(pbc[:, None], np.asarray(atoms.cell.array), 0.0)
    digest = hashlib.sha256()
    for part in (
        np.asarray(atoms.numbers, dtype=np.int64),
        _millionths(atoms.positions, "a position", where),
        _millionths(cell, "a cell vector", where),
        pbc.astype(np.int64),
        np.array([total_charge(atoms, where), total_spin(atoms, where)], dtype=np.int64),
    ):
        digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        digest.update(b"|")
    for name in MOMENTS:
        values = _moments(atoms, name, where)
        if values is not None:
            digest.update(f"{name}{values.shape}".encode())
            digest.update(np.ascontiguousarray(_millionths(values, name, where), dtype="<i8").tobytes())
    return digest.hexdigest()[:ID_LENGTH]
