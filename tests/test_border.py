"""The border: whatever a file of structures holds, it is read or refused in words, and soon."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule

from surveyor.errors import Notice, StructureError, SurveyorError
from surveyor.structures import (
    archives,
    count_structures,
    read_structures,
    structure_id,
    validate,
    xyz,
)
from surveyor.structures.comparison import compare
from surveyor.structures.copies import copies_left_out, near_copies

WATER = "3\n{}\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


def refused(path: Path, match: str) -> None:
    with pytest.raises(StructureError, match=match):
        list(read_structures(path))


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# ---- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["run@3.traj", "a@:2.extxyz", "[x].traj", "p*.cif", "50%.db", "-", "postgres pool.xyz", "a b@1.xyz.gz"],
)
def test_the_named_file_is_read_and_never_its_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for neighbour in ("run", "a", "x.traj", "pool.cif", "a b"):
        ase.io.write(neighbour, molecule("H2O"), format="extxyz")
    plain = Path("safe").with_suffix("" if name == "-" else Path(name.removesuffix(".gz")).suffix)
    carbon_monoxide = molecule("CO", vacuum=3.0)
    ase.io.write(plain, [carbon_monoxide] * 2, format=None if plain.suffix else "extxyz")
    content = plain.read_bytes()
    put(Path(name), gzip.compress(content) if name.endswith(".gz") else content)
    assert [sorted(atoms.symbols) for atoms in read_structures(name)] == [["C", "O"]] * 2


def test_pipes_sockets_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.xyz")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.xyz"))
        refused(tmp_path / "s.xyz", "is a socket")
    refused(tmp_path / "pipe.xyz", "is a pipe")
    refused(Path("/dev/zero"), "is a device")
    refused(tmp_path, "is a folder")
    refused(tmp_path / ("x" * 300), "cannot be read: File name too long")
    with pytest.raises(StructureError, match="is a pipe"):
        count_structures(tmp_path / "pipe.xyz")


# ---- encodings and archives ---------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_text_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str, suffix: str) -> None:
    text = WATER.format('name="Grüße" pbc="F F F"').encode(encoding)
    path = put(tmp_path / f"a.xyz{suffix}", gzip.compress(text) if suffix else text)
    assert [atoms.info["name"] for atoms in read_structures(path)] == ["Grüße"]
    cell = put(tmp_path / "a.gen", ("2 C\nC O\n1 1 0 0 0\n2 2 0 0 1.2\n").encode(encoding))
    assert [str(atoms.symbols) for atoms in read_structures(cell)] == ["CO"]


def test_other_encodings_are_named_with_the_way_to_convert_them(tmp_path: Path) -> None:
    latin = WATER.format("") + WATER.format('who="José"')
    refused(
        put(tmp_path / "a.xyz", latin.encode("latin-1")), "line 7: byte 0xe9 is not UTF-8[^§]*iconv -f latin1"
    )
    refused(
        put(tmp_path / "b.xyz", WATER.format("x").encode("utf-16-le")), "UTF-16 without a byte order mark"
    )
    refused(put(tmp_path / "c.gen", "2 C\nC O # é\n".encode("latin-1")), "line 2: byte 0xe9")


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
@pytest.mark.parametrize("inner", ["a.xyz", "a.gen"])
def test_false_and_cut_archives(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes], inner: str
) -> None:
    content = (WATER.format("") * 300).encode() if inner == "a.xyz" else b"2 C\nC O\n1 1 0 0 0\n2 2 0 0 1.2\n"
    packed = pack(content)
    refused(put(tmp_path / f"half-{inner}{suffix}", packed[: len(packed) // 2]), "damaged or cut short")
    refused(put(tmp_path / f"tail-{inner}{suffix}", packed[:-5]), "damaged or cut short")
    refused(put(tmp_path / f"plain-{inner}{suffix}", content), f"named {suffix}, but its content is not")
    refused(put(tmp_path / inner, packed), "is compressed with")
    refused(put(tmp_path / f"twice-{inner}{suffix}", pack(packed)), "twice")
    whole = put(tmp_path / f"whole-{inner}{suffix}", packed)
    assert len(list(read_structures(whole))) == (300 if inner == "a.xyz" else 1)


def test_archives_that_are_not_unpacked_and_pickles_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xyz", "w") as archive:
        archive.writestr("a.xyz", WATER)
    refused(tmp_path / "a.xyz", "is a zip archive[^§]*unpack it first")
    refused(put(tmp_path / "a.xyz.zst", b"\x28\xb5\x2f\xfd0000"), "compressed with zstd")

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    import pickle

    for name in ("a.traj", "b.pkl", "c.json", "d.db", "e.bundle", "f"):
        for protocol in (0, 2, 4):
            path = put(tmp_path / name, pickle.dumps(Trap(), protocol))
            refused(path, "pickle|format|read")
    assert not (tmp_path / "sprung").exists()


def test_bombs_end_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE", 2**21)
    monkeypatch.setattr(xyz, "MAX_LINE", 2**20)
    for name, content, match in (
        ("zeros.xyz.gz", b"0" * 2**22, "a line of more than"),
        ("blank.xyz.gz", b"\n" * 2**22, "blank lines"),
        ("frames.gen.gz", b"1 C\n" * 2**20, "unpacks to more than"),
        ("frame.xyz.xz", b"9999999\n" + b"H 0 0 0\n" * 2**19, "unpacks to more than"),
    ):
        pack = lzma.compress if name.endswith("xz") and not name.endswith("gz") else gzip.compress
        refused(put(tmp_path / name, pack(content)), match)
    bomb = put(tmp_path / "frames.xyz.gz", gzip.compress(b"1\n\nH 0 0 0\n" * 2**19))
    with pytest.raises(StructureError, match="unpacks to more"):
        count_structures(bomb)


# ---- counts, rows and symbols ---------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1000000000000", "99999999", "9" * 400, "-4", "0"])
def test_endless_counts_are_refused_at_once(tmp_path: Path, count: str) -> None:
    begun = time.process_time()
    refused(put(tmp_path / "a.xyz", f"{count}\n\nH 0 0 0\n"), "atoms")
    refused(put(tmp_path / "a.xyz.gz", gzip.compress(f"{count}\n\nH 0 0 0\n".encode())), "atoms")
    dump = (
        f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{count}\nITEM: BOX BOUNDS pp pp pp\n0 8\n0 8\n0 8\n"
        "ITEM: ATOMS id element x y z\n1 C 0 0 0\n"
    )
    refused(put(tmp_path / "a.dump", dump), "ASE could not read it|cut short")
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("properties", "row", "match"),
    [
        ("species:S:1:pos:R:3:mtt::x:R:1", "H 0 0 0 1", "frame 0: Properties .*'mtt::x'"),
        ("species:S:1:pos:R:3:a:b:R:2", "H 0 0 0 1 2", "Properties .*a:b"),
        ("species:S:1:pos:R:3", "H 0 0 0 1 2 3", "frame 0, atom 0: a row of 7 columns, but Properties"),
        ("species:S:1:pos:R:3:f:R:3", "H 0 0 0 1 2", "a row of 6 columns, but .* describes 7"),
        ("species:S:1:pos:R:3:f:R:999999999", "H 0 0 0 1", "describes 1000000003"),
        ("species:S:1:f:R:3", "H 0 0 0", "there is no pos"),
        ("pos:R:3", "0 0 0", "there is no species"),
        ("species:S:1:pos:R:3:pos:R:3", "H 0 0 0 0 0 0", "'pos' stands there twice"),
        ("species:S:1:pos:Q:3", "H 0 0 0", "'pos:Q:3'"),
        ("species:S:1:pos:R:3:n:I:1", "H 0 0 0 x", "cannot be parsed .*n:I:1"),
    ],
)
def test_properties_that_do_not_describe_the_rows(
    tmp_path: Path, properties: str, row: str, match: str
) -> None:
    refused(put(tmp_path / "a.xyz", f"1\nProperties={properties}\n{row}\n"), match)


def test_properties_within_another_text_are_no_properties(tmp_path: Path) -> None:
    path = put(
        tmp_path / "a.xyz",
        '1\nnote="see Properties=a:b for more" pbc="T F F" Lattice="3 0 0 0 3 0 0 0 3"\nH 0 0 0\n',
    )
    (atoms,) = read_structures(path)
    assert atoms.pbc.tolist() == [True, False, False]


@pytest.mark.parametrize("pbc", ["no", '"f f t"', '"T T"', "5", '"T T T T"'])
def test_an_unreadable_pbc_is_not_periodic_in_silence(tmp_path: Path, pbc: str) -> None:
    refused(
        put(tmp_path / "a.xyz", f'1\npbc={pbc} Lattice="5 0 0 0 5 0 0 0 5"\nH 0 0 0\n'), "frame 0: .*pbc|pbc"
    )


def test_isotopes_of_hydrogen_are_hydrogen_and_said(tmp_path: Path) -> None:
    text = "3\nProperties=id:I:1:species:S:1:pos:R:3\n1 O 0 0 0\n2 D 0.96 0 0\n3 t -0.24 0.93 0\n"
    path = put(tmp_path / "heavy.xyz", WATER.format("") + text)
    with pytest.warns(Notice, match=r"heavy.xyz: D and T .* read as H"):
        found = list(read_structures(path))
    assert [str(atoms.symbols) for atoms in found] == ["OH2", "OH2"]
    assert found[1].arrays["id"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("symbol", ["C1", "H12", "6", "Bq", "Xx", "X", "@C", "Du", "Gh(C)", "Qq"])
def test_signs_that_are_no_element_are_named(tmp_path: Path, symbol: str) -> None:
    refused(
        put(tmp_path / "a.xyz", f"2\n\nC 0 0 0\n{symbol} 0 0 2\n"),
        "frame 0.*atom 1.* is (no element|of no element)",
    )


def test_atomic_numbers_are_read_where_they_are_called_so(tmp_path: Path) -> None:
    path = put(tmp_path / "a.xyz", "2\nProperties=Z:I:1:pos:R:3\n6 0 0 0\n8 0 0 1.1\n")
    assert [str(atoms.symbols) for atoms in read_structures(path)] == ["CO"]
    refused(put(tmp_path / "b.xyz", "1\nProperties=Z:I:1:pos:R:3\n140 0 0 0\n"), "atomic number 140")


DUMP = (
    "ITEM: TIMESTEP\n5\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 8\n0 8\n0 8\n"
    "ITEM: ATOMS id type {} x y z\n1 6 {} 0 0 0\n2 8 {} 0 0 1.1\n"
)
DATA = (
    "LAMMPS data\n\n2 atoms\n2 atom types\n0 8 xlo xhi\n0 8 ylo yhi\n0 8 zlo zhi\n\nAtoms # atomic\n\n"
    "1 1 0 0 0\n2 2 0 0 1.1\n"
)


@pytest.mark.parametrize("name", ["a.dump", "a.lammpstrj", "a.lammps", "a.xyz", "a", "a.txt", "a.dump.gz"])
def test_a_type_is_no_atomic_number(tmp_path: Path, name: str) -> None:
    def packed(text: str) -> bytes:
        return gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()

    refused(put(tmp_path / name, packed(DUMP.format("mass", 12.0, 16.0))), "types and no elements")
    refused(put(tmp_path / name, packed(DUMP.format("q", 0.1, -0.1))), "types and no elements")
    path = put(tmp_path / name, packed(DUMP.format("element", "C", "O")))
    assert [str(atoms.symbols) for atoms in read_structures(path)] == ["CO"]
    path = put(tmp_path / name, packed(DUMP.format("element", "C", "O") + DUMP.format("q", 0, 0)))
    refused(path, "frame 1: a LAMMPS dump whose atoms have types")


@pytest.mark.parametrize("name", ["a.lammps-data", "a.data", "a.lmp"])
def test_data_files_of_lammps_have_types_too(tmp_path: Path, name: str) -> None:
    refused(put(tmp_path / name, DATA), "types and no elements")


# ---- whatever readers raise -----------------------------------------------------------------------


def test_deep_json_and_broken_databases(tmp_path: Path) -> None:
    refused(put(tmp_path / "deep.json", "[" * 100_000), "ASE|format")
    nested = '{"1": ' * 3000 + "1" + "}" * 3000
    refused(put(tmp_path / "nested.json", nested), "RecursionError|format|ASE")
    refused(put(tmp_path / "deep.xyz", f'1\na="_JSON {"[" * 5000}"\nH 0 0 0\n'), "frame 0: cannot be parsed")
    ase.io.write(tmp_path / "a.db", [molecule("H2O")] * 3)
    content = bytearray((tmp_path / "a.db").read_bytes())
    content[100:8000] = b"\xff" * 7900
    refused(put(tmp_path / "b.db", bytes(content)), "ASE could not read it as db")


@pytest.mark.parametrize(
    "error", [AssertionError(), RecursionError("deep"), MemoryError(), ImportError("netCDF4"), Exception("x"),
              NotImplementedError(), UserWarning("as error"), KeyError("Bq"), StopIteration()],
)  # fmt: skip
def test_whatever_a_reader_raises_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A reader of ASE that fails so after its first frame."""

    def reader(file: io.StringIO, index: object = None):  # type: ignore[no-untyped-def]
        yield molecule("H2O")
        raise error

    monkeypatch.setattr("ase.io.proteindatabank.read_proteindatabank", reader)
    frames = read_structures(put(tmp_path / "a.pdb", "HEADER\n"))
    assert len(next(frames)) == 3
    with pytest.raises(StructureError, match=r"a\.pdb, frame 1"):
        next(frames)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with one to twenty faults: bytes cut, doubled, flipped, swapped for troublesome ones."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 20])):
        here = rng.randrange(len(data) + 1)
        until = min(len(data), here + rng.choice([1, 4, 20, 200]))
        fault = rng.randrange(7)
        if fault == 0:
            data[here:until] = b""
        elif fault == 1:
            data[here:until] = rng.randbytes(until - here)
        elif fault == 2:
            del data[here:]
        elif fault == 3:
            data[here:here] = data[max(0, here - 100) : here]
        elif fault == 4:
            data[here:here] = rng.choice(TROUBLE)
        elif fault == 5 and here < len(data):
            data[here] ^= 1 << rng.randrange(8)
        elif fault == 6:
            data = data.replace(b"\n", rng.choice([b"\r\n", b"\r", b"", b"\n\n"]), rng.choice([1, -1]))
    return bytes(data)


TROUBLE = [
    b"\xff\xfe",
    b"nan",
    b"-1",
    b"999999999999",
    b"1e400",
    b"\n",
    b"****",
    b"{",
    b'"',
    b"\0",
    b"Xx",
    b":",
    b"@",
]
FORMATS = (
    "extxyz",
    "cif",
    "vasp",
    "json",
    "cube",
    "traj",
    "db",
    "xsf",
    "proteindatabank",
    "gen",
    "vasp-xdatcar",
)
NAMES = {"vasp": "POSCAR", "vasp-xdatcar": "XDATCAR", "proteindatabank": "a.pdb"}


def examples(folder: Path) -> dict[str, bytes]:
    """Name → content of a whole file in each of several formats."""
    atoms = molecule("CH3OH", vacuum=3.0, pbc=True)
    found = {}
    for form in FORMATS:
        name = NAMES.get(form, f"a.{form}")
        ase.io.write(folder / name, atoms, format=form)
        found[name] = (folder / name).read_bytes()
    found["a.xyz.gz"] = gzip.compress(found["a.extxyz"])
    found["a.dump"] = DUMP.format("element", "C", "O").encode() * 2
    return found


def read_mutated(folder: Path, rounds: int, seed: int) -> tuple[int, int]:
    """Read files with faults; how many were read and how many refused. Anything else raises.

    Args:
        rounds: how many files; seed: of the faults.
    """
    rng = random.Random(seed)  # noqa: S311
    files = examples(folder)
    read = refusals = 0
    for number in range(rounds):
        name = rng.choice(sorted(files))
        inside = folder / str(number)  # databases leave files beside them
        inside.mkdir()
        put(inside / name, mutated(files[name], rng))
        try:
            list(read_structures(inside / name))
            read += 1
        except SurveyorError as error:
            refusals += name in str(error)
    return read, refusals


@pytest.mark.filterwarnings("ignore")
def test_files_with_faults_are_read_or_refused(tmp_path: Path) -> None:
    read, refusals = read_mutated(tmp_path, rounds=120, seed=3)
    assert read + refusals == 120
    assert min(read, refusals) > 5


# ---- cells, overlaps, matching --------------------------------------------------------------------


def test_open_directions_need_no_cell_vector() -> None:
    sheet = graphene(vacuum=None)
    sheet.pbc = (True, True, False)
    assert not sheet.cell.array[2].any()
    validate(sheet)
    for axis in range(3):
        wire = Atoms("C2", np.roll([[0.0, 0, 0], [1.3, 0, 0]], axis, axis=1), cell=np.zeros((3, 3)))
        wire.cell[0] = np.roll([2.6, 0, 0], axis)  # along any axis of space
        wire.pbc = (True, False, False)
        validate(wire)
        wire.positions[1] *= 2.5 / 1.3
        with pytest.raises(StructureError, match=r"atoms 0 .* 0\.100 Å apart"):
            validate(wire)


def test_periodic_directions_need_a_volume() -> None:
    flat = Atoms("H", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True)
    with pytest.raises(StructureError, match="in one plane"):
        validate(flat)
    with pytest.raises(StructureError, match="parallel"):
        validate(Atoms("H", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=(True, True, False)))
    validate(Atoms("H", cell=flat.cell, pbc=(True, True, False)))
    with pytest.raises(StructureError, match=r"own periodic images are 0\.2"):
        validate(Atoms("H", cell=[[5, 0, 0], [5, 0.2, 0], [0, 0, 5]], pbc=True))
    validate(Atoms("H", cell=[[5, 0, 0], [2.5, 0.25, 0], [0, 0, 5]], pbc=True))
    with pytest.raises(StructureError, match="position of atom 0"):
        validate(Atoms("H", [[1e12, 0, 0]]))


def test_overlaps_across_the_faces_of_skewed_cells() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        cell = np.diag(rng.uniform(3, 6, 3)) + np.tril(rng.uniform(-3, 3, (3, 3)), -1)
        first = rng.uniform(-10, 10, 3)
        step = rng.normal(size=3)
        step *= 0.2 / np.linalg.norm(step)
        atoms = Atoms("HO", [first, first + step + rng.integers(-3, 4, 3) @ cell], cell=cell, pbc=True)
        with pytest.raises(StructureError, match=r"0\.200 Å apart"):
            validate(atoms)
        atoms.positions[1] += 9 * step
        if atoms.get_all_distances(mic=True)[0, 1] > 0.3:
            validate(atoms)


LARGE = """
import numpy as np, resource, sys
from ase import Atoms
from surveyor.errors import StructureError
from surveyor.structures import validate
from surveyor.structures.comparison import compare
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
rng = np.random.default_rng(0)
n = 30_000
grid = np.stack(np.meshgrid(*[np.arange(32.0)] * 3), -1).reshape(-1, 3)[:n] * 2.5
for atoms in (Atoms(np.full(n, 18), grid), Atoms(np.full(n, 18), grid, cell=[80] * 3, pbc=True)):
    validate(atoms)
    order = rng.permutation(n)
    other = atoms[order]
    other.positions += rng.uniform(-1e-3, 1e-3, (n, 3)) + 80 * atoms.pbc * rng.integers(-1, 2, (n, 3))
    assert (compare(atoms, other, 5e-3).order == np.argsort(order)).all()
for cloud in (np.zeros((n, 3)), rng.uniform(0, 1, (n, 3))):
    for more in ({}, {"cell": [9, 9, 9], "pbc": True}):
        try:
            validate(Atoms(np.ones(n, dtype=int), cloud, **more))
            sys.exit("taken")
        except StructureError:
            pass
"""


def test_thirty_thousand_atoms_and_a_cloud_on_one_spot_do_with_four_gigabytes() -> None:
    subprocess.run([sys.executable, "-c", LARGE], check=True, timeout=100)


def test_matching_finds_the_order_of_least_displacement() -> None:
    rng = np.random.default_rng(1)
    for atoms in (molecule("C6H6"), bulk("NaCl", "rocksalt", a=5.6) * (2, 2, 2)):
        atoms.rattle(0.05, seed=2)
        order = rng.permutation(len(atoms))
        other = atoms[order]
        other.positions += rng.uniform(-0.01, 0.01, other.positions.shape)
        if atoms.pbc.any():
            other.positions += rng.integers(-2, 3, other.positions.shape) @ atoms.cell.array
        found = compare(atoms, other, 0.05)
        np.testing.assert_array_equal(found.order, np.argsort(order))
        assert found.offset < 0.018
        assert compare(atoms, other, 1e-4).order is None
    # two places compete for one atom: the only complete order is taken, not the nearest pairs
    row = Atoms("H2", [[0, 0, 0], [0.4, 0, 0]])
    shifted = Atoms("H2", [[0.39, 0, 0], [0.79, 0, 0]])
    assert compare(row, shifted, 0.5).order.tolist() == [0, 1]
    far = compare(row, Atoms("H2", [[0, 0, 0], [0, 0, 1.0]]), 0.01)
    assert far.order is None
    assert far.offset == pytest.approx(0.4)


# ---- near copies ----------------------------------------------------------------------------------


def rattled_methanols(n: int, seed: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    parent = molecule("CH3OH")
    return [
        Atoms(parent.numbers, parent.positions + rng.normal(0, 0.05, parent.positions.shape))
        for _ in range(n)
    ]


def test_near_copies_are_found_in_any_order_and_image() -> None:
    rng = np.random.default_rng(4)
    originals = rattled_methanols(30, 5)
    for k in range(10):
        crystal = bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1)
        crystal.rattle(0.05, seed=k)
        if k % 2:
            crystal.pbc = (True, True, False)
        originals.append(crystal)
    copies = []
    for atoms in originals:
        copy = atoms[rng.permutation(len(atoms))]
        copy.positions += rng.uniform(-3e-6, 3e-6, copy.positions.shape)
        copy.positions += (rng.integers(-1, 2, copy.positions.shape) * atoms.pbc) @ atoms.cell.array
        copies.append(copy)
    names, others = [structure_id(a) for a in originals], [structure_id(a) for a in copies]
    found = near_copies([*copies, *originals])
    expected = {max(pair): min(pair) for pair in zip(names, others, strict=True)}
    assert found == expected
    assert near_copies(copies, originals) == dict(zip(others, names, strict=True))
    assert near_copies(originals, originals) == {}  # exact repeats are not near copies
    with pytest.warns(Notice, match="40 structures of the pool are near copies"):
        assert copies_left_out(copies, originals) == set(others)


def test_what_differs_by_more_than_programs_print_is_no_copy() -> None:
    parent = rattled_methanols(1, 0)[0]
    moved = [parent.copy() for _ in range(18)]
    for k, atoms in enumerate(moved):
        atoms.positions[k // 3, k % 3] += 1e-4
    charged, magnetic = parent.copy(), parent.copy()
    for atoms in (charged, magnetic):
        atoms.positions += 1e-6
    charged.info["total_charge"] = 1
    magnetic.set_initial_magnetic_moments([1.0] + [0.0] * 5)
    assert near_copies([parent, *moved, charged, magnetic]) == {}


def test_many_copies_of_one_structure_take_little_time() -> None:
    rng = np.random.default_rng(6)
    parent = rattled_methanols(1, 1)[0]
    pool = []
    for _ in range(1500):
        atoms = parent.copy()
        atoms.positions += rng.uniform(-2e-6, 2e-6, atoms.positions.shape)
        pool.append(atoms)
    begun = time.process_time()
    assert len(near_copies(pool)) == len({structure_id(a) for a in pool}) - 1
    assert time.process_time() - begun < 5
