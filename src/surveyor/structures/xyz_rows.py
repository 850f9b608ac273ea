"""Does the comment line of an xyz frame describe its rows, and do these name elements?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict

from surveyor.errors import StructureError, notice

ISOTOPES = ("D", "T")

_SETTING = r"(?:^|\s){}\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|\{{([^}}]*)\}}|\[([^\]]*)\]|(\S+))"
_PROPERTIES = re.compile(_SETTING.format("Properties"))
_PBC = re.compile(_SETTING.format("pbc"))
_CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}
_SYMBOLS = ("species", "symbols")
_NUMBERS = ("Z", "numbers")
_TRUTH = {"T", "F", "true", "false", "True", "False", "TRUE", "FALSE", "0", "1"}


def check_rows(lines: list[str], where: str) -> None:
    """Raise StructureError if the comment line does not describe the rows; ASE drops what is left over."""
    comment, n_atoms = lines[1], int(lines[0])
    rows = lines[2 : 2 + n_atoms]
    _check_closed(comment, where)
    if len(lines) > len(rows) + 2:  # cell vectors after the atoms: the comment is only that
        return
    if "pbc" in comment:
        _check_pbc(comment, where)
    text = properties_text(comment)
    if text is None:
        return
    try:
        columns = columns_of(text)
    except ValueError as error:
        raise StructureError(
            f"{where}: Properties {text[:200]!r}: {error}",
            expected="NAME:TYPE:COLUMNS for every property, TYPE one of S, R, I, L, and no colon in NAME; "
            "species:S:1 (or Z:I:1) and pos:R:3 among them",
            todo="correct Properties, or rename the property, in the program that wrote the file",
        ) from None
    _check_numbers(columns, rows, where)
    width = sum(count for _, _, count in columns)
    if sum(len(row.split()) for row in rows) == width * n_atoms:
        return
    bad = next((i for i, row in enumerate(rows) if len(row.split()) != width), 0)
    raise StructureError(
        f"{where}, atom {bad}: a row of {len(rows[bad].split())} columns, but Properties {text[:200]!r} "
        f"describes {width}",
        expected="rows that Properties describes",
        todo="correct Properties or the rows (an empty text or a blank in a column?)",
    )


def _check_closed(comment: str, where: str) -> None:
    """ASE takes all behind an opened quote or bracket for one text: a charge there would be lost."""
    close, opened, escaped = "", 0, False
    for place, char in enumerate(comment):
        if escaped or char == "\\":
            escaped = not escaped
        elif close:
            close = "" if char == close else close
        elif char in _CLOSING:
            close, opened = _CLOSING[char], place
    swallowed = re.findall(r"([^\s=]+)\s*=", comment[opened + 1 :]) if close else []
    if swallowed:
        raise StructureError(
            f"{where}: {comment[opened]} is opened in the comment line and not closed; "
            f"it swallows {', '.join(swallowed)[:200]}",
            expected=f"a {close} behind the text that it belongs to",
            todo="correct the comment line",
        )


def _check_numbers(columns: tuple[tuple[str, str, int], ...], rows: list[str], where: str) -> None:
    """ASE takes the atomic numbers where a row names its element twice."""
    starts = dict(zip((name for name, _, _ in columns), _starts(columns), strict=True))
    symbol = next((starts[name] for name in _SYMBOLS if name in starts), None)
    number = next((starts[name] for name in _NUMBERS if name in starts), None)
    if symbol is None or number is None:
        return
    for atom, row in enumerate(row.split() for row in rows):
        if max(symbol, number) >= len(row) or not row[number].isdigit():
            return  # refused for another reason
        named = "H" if row[symbol].capitalize() in ISOTOPES else row[symbol].capitalize()
        if named in atomic_numbers and atomic_numbers[named] != int(row[number]):
            raise StructureError(
                f"{where}, atom {atom}: the symbol {row[symbol]} and the atomic number {row[number]} are of "
                "different elements",
                expected="one element per atom",
                todo="correct the row, or take one of the two columns out",
            )


def _starts(columns: tuple[tuple[str, str, int], ...]) -> list[int]:
    return [sum(count for _, _, count in columns[:i]) for i in range(len(columns))]


def _setting(pattern: re.Pattern[str], comment: str, key: str) -> str | None:
    """What stands under a key of a comment line; None where it is not there, or only within another text."""
    found = pattern.search(comment)
    if found is None:
        return None
    text = next(group for group in found.groups() if group is not None)
    if '"' in comment[: found.start()] or "'" in comment[: found.start()]:
        try:
            if key not in key_val_str_to_dict(comment):
                return None
        except Exception:
            return text
    return text


def properties_text(comment: str) -> str | None:
    return _setting(_PROPERTIES, comment, "Properties")


def _check_pbc(comment: str, where: str) -> None:
    """ASE takes any text that it does not know for periodic."""
    text = _setting(_PBC, comment, "pbc")
    parts = None if text is None else re.findall(r"[^\s,]+", text)
    if parts is not None and not (len(parts) in (1, 3) and set(parts) <= _TRUTH):
        raise StructureError(
            f"{where}: pbc={text!r}",
            expected='three of T and F, such as pbc="T T F"',
            todo="correct the comment line",
        )


@lru_cache(maxsize=256)
def columns_of(properties: str) -> tuple[tuple[str, str, int], ...]:
    """(name, type, number of columns) of each property.

    Raises:
        ValueError: the text does not say so.
    """
    fields = properties.split(":")
    found: list[tuple[str, str, int]] = []
    for start in range(0, len(fields), 3):
        part = fields[start : start + 3]
        text = ":".join(part)
        if (
            len(part) < 3
            or part[1] not in ("S", "R", "I", "L")
            or not re.fullmatch(r"[1-9][0-9]{0,8}", part[2])
        ):
            rest = ":".join(fields[start:])
            raise ValueError(
                f"{text!r} is not NAME:TYPE:COLUMNS (a colon in the name of a property? {rest[:80]!r})"
            )
        found.append((part[0], part[1], int(part[2])))
    names = [name for name, _, _ in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{repeated[0]!r} stands there twice")
    if not {("pos", 3), ("positions", 3)} & {(name, count) for name, _, count in found}:
        raise ValueError("there is no pos:R:3")
    elements = {(name, "S", 1) for name in _SYMBOLS} | {(name, "I", 1) for name in _NUMBERS}
    if not elements & set(found):
        raise ValueError("there is no species:S:1")
    for name, kind, count in found:
        if name in _SYMBOLS + _NUMBERS and (name, kind, count) not in elements:
            raise ValueError(f"'{name}:{kind}:{count}' is no column of elements")
    return tuple(found)


def with_elements(lines: list[str], path: Path, where: str) -> Sequence[str]:
    """The frame with D and T as H, where there are any.

    Raises:
        StructureError: a symbol is that of no element.
    """
    text = properties_text(lines[1])
    column = 0
    if text is not None:
        for name, kind, count in columns_of(text):
            if name in _SYMBOLS and kind == "S":
                break
            column += count
        else:
            return lines
    changed = list(lines)
    isotopes = set()
    for atom in range(int(lines[0])):
        row = lines[2 + atom].split()
        if len(row) <= column:
            continue
        symbol = row[column]
        if symbol.capitalize() in ISOTOPES:
            isotopes.add(symbol.capitalize())
            row[column] = "H"
            changed[2 + atom] = " ".join(row) + "\n"
        elif symbol.capitalize() not in atomic_numbers:
            raise not_an_element(symbol, f"{where}, atom {atom}")
    if isotopes:
        notice(f"{path.name}: {' and '.join(sorted(isotopes))} (isotopes of hydrogen) are read as H")
    return changed


def not_an_element(symbol: str, where: str) -> StructureError:
    """The error about a sign that stands where a chemical symbol should."""
    bare = symbol.strip("()[]^0123456789-+")
    if bare.capitalize() in ISOTOPES or re.fullmatch(r"\W?[0-9]+\W?[A-Z][a-z]?\W?", symbol):
        why, todo = "an isotope?", f"write the symbol of the element, {_element(bare)}"
    elif symbol.isdigit():
        why = "a number may be an atomic number or a type of LAMMPS"
        todo = "write the symbols; atomic numbers go under Z:I:1 in Properties"
    elif re.fullmatch(r"[A-Za-z]{1,2}[0-9]+.*", symbol):
        why, todo = "a numbered or labelled name", "write the bare symbol, C for C1"
    else:
        why, todo = "a dummy or ghost atom, or a name?", "take dummy and ghost atoms out, or write the symbol"
    return StructureError(
        f"{where}: {symbol[:40]!r} is no element's symbol ({why})",
        expected="chemical symbols H to Og (in xyz D and T are read as H)",
        todo=todo,
    )


def _element(symbol: str) -> str:
    return "H for D, T and 2H" if symbol.capitalize() in (*ISOTOPES, "H") else symbol
