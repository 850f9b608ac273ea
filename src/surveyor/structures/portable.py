"""Extended XYZ that reads back as what was written; what it cannot hold is left out by name.

ASE writes some values so that they read as another one (the text "001" as the number 1), or so that they
swallow the key beside them. No list of such values is complete, so every frame is written, read and compared.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io.extxyz import per_atom_properties, per_config_properties, read_xyz, write_xyz
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from surveyor.errors import StructureError
from surveyor.structures.identity import CHARGE_KEYS, MOMENTS, SPIN_KEYS

Part = tuple[str, Any]
"""What a frame holds beside its geometry: ("info", key), ("column", name) or FIXED."""

FIXED: Part = ("constraint", "FixAtoms")
_FRAME: Part = ("frame", "")
"""Stands for a fault that no single part can be blamed for."""

_FIRST = ("REF_energy", "REF_forces", "REF_stress", *CHARGE_KEYS, *SPIN_KEYS, *MOMENTS)

_HALF = 5.001e-9
"""Columns have eight decimals; what they round off is at most this."""


def frame_text(atoms: Atoms, where: str = "structure") -> tuple[str, dict[str, str]]:
    """A frame as extended XYZ, and what was left out of it.

    What is written reads back equal and of the same kind, columns to the eight decimals that the format has.
    Values of `info` that ASE would change are spelt as JSON where ASE then reads them right. Results of a
    calculator go out as keys and come back as results.

    Returns:
        text, and what was left out (`info 'key'`, `column 'name'`, `constraints`) → why.

    Raises:
        StructureError: not even the geometry reads back.
    """
    left: dict[str, str] = {}
    parts = _parts(atoms, left)
    text, wrong = _trip(atoms, parts)
    if not wrong:
        return text, left
    written = {} if _FRAME in wrong else {part: value for part, value in parts.items() if part not in wrong}
    text, others = _trip(atoms, written)
    if others:
        written = {}
        text, others = _trip(atoms, written)
    if others:
        raise StructureError(
            f"{where}: elements, positions or cell cannot be written: {next(iter(others.values()))}",
            expected="a geometry that survives extended xyz",
        )
    for part in sorted((part for part in parts if part not in written), key=_rank):
        reasons = []
        for value in _spellings(part, parts[part]):
            trial = {p: written.get(p, value) for p in parts if p in written or p == part}
            attempt, wrong = _trip(atoms, trial, meant=parts)
            if not wrong:
                text, written = attempt, trial
                break
            reasons.append(wrong.get(part) or next(iter(wrong.values())))
        else:
            left[_name(part)] = reasons[0]
    return text, left


def _name(part: Part) -> str:
    return f"{part[0]} {part[1]!r}"


def _rank(part: Part) -> bool:
    """Labels and what decides them come first: where two parts exclude each other, the other one goes."""
    return part[1] not in _FIRST


def _parts(atoms: Atoms, left: dict[str, str]) -> dict[Part, Any]:
    """Everything but the geometry; into `left`, what is known to have no place."""
    parts: dict[Part, Any] = {("info", key): value for key, value in atoms.info.items()}
    for name, value in atoms.arrays.items():
        if name not in ("numbers", "positions"):
            whole_moments = name in MOMENTS and value.dtype.kind in "iu"  # ASE reads them as floats
            parts["column", name] = value.astype(np.float64) if whole_moments else value
    for name, value in (getattr(atoms.calc, "results", None) or {}).items():
        if value is None or name not in (*per_config_properties, *per_atom_properties):
            continue
        part = ("info" if name in per_config_properties else "column", name)
        if part in parts and not _same(parts[part], value):
            left[f"{_name(part)} beside the calculator's"] = "both would stand under one key"
        parts[part] = value
    fixed = [c.index for c in atoms.constraints if isinstance(c, FixAtoms) and len(c.index)]
    if fixed:
        parts[FIXED] = np.unique(np.concatenate(fixed))
    if any(not isinstance(constraint, FixAtoms) for constraint in atoms.constraints):
        left["constraints"] = "it holds fixed atoms alone"
    return parts


def _spellings(part: Part, value: object) -> Iterator[object]:
    """How a part may be written: as ASE does it, or as JSON with the backslashes that its reader takes."""
    yield value
    if part[0] == "info":
        try:
            yield "_JSON " + json.dumps(_plain(value)).replace("\\", "\\\\")
        except (TypeError, ValueError, RecursionError):
            return


def _trip(
    atoms: Atoms, parts: Mapping[Part, Any], meant: Mapping[Part, Any] | None = None
) -> tuple[str, dict[Part, str]]:
    """Write and read the frame with these parts, of which `meant` must come back, or they as they are.

    Returns:
        text, and part → what is wrong with it; empty where everything came back.
    """
    unfit = {part: reason for part, value in parts.items() if (reason := _unfit(part, value))}
    if unfit:
        return "", unfit
    try:
        text = _text(atoms, parts)
        if not text.replace("\n", "").isprintable():
            return "", {_FRAME: "a character that breaks lines or cannot be seen"}
        back = next(read_xyz(io.StringIO(text), 0))
        return text, _differences(atoms, back, {part: (meant or parts)[part] for part in parts})
    except Exception as error:  # whatever the values make ASE raise, they cannot be written
        return "", {_FRAME: f"{type(error).__name__}: {error}"[:120]}


def _unfit(part: Part, value: object) -> str:
    """Why ASE would warn about the value and write the frame without it; empty where it would not."""
    if np.ma.is_masked(value):
        return "masked values"
    kind = value.dtype.kind if isinstance(value, np.ndarray | np.generic) else ""
    if part[0] != "info" or kind in tuple("iufb") or isinstance(value, str | int | float | None):
        return ""
    try:
        json.dumps(value.tolist() if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)[:120]
    return ""


def _text(atoms: Atoms, parts: Mapping[Part, Any]) -> str:
    frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for (kind, key), value in parts.items():
        if kind == "info":
            frame.info[key] = value
        elif kind == "column":
            frame.arrays[key] = value
        else:
            frame.set_constraint(FixAtoms(value))
    if np.shape(frame.info.get("stress")) == (6,):
        frame.info["stress"] = voigt_6_to_full_3x3_stress(frame.info["stress"])
    buffer = io.StringIO()
    write_xyz(buffer, frame, write_results=False)
    return buffer.getvalue()


def _differences(atoms: Atoms, back: Atoms, parts: Mapping[Part, Any]) -> dict[Part, str]:
    """Part → what became of it, for those that did not come back as they were."""
    same_geometry = (
        np.array_equal(back.numbers, atoms.numbers)
        and np.array_equal(back.pbc, atoms.pbc)
        and np.array_equal(back.cell.array, atoms.cell.array)
        and _close(back.positions, atoms.positions)
    )
    if not same_geometry:
        return {_FRAME: "the geometry would come back as another one"}
    found: dict[Part, Any] = {("info", key): value for key, value in back.info.items()}
    found |= {("column", k): v for k, v in back.arrays.items() if k not in ("numbers", "positions")}
    for name, value in (back.calc.results if back.calc else {}).items():
        found["info" if name in per_config_properties else "column", name] = value
    for constraint in back.constraints:
        found[FIXED] = constraint.index
    wrong: dict[Part, str] = {}
    for part, value in parts.items():
        if part not in found:
            wrong[part] = "it would be lost"
        elif not (_same_column if part[0] == "column" else _same)(value, found[part]):
            text = repr(_plain(found[part]))
            wrong[part] = f"it would come back as {text if len(text) <= 60 else text[:59] + '…'}"
    if not wrong and len(found) > len(parts):
        wrong[_FRAME] = f"{next(_name(part) for part in found if part not in parts)} would come of it"
    return wrong


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal to eight decimals; NaN and inf are equal to themselves."""
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= _HALF + 1e-15 * np.abs(b)
    return bool((near | (a == b) | (np.isnan(a) & np.isnan(b))).all())


def _same_column(value: NDArray[Any], found: NDArray[Any]) -> bool:
    if value.shape != found.shape:
        return False
    if value.dtype.kind == found.dtype.kind == "f":
        return _close(found, value.astype(np.float64))
    if value.dtype.kind in "UO":
        return all(isinstance(v, str) for v in value.flat) and value.tolist() == found.tolist()
    return value.dtype.kind == found.dtype.kind and bool((value == found).all())


def _same(value: Any, found: Any) -> bool:
    """Whether a value of `info` came back, of the same kind and shape.

    Lists and tuples come back as arrays where they hold numbers; stress comes back in Voigt order.
    """
    if isinstance(value, np.ndarray):
        if np.shape(found) == (6,) and value.shape == (3, 3):
            found = voigt_6_to_full_3x3_stress(found)
        kinds = {str(np.asarray(each).dtype.kind).replace("u", "i") for each in (value, found)}
        if np.shape(found) != value.shape or len(kinds) > 1:
            return False
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f":
        found = np.asarray(found).astype(value.dtype)  # ASE writes the shortest text of narrow floats
    return _equal(_plain(value), _plain(found))


def _plain(value: Any) -> Any:
    """Values as Python's own: arrays and tuples as lists, a list of whole numbers and others as floats."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        plain = [_plain(each) for each in value]
        return [float(v) for v in plain] if {type(v) for v in plain} == {int, float} else plain
    return value


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    if isinstance(a, float) and isinstance(b, float) and a != a:
        return b != b
    return type(a) is type(b) and bool(a == b)
