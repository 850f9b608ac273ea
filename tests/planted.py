"""Odd files beside results: whatever one can leave in a folder, for fault injection."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np

Rng = np.random.Generator


class Marks:
    """Unpickled, it leaves a mark: nobody may do that."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.mark), "w")


FRAME = "2\nProperties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy={energy}\n{row}\nH 0 0 0.74 0 0 0\n"
VASP = "<?xml version='1.0'?><modeling><generator><i name='program' type='string'>vasp </i></generator>"
NAMES = ("OUTCAR", "vasprun.xml", "POSCAR", "CONTCAR", "gradient", "coord", "xyz.in", "HISTORY", "CONFIG")
SUFFIXES = (
    "out",
    "log",
    "xml",
    "xyz",
    "extxyz",
    "traj",
    "db",
    "json",
    "cif",
    "gpw",
    "nc",
    "cube",
    "pdb",
    "castep",
    "cell",
    "geom",
    "md",
    "in",
    "dat",
    "res",
    "sdf",
    "mol",
    "xsf",
    "lammpstrj",
    "dump",
    "cfg",
    "gen",
    "xsd",
    "cjson",
    "magres",
    "f34",
    "con",
    "gro",
    "g96",
    "arc",
    "car",
    "history",
    "bin",
    "dcd",
    "restart",
    "pwo",
    "nwo",
    "txt",
    "zip",
    "npz",
)
HEADS = (
    b"                         * O   R   C   A *\n",
    b" Entering Gaussian System, Link 0=g16\n",
    b"   Program PWSCF v.7\n",
    b" Invoking FHI-aims ...\n",
    b" Northwest Computational Chemistry Package (NWChem) 7.0\n",
    b"- of UlmASE-Trajectory",
    b"CDF\x01",
    b"SQLite format 3\0",
    b"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n9\n",
    b"$grad\n",
    b"$coord\n",
    b" vasp.6.3.0\n POTCAR: PAW\n",
    b"loop_\n_atom_site_label\n",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\xfd7zXZ\0",
    b"",
    b"\0",
    b"<?xml version='1.0'?><modeling>",
    b"{",
    b"[",
    b"---\n",
    b"\xff\xfe",
    b"\xef\xbb\xbf3\n\n",
    b"&system\n",
    b"GAMESS\n",
)


def plant(folder: Path, rng: Rng, n: int) -> list[Path]:
    """Write n odd things into the folder, some of them in folders of their own.

    Returns:
        Their paths; `folder.parent / "EXECUTED"` appears if one of them is executed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds: tuple[Callable[[Path, Rng], Path], ...] = (
        _head,
        _head,
        _noise,
        _frame,
        _frame,
        _number,
        _bomb,
        _special,
        _pickle,
        _nested,
        _named,
        _link,
        _packed,
    )
    paths = []
    for number in range(n):
        place = folder / f"p{number:03d}"
        place.mkdir()
        paths.append(kinds[number % len(kinds)](place, rng))
    return paths


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _any_name(rng: Rng) -> str:
    return str(rng.choice([*NAMES, *(f"job.{suffix}" for suffix in SUFFIXES)]))


def _head(place: Path, rng: Rng) -> Path:
    """The first line of a program's output, and nothing or noise after it."""
    head = HEADS[rng.integers(len(HEADS))]
    return _write(place / _any_name(rng), head + rng.bytes(int(rng.integers(0, 200)) * int(rng.integers(2))))


def _noise(place: Path, rng: Rng) -> Path:
    return _write(place / _any_name(rng), rng.bytes(int(rng.integers(0, 5000))))


def _frame(place: Path, rng: Rng) -> Path:
    """Extended xyz, almost."""
    texts = (
        "3\n\nH 0 0 0\n",
        "-1\n\n",
        "0\n\n",
        "99999999999999\n\nH 0 0 0\n",
        "1e3\n\n",
        "2\n",
        "\n" * 500,
        '2\nLattice="a b c"\nH 0 0 0\nH 0 0 1\n',
        "2\nProperties=species:S:1:pos:R:30\nH 0 0 0\nH 0 0 1\n",
        "2\nProperties=\nH 0 0 0\nH 0 0 1\n",
        "1\nenergy=\nXx 0 0 0\n",
        "2\npbc=maybe energy=1\nH 0 0 0\nH 0 0 nan\n",
        "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1\nH 0 0 0 0 0 0\nH 0 0 1 0 0\n",
        "1\n" + "a" * 100_000 + "\nH 0 0 0\n",
        '1\nx="' + "\\" * 99 + "\nH 0 0 0\n",
        "1\n_JSON {\nH 0 0 0\n",
    )
    return _write(place / f"a.{rng.choice(['xyz', 'extxyz'])}", str(rng.choice(texts)).encode())


def _number(place: Path, rng: Rng) -> Path:
    """A whole frame whose numbers are none."""
    bad = str(
        rng.choice(["********", "nan", "inf", "1,234.5", "T", "", "1.0D", "(1,2)", "[1, 2]", "1+2j", "0x1p3"])
    )
    row = f"H 0 0 0 {bad or '*'} 0 0" if rng.integers(2) else "H 0 0 0 0 0 0"
    return _write(place / "a.extxyz", FRAME.format(energy=bad or '""', row=row).encode())


def _bomb(place: Path, rng: Rng) -> Path:
    """Small files that become large ones."""
    kind = int(rng.integers(5))
    if kind == 0:
        entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 20}">' for i in range(1, 9))
        text = f'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a0 "ha">{entities}]><modeling>&a8;</modeling>'
        return _write(place / "vasprun.xml", text.encode())
    if kind == 1:
        with lzma.open(place / "a.xyz.xz", "wb") as file:
            for _ in range(16):
                file.write(b"\0" * 2**20)
        return place / "a.xyz.xz"
    if kind == 2:
        return _write(place / "a.json", b"[" * 100_000)
    if kind == 3:
        with (place / "OUTCAR").open("wb") as file:
            file.truncate(2**33)  # a hole
        return place / "OUTCAR"
    return _write(place / "a.xyz.gz", gzip.compress(b"9" * 2**20 + b"\n"))


def _special(place: Path, rng: Rng) -> Path:
    """What is no file."""
    path = place / "a.xyz"
    kind = int(rng.integers(4))
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        here = Path.cwd()
        os.chdir(place)  # the path of a socket may not be long
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind("a.xyz")
        finally:
            os.chdir(here)
    elif kind == 2:
        path.symlink_to("/dev/zero")
    else:
        _write(path, b"1\n\nH 0 0 0\n").chmod(0)
    return path


def _pickle(place: Path, rng: Rng) -> Path:
    mark = place.parents[1] / "EXECUTED"
    name = str(
        rng.choice(
            ["a.pckl", "b.traj", "c.pkl", "d.model", "e.json", "f.xyz", "g.npy", "h.gpw", "i.db", "j.py"]
        )
    )
    if name.endswith(".py"):
        return _write(place / name, f"open({str(mark)!r}, 'w')\n".encode())
    return _write(place / name, pickle.dumps(Marks(mark)))


def _nested(place: Path, rng: Rng) -> Path:
    """JSON that means something else, or too much."""
    contents = (
        {"1": {"numbers": [1], "positions": "x"}, "ids": [1], "nextid": 2},
        {"ids": [1] * 10, "nextid": -1},
        {"1": 5},
        [],
        1,
        {"__ase_objtype__": "atoms"},
        {"__ndarray__": [[10**9, 10**9], "float64", []]},
        {"ids": [10**30]},
        {"run": {}},
    )
    return _write(place / "a.json", json.dumps(contents[rng.integers(len(contents))]).encode())


def _named(place: Path, rng: Rng) -> Path:
    """Names that need care."""
    names = (
        b"\xff\xfe.xyz",
        b"a\nb.xyz",
        b"[red]a.xyz",
        b"a@0.traj",
        b"a@-1:.xyz",
        b"postgresql:x.db",
        b"-rf.xyz",
        b" .xyz",
        b"\x1b[31m.out",
        b"mysql:.json",
        b"*.xyz",
        "é".encode() + b".cif",
        b"a" * 250,
        b"%s.xyz",
        b"{}.out",
    )
    path = place / os.fsdecode(names[rng.integers(len(names))])
    return _write(path, bytes(rng.choice([b"", b"x", b"2\n\nH 0 0 0\n"])))


def _link(place: Path, rng: Rng) -> Path:
    """Links in circles, into nothing and out of the folder."""
    path = place / "a"
    path.symlink_to(
        [place, place.parent, Path("a"), Path("nothing.xyz"), Path("/"), Path("/proc/self/mem")][
            rng.integers(6)
        ]
    )
    return path


def _packed(place: Path, rng: Rng) -> Path:
    """Compressed, or called so."""
    inner = FRAME.format(energy=-1.0, row="H 0 0 0 0 0 0").encode() * 50
    whole = gzip.compress(inner)
    content = [whole[: len(whole) // 2], inner, whole[:10], gzip.compress(b""), whole + b"tail"][
        rng.integers(5)
    ]
    return _write(
        place / f"a.{rng.choice(['xyz.gz', 'extxyz.gz', 'out.gz', 'xyz.xz', 'xyz.bz2', 'cif.gz'])}", content
    )
