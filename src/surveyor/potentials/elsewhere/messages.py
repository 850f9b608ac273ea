"""Messages between two processes: a JSON header of bounded size, then the bytes of arrays; no pickles.

4 bytes   b"SVYR"
4 bytes   length of the header, little-endian
header    JSON: `said`, and `arrays`, the name, type and shape of each
bytes     of the arrays, one after the other, in C order, little-endian
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from surveyor.errors import PotentialError
from surveyor.structures.identity import CHARGE_KEYS, SPIN_KEYS, total_charge, total_spin

MAGIC = b"SVYR"
HEADER_LIMIT = 2**20
ARRAYS_LIMIT = 2**32
"""Bytes of one message's header, and of its arrays."""
TYPES = ("<f8", "<f4", "<i8")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Message:
    """What one process says to the other.

    | field  | meaning                                  |
    |--------|------------------------------------------|
    | said   | anything that JSON can say               |
    | arrays | by name; float64, float32 or integers    |
    """

    said: Mapping[str, Any]
    arrays: Arrays = field(default_factory=dict)


def write(stream: BinaryIO, message: Message) -> None:
    """Write a message and flush.

    Raises:
        PotentialError: it is larger than a message may be.
    """
    arrays = {name: _plain(array) for name, array in message.arrays.items()}
    shapes = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"said": message.said, "arrays": shapes}).encode()
    _check("header", len(header), HEADER_LIMIT)
    _check("arrays", sum(array.nbytes for array in arrays.values()), ARRAYS_LIMIT)
    stream.write(MAGIC + len(header).to_bytes(4, "little") + header)
    for array in arrays.values():
        stream.write(array.data)
    stream.flush()


def read(stream: BinaryIO) -> Message | None:
    """The next message; None at the end of the stream.

    Raises:
        PotentialError: what comes is no message, or ends in the middle of one.
    """
    start = stream.read(8)
    if not start:
        return None
    if len(start) < 8 or start[:4] != MAGIC:
        raise PotentialError(f"{start!r} between two processes", expected=f"a message that begins {MAGIC!r}")
    length = int.from_bytes(start[4:], "little")
    _check("header", length, HEADER_LIMIT)
    try:
        header = json.loads(_exactly(stream, length))
        said, shapes = dict(header["said"]), [(str(n), str(t), tuple(s)) for n, t, s in header["arrays"]]
        sizes = [math.prod(shape) for _, _, shape in shapes]
        if not all(t in TYPES for _, t, _ in shapes) or not all(isinstance(n, int) and n >= 0 for n in sizes):
            raise ValueError(f"arrays {shapes}")
    except (ValueError, TypeError, KeyError) as error:
        raise PotentialError(f"the header of a message is damaged: {error}") from error
    _check("arrays", sum(n * int(t[2:]) for n, (_, t, _) in zip(sizes, shapes, strict=True)), ARRAYS_LIMIT)
    arrays = {
        name: np.frombuffer(_exactly(stream, size * int(kind[2:])), kind).reshape(shape)
        for size, (name, kind, shape) in zip(sizes, shapes, strict=True)
    }
    return Message(said, arrays)


def packed(structures: Sequence[Atoms]) -> dict[str, NDArray[Any]]:
    """Structures as arrays: all that a potential may depend on."""
    return {
        "counts": np.array([len(atoms) for atoms in structures], dtype=np.int64),
        "numbers": np.concatenate([np.zeros(0), *(atoms.numbers for atoms in structures)]).astype(np.int64),
        "positions": np.concatenate([np.zeros((0, 3)), *(atoms.positions for atoms in structures)]),
        "cells": np.array([atoms.cell.array for atoms in structures]).reshape(-1, 3, 3),
        "pbc": np.array([atoms.pbc for atoms in structures], dtype=np.int64).reshape(-1, 3),
        "charges": np.array([total_charge(atoms) for atoms in structures], dtype=np.int64),
        "spins": np.array([total_spin(atoms) for atoms in structures], dtype=np.int64),
    }


def unpacked(arrays: Arrays) -> list[Atoms]:
    """The structures that `packed` was given."""
    found = []
    for number, (stop, count) in enumerate(zip(np.cumsum(arrays["counts"]), arrays["counts"], strict=True)):
        atoms = Atoms(
            arrays["numbers"][stop - count : stop],
            arrays["positions"][stop - count : stop],
            cell=arrays["cells"][number],
            pbc=arrays["pbc"][number] != 0,
        )
        atoms.info[CHARGE_KEYS[0]] = int(arrays["charges"][number])
        atoms.info[SPIN_KEYS[0]] = int(arrays["spins"][number])
        found.append(atoms)
    return found


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    kind = "<i8" if array.dtype.kind in "iu" else "<f4" if array.dtype == np.float32 else "<f8"
    return np.ascontiguousarray(array, dtype=kind)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise PotentialError(f"a message ends after {len(found)} bytes", expected=f"{size}")
    return found


def _check(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise PotentialError(f"{what} of a message of {size} bytes", expected=f"{limit} or less")
