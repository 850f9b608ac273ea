"""What is written as extended XYZ reads back equal, or is left out by name; and nothing else changes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from surveyor.errors import Notice, StructureError, said
from surveyor.structures import labels_of, read_structures, structure_id, with_labels, write_structures
from surveyor.structures.portable import frame_text
from surveyor.types import Labels

FORCES = np.array([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0], [0.0, 0.00000001, -7.5]])


def labelled() -> Atoms:
    atoms = with_labels(molecule("H2O"), Labels(-76.25, FORCES))
    atoms.info |= {"total_charge": -1, "total_spin": 2}
    return atoms


def trip(atoms: Atoms) -> tuple[Atoms, list[str]]:
    """The frame as it comes back from a file, and what was said."""
    said.clear()
    with TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        path = write_structures(Path(folder) / "a.extxyz", [labelled(), atoms, labelled()])
        first, back, last = read_structures(path, check=False)
    assert labels_of(first).energy == labels_of(last).energy == -76.25
    assert all(issubclass(w.category, Notice) for w in heard), [str(w.message) for w in heard]
    return back, [str(w.message) for w in heard]


def check(atoms: Atoms, back: Atoms, notices: list[str]) -> None:
    """Every key is there and equal, or named; the keys that matter are there."""
    np.testing.assert_allclose(back.positions, atoms.positions, rtol=0, atol=5.1e-9)
    np.testing.assert_array_equal(back.numbers, atoms.numbers)
    found = {**(back.calc.results if back.calc else {})}
    for key in ("total_charge", "total_spin", "REF_energy", "surveyor_id"):
        assert alike(atoms.info[key], back.info[key])
    np.testing.assert_allclose(back.arrays["REF_forces"], FORCES, rtol=0, atol=5.1e-9)
    for key, value in atoms.info.items():
        if f"info {key!r} is left out" not in "\n".join(notices):
            assert alike(value, back.info[key] if key in back.info else found[key]), key
    for key, value in atoms.arrays.items():
        if f"column {key!r} is left out" not in "\n".join(notices):
            assert alike_column(value, back.arrays[key] if key in back.arrays else found[key]), key
    assert {*map(str, back.info)} <= {*map(str, atoms.info)}
    assert {*map(str, back.arrays)} <= {*map(str, atoms.arrays)}
    assert structure_id(back) == structure_id(atoms)


def alike(value: Any, found: Any) -> bool:
    """Equal and of one kind: written apart from the comparison of the code under test."""
    if isinstance(value, dict):
        return (
            isinstance(found, dict) and {*value} == {*found} and all(alike(value[k], found[k]) for k in value)
        )
    if value is None or isinstance(value, str):
        return type(found) in (type(None), str, np.str_) and found == value
    if isinstance(value, list | tuple) and not all(isinstance(v, int | float) for v in value):
        return len(found) == len(value) and all(map(alike, value, found))
    a, b = np.asarray(value), np.asarray(found)
    if a.size and a.dtype.kind.replace("u", "i") != b.dtype.kind.replace("u", "i"):
        return a.dtype.kind in "O" and value == found
    return (a.shape == b.shape and a.tolist() == b.astype(a.dtype).tolist()) or bool(np.isnan(a).any())


def alike_column(value: np.ndarray, found: np.ndarray) -> bool:
    if value.dtype.kind in "UO":
        return value.tolist() == found.tolist()
    if value.dtype.kind == "f":
        return value.shape == found.shape and np.allclose(
            value, found, rtol=1e-12, atol=5.1e-9, equal_nan=True
        )
    return value.dtype.kind == found.dtype.kind and np.array_equal(value, found)


text = st.one_of(
    st.text(max_size=12),
    st.text("ab01TF \\\"'{}[]=_,:\t\n\r\x00\u2028", max_size=8),
    st.sampled_from(
        ["", "001", "1 2 3", "T", "true", "nan", "1e5", "_JSON", "_JSON {", "_JSON [1]", "a\\", "٣"]
    ),
)
RESERVED = (
    "energy forces stress virial magmom magmoms charges charge dipole free_energy Lattice Properties pbc "
    "species pos Z numbers2 positions0 REF_forces0 REF_forces1 move_mask symbols masses momenta tags uid"
)
names = st.one_of(text, st.sampled_from(RESERVED.split()))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(max_size=3), text
)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=2),
    max_leaves=6,
)
kinds = st.sampled_from(["f8", "f4", "f2", "i8", "i4", "u2", "?", "c16", "U3", "S2"])
shapes = st.sampled_from([(), (0,), (1,), (2,), (3,), (6,), (9,), (0, 3), (3, 3), (1, 2), (2, 2, 2)])
arrays = st.tuples(kinds, shapes).flatmap(lambda kind: hnp.arrays(kind[0], kind[1]))
columns = st.tuples(
    kinds, st.sampled_from([(3,), (3, 1), (3, 2), (3, 3), (3, 9), (3, 2, 2), (3, 0)])
).flatmap(lambda kind: hnp.arrays(kind[0], kind[1]))
keys = st.one_of(names, names, names, st.integers(), st.none(), st.tuples(st.text(max_size=2)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(keys, st.one_of(nested, nested, arrays)), max_size=4))
def test_info_comes_back_or_is_named(items: list[tuple[Any, Any]]) -> None:
    atoms = labelled()
    atoms.info = {"first": 1, **dict(items), **atoms.info, "last": "x"}
    check(atoms, *trip(atoms))


own = st.lists(st.tuples(names, columns), max_size=3)


@settings(max_examples=50, deadline=None)
@given(own, own)
def test_columns_come_back_or_are_named(before: list[tuple[str, Any]], after: list[tuple[str, Any]]) -> None:
    atoms = labelled()
    forces = atoms.arrays.pop("REF_forces")
    atoms.arrays |= dict(before)
    atoms.arrays["REF_forces"] = forces
    atoms.arrays |= dict(after)
    check(atoms, *trip(atoms))


@pytest.mark.parametrize(
    "value",
    [
        "", "007", "two\nlines", "back\\", "T", "say \"it's\"", "{", "_JSON {", "\x00", "a\u2028b", " blank ",
        None, True, 3, 10**25, 2.5, [1, 2.5], ["a", 1], {"deep": [1, None, "x\\"]}, np.array([4.5]),
        np.eye(3), np.array(["x y", ""]), np.float32(0.1),
    ],
)  # fmt: skip
def test_what_can_be_kept_is_kept_without_a_word(value: object) -> None:
    atoms = labelled()
    atoms.info["k"] = value
    back, notices = trip(atoms)
    assert not notices
    assert alike(value, back.info["k"])


@pytest.mark.parametrize(
    ("where", "key", "value", "reason"),
    [
        ("info", "k", 1j, "complex is not JSON"),
        ("info", "k", {1: 2}, "come back as {'1': 2}"),
        ("info", "k", [[1], [2, 3]], "inhomogeneous"),
        ("info", "k", np.ma.array([1.0, 2.0], mask=[0, 1]), "masked"),
        ("info", 7, 1, "TypeError"),
        ("info", "a=b", 1, "lost"),
        ("info", "Properties", "species:S:1:pos:R:3", "lost"),
        ("info", "Lattice", np.eye(3), "another"),
        ("column", "partial charge", np.arange(3), "lost"),
        ("column", "a:b", np.arange(3), ""),
        ("column", "residuenames", np.array(["HOH", "", "HOH"]), ""),
        ("column", "residuenames", np.array(["A B", "C", "D"]), ""),
        ("column", "tensor", np.zeros((3, 2, 2)), ""),
        ("column", "one", np.zeros((3, 1)), "come back as"),
        ("column", "far", np.array([2**40] * 3), "out of bounds"),
        ("column", "Z", np.array([6, 6, 6]), "another"),
        ("column", "symbols", np.array(["C"] * 3), "another"),
        ("column", "charge", np.ones(3), "lost"),
        ("column", "REF_forces0", np.ones(3), "more than once"),
    ],
)
def test_what_cannot_be_kept_is_named_with_key_file_and_reason(
    tmp_path: Path, where: str, key: Any, value: Any, reason: str
) -> None:
    frames = [labelled(), labelled()]
    for atoms in frames:
        (atoms.info if where == "info" else atoms.arrays)[key] = value
    with pytest.warns(Notice) as heard:
        path = write_structures(tmp_path / "picks.extxyz", frames)
    assert len(heard) == 1  # once for both frames
    message = str(heard[0].message)
    assert all(part in message for part in ("picks.extxyz", f"{where} {key!r} is left out", reason)), message
    for atoms, back in zip(frames, read_structures(path), strict=True):
        check(atoms, back, [message])


def test_labels_go_before_a_column_that_excludes_them() -> None:
    atoms = labelled()
    forces = atoms.arrays.pop("REF_forces")
    atoms.arrays |= {"REF_forces0": np.ones(3), "REF_forces": forces}
    back, notices = trip(atoms)
    np.testing.assert_array_equal(labels_of(back).forces, FORCES)
    assert "column 'REF_forces0' is left out" in "".join(notices)


def test_results_of_a_calculator_come_back_once() -> None:
    atoms = labelled()
    stress = np.array([1.0, 2, 3, 4, 5, 6])
    atoms.calc = SinglePointCalculator(atoms, energy=-5.5, forces=2 * FORCES, stress=stress)
    back, notices = trip(atoms)
    assert not notices
    assert back.calc.results["energy"] == -5.5
    np.testing.assert_array_equal(back.calc.results["forces"], 2 * FORCES)
    np.testing.assert_array_equal(back.calc.results["stress"], stress)
    assert labels_of(back).energy == -76.25


def test_a_key_that_collides_with_a_result_is_named() -> None:
    atoms = labelled()
    atoms.calc = SinglePointCalculator(atoms, energy=-5.5)
    atoms.info["energy"] = "low"
    back, notices = trip(atoms)
    assert back.calc.results["energy"] == -5.5
    assert "info 'energy' beside the calculator's is left out" in "".join(notices)


def test_fixed_atoms_stay_and_other_constraints_are_named() -> None:
    atoms = labelled()
    atoms.set_constraint([FixAtoms([2]), FixAtoms([0, 2])])
    back, notices = trip(atoms)
    assert not notices
    assert back.constraints[0].index.tolist() == [0, 2]
    atoms.set_constraint([FixAtoms([1]), FixBondLength(0, 1)])
    back, notices = trip(atoms)
    assert [c.index.tolist() for c in back.constraints] == [[1]]
    assert "constraints is left out" in "".join(notices)


def test_a_frame_loses_what_is_named_and_nothing_else() -> None:
    atoms = labelled()
    atoms.info["k"] = 1j
    atoms.info["text"] = "007"
    atoms.arrays["a b"] = np.ones(3)
    atoms.set_constraint(FixBondLength(0, 1))
    text, left = frame_text(atoms)
    kept = read(io.StringIO(text), format="extxyz")
    assert {*left} == {"info 'k'", "column 'a b'", "constraints"}
    assert kept.info["text"] == "007"
    assert "k" not in kept.info
    assert "a b" not in kept.arrays
    assert not kept.constraints
    assert frame_text(kept)[1] == {}
    assert len(atoms.constraints) == 1  # the structure itself is left alone


def test_cells_of_every_kind_come_back() -> None:
    for cell, pbc in (
        ([0, 0, 0], [False] * 3),
        ([4, 5, 6], [True, False, True]),
        ([[1 / 3, 0, 1e-17], [2, 2 / 7, 0], [0, -3, 1e5]], True),
        ([[3, 0, 0], [0, 3, 0], [0, 0, 0]], [True, True, False]),
    ):
        atoms = Atoms("H", [[0.1, 0.2, 0.3]], cell=cell, pbc=pbc)
        text, left = frame_text(atoms)
        back = read(io.StringIO(text), format="extxyz")
        assert not left
        np.testing.assert_array_equal(back.cell.array, atoms.cell.array)
        np.testing.assert_array_equal(back.pbc, atoms.pbc)


def test_a_geometry_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"bad\.extxyz, frame 1: .*cannot be written"):
        write_structures(tmp_path / "bad.extxyz", [molecule("H2"), Atoms([300], [[0, 0, 0]])])
    assert not list(tmp_path.iterdir())
