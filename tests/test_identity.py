"""What decides a calculation: ids, initial moments, charge and spin, and what of a label goes on."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from surveyor.errors import Notice, StructureError
from surveyor.structures import labels_of, read_structures, structure_id, validate, with_labels
from surveyor.structures.identity import (
    essential,
    hundred_millionths,
    total_charge,
    total_spin,
    with_state,
)
from surveyor.structures.labels import without_labels, without_marks
from surveyor.structures.portable import frame_text
from surveyor.types import Labels


def by_format(values: np.ndarray) -> list[int]:
    """The slow twin: Python's own decimal rounding, one number after the other."""
    return [int(f"{value:.8f}".replace(".", "")) for value in values.ravel().tolist()]


near_halves = st.builds(
    lambda whole, digits, sign: sign * float(f"{whole / 1e8:.8f}{digits}"),
    st.integers(0, 10**12),
    st.sampled_from(["5", "49", "51", "4999999", "5000001", "50", "45", "55"]),
    st.sampled_from([1, -1]),
)
lengths = st.one_of(
    st.floats(-3e7, 3e7), st.floats(-20, 20), near_halves, st.sampled_from([0.0, -0.0, 2**-9, 1e-300])
)


@settings(max_examples=100, deadline=None)
@given(st.lists(lengths, min_size=1, max_size=20))
def test_rounding_is_that_of_the_format(values: list[float]) -> None:
    assert hundred_millionths(values).tolist() == by_format(np.array(values))


def test_rounding_of_very_many_values_near_a_half() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(-(10**10), 10**10, 20000)
    for offset in (0.5, 0.5 - 1e-7, 0.5 + 1e-7):
        values = (whole + offset) / 1e8
        assert hundred_millionths(values).tolist() == by_format(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(lengths, lengths, lengths), min_size=1, max_size=4), st.integers(6, 16))
def test_ids_survive_files_of_six_to_sixteen_decimals(rows: list[Any], decimals: int) -> None:
    shown = [[float(f"{x:.{decimals}f}") for x in row] for row in rows]
    cell = [[3 + abs(shown[0][0]) % 1, 0.123456495, 0], [0, 4.0000000049999, 0], [0.1 / 3, 0, 5]]
    atoms = Atoms(f"H{len(shown)}", shown, cell=cell, pbc=True)
    once, left = frame_text(atoms)
    back = read(io.StringIO(once), format="extxyz")
    again = read(io.StringIO(frame_text(back)[0]), format="extxyz")
    assert not left
    assert structure_id(atoms) == structure_id(back) == structure_id(again)


def test_ids_of_ordinary_structures_are_those_of_earlier_versions() -> None:
    ion, alias = molecule("H2O"), Atoms("O2", [[0, 0, 0.622978], [0, 0, -0.622978]])
    ion.info = {"total_charge": -1, "total_spin": 2}
    alias.info = {"charge": 1, "spin": 2}
    slab = bulk("Cu", cubic=True)
    slab.pbc = [True, True, False]
    random = Atoms("C4H6", np.random.default_rng(0).normal(size=(10, 3)) * 3)
    assert [structure_id(a) for a in (molecule("H2O"), ion, alias, bulk("Si"), slab, random)] == [
        "0dbc655850149781bc512465af4a2d0b",
        "38153c03be7d3cdf189a261d7a5b950a",
        "1c3a55c801d0b98660f02b451af58c38",
        "b45792ff786680303c98f394f461e151",
        "5b06b22576f28118027e248bea19486a",
        "7f887c8aed857bec910a9c3289f30039",
    ]


def test_initial_moments_and_charges_make_structures_of_their_own(tmp_path: Path) -> None:
    plain = Atoms("Fe2", [[0, 0, 0], [0, 0, 2.0]])
    frames = [plain.copy() for _ in range(6)]
    frames[0].set_initial_magnetic_moments([3, 3])
    frames[1].set_initial_magnetic_moments([3, -3])
    frames[2].set_initial_charges([3, 3])
    frames[3].set_initial_magnetic_moments([[0, 0, 3], [0, 0, 3]])
    frames[4].set_initial_magnetic_moments([3, 3.00001])
    frames[5].set_initial_magnetic_moments([0, 4e-9])  # extxyz writes a zero
    names = [structure_id(atoms) for atoms in frames]
    assert len({*names[:5], structure_id(plain)}) == 6
    assert names[5] == structure_id(plain)
    path = tmp_path / "a.extxyz"
    write(path, frames)
    assert [structure_id(atoms) for atoms in read_structures(path)] == names
    assert [structure_id(essential(atoms)) for atoms in frames] == names


@pytest.mark.parametrize("moments", [[np.nan, 1.0], ["a", "b"], [[1.0, 2.0], [3.0, 4.0]], [1j, 0]])
def test_moments_that_cannot_be_are_refused(moments: list[Any]) -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]])
    atoms.arrays["initial_magmoms"] = np.array(moments)
    with pytest.raises(StructureError, match=r"a\.db, frame 3: column 'initial_magmoms'"):
        validate(atoms, "a.db, frame 3")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e20, -4e7])
def test_lengths_without_eight_decimals_are_refused(value: float) -> None:
    with pytest.raises(StructureError, match=r"f, frame 1: a position of"):
        structure_id(Atoms("H", [[0, value, 0]]), "f, frame 1")
    with pytest.raises(StructureError, match="a cell vector of"):
        structure_id(Atoms("H", cell=[1, 1, value], pbc=True))


@pytest.mark.parametrize(
    ("info", "charge", "spin", "stated"),
    [
        ({}, 0, 1, []),
        ({"charge": -1, "spin": 2}, -1, 2, ["total_charge", "total_spin"]),
        ({"total_charge": 2.0, "total_spin": np.int64(3)}, 2, 3, ["total_charge", "total_spin"]),
        ({"multiplicity": 3}, 0, 3, ["total_spin"]),
        ({"spin_multiplicity": np.float32(2.0)}, 0, 2, ["total_spin"]),
        ({"charge": np.array([-2]), "multiplicity": np.array(4)}, -2, 4, ["total_charge", "total_spin"]),
        ({"charge": 0}, 0, 1, ["total_charge"]),
        ({"total_spin": 1, "multiplicity": 1}, 0, 1, ["total_spin"]),
    ],
)
def test_charge_and_spin_under_every_key(
    info: dict[str, Any], charge: int, spin: int, stated: list[str]
) -> None:
    atoms = Atoms("H", info=info)
    validate(atoms)
    assert (total_charge(atoms), total_spin(atoms)) == (charge, spin)
    bare = essential(atoms)
    wanted = {"total_charge": charge, "total_spin": spin}
    assert bare.info == {key: wanted[key] for key in stated}
    assert structure_id(bare) == structure_id(atoms)
    for found in (with_state(atoms), with_labels(atoms, Labels(0.0, np.zeros((1, 3))))):
        assert {key: found.info[key] for key in wanted if key in found.info} == bare.info


@pytest.mark.parametrize("key", ["total_charge", "charge", "total_spin", "multiplicity"])
@pytest.mark.parametrize(
    "value",
    [
        0.5, -1.5, "neutral", "1", "", np.nan, np.inf, None, True, np.bool_(False), [1], np.array([1, 1]), 1j,
        {}, 1e300, np.ma.array([1], mask=[1]), b"1",
    ],
)  # fmt: skip
def test_charges_that_are_no_whole_numbers_are_refused(key: str, value: Any) -> None:
    atoms = Atoms("H", info={key: value})
    for ask in (validate, structure_id, total_charge if "charge" in key else total_spin):
        with pytest.raises(StructureError) as caught:
            ask(atoms, "pool.db, frame 7")
        assert f"pool.db, frame 7: info {key!r} is " in caught.value.got
    for ask in (essential, with_state):
        with pytest.raises(StructureError, match=key):
            ask(atoms)


@pytest.mark.parametrize("value", [0, -1])
def test_a_multiplicity_is_one_or_more(value: int) -> None:
    with pytest.raises(StructureError, match=rf"info 'spin' is {value}"):
        total_spin(Atoms("H", info={"spin": value}))


def test_the_first_key_counts_and_the_others_are_named_once() -> None:
    atoms = Atoms("H", info={"multiplicity": 4, "spin": 2, "charge": 1, "total_charge": -1})
    with pytest.warns(Notice) as heard:
        assert all(validate(atoms, f"p.db, frame {number}") for number in range(3))
    assert [str(w.message) for w in heard] == [
        "p.db, frame 0: total_charge = -1, charge = 1 in info; total_charge is taken",
        "p.db, frame 0: spin = 2, multiplicity = 4 in info; spin is taken",
    ]
    assert (total_charge(atoms), total_spin(atoms)) == (-1, 2)


@pytest.mark.parametrize(
    "key",
    [
        "mult",
        "net_charge",
        "molecular_charge",
        "nelec",
        "n_electrons",
        "magmom",
        "Charge",
        "MULTIPLICITY",
        "2S+1",
        "q",
        "uhf",
    ],
)
def test_keys_that_look_like_charge_and_spin_are_named(key: str) -> None:
    with pytest.warns(Notice, match=r"x\.xyz, frame 0: info '.*' \(3\) is not read") as heard:
        validate(Atoms("H", info={key: 3}), "x.xyz, frame 0")
    assert repr(key) in str(heard[0].message)


@pytest.mark.parametrize("key", ["name", "config_type", "recharged", "spinning", "elements", "surveyor_id"])
def test_other_keys_are_nobodys_business(key: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validate(Atoms("H", info={key: 3, "total_charge": 0}))


def earlier() -> Atoms:
    """A structure that was labelled before, by several hands."""
    atoms = molecule("H2O")
    atoms.info = {
        "total_charge": 1, "reaction": "r1", "kinetic_energy": 3.0, "surveyor_doubt": "SCF not converged",
        "surveyor_core_seconds": 86400.0, "surveyor_checksum": "00", "surveyor_id": "x", "surveyor_rank": 3,
        "surveyor_std": 1.0, "surveyor_nearest": "y", "REF_energy": -9.0, "REF_stress": np.zeros(6),
        "REF_virials": np.zeros(9), "dft_energy": -8.0, "energy": -7.0, "free_energy": -6.0,
        "stress": np.zeros(6), "virial": np.eye(3),
    }  # fmt: skip
    for name in ("REF_forces", "forces", "dft_forces", "magmoms", "surveyor_atom_share", "velocities"):
        atoms.arrays[name] = np.ones((3, 3))
    atoms.set_initial_charges([0.5, 0, 0.5])
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0)
    return atoms


def test_nothing_of_an_earlier_label_goes_on() -> None:
    atoms = earlier()
    bare = without_labels(atoms)
    assert bare.info == {"total_charge": 1, "reaction": "r1", "kinetic_energy": 3.0}
    assert {*bare.arrays} == {"numbers", "positions", "initial_charges", "velocities"}
    assert bare.calc is None
    assert not bare.constraints
    new = with_labels(atoms, Labels(-1.0, np.zeros((3, 3))))
    assert {*new.info} == {*bare.info, "REF_energy", "surveyor_id"}
    assert new.info["surveyor_id"] == structure_id(atoms)
    assert {*new.arrays} == {*bare.arrays, "REF_forces"}
    assert labels_of(new).energy == -1.0
    assert atoms.info["surveyor_doubt"] == "SCF not converged"  # the pool is left alone


def test_picks_lose_earlier_marks_and_keep_the_rest() -> None:
    atoms = earlier()
    kept = without_marks(atoms)
    assert {*atoms.info} - {*kept.info} == {key for key in atoms.info if key.startswith("surveyor_")}
    assert {*atoms.arrays} - {*kept.arrays} == {"surveyor_atom_share"}
    assert kept.constraints
    assert kept.calc is atoms.calc


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("REF_energy", -1 + 0j, "not real numbers"),
        ("REF_energy", "low", "not real numbers"),
        ("REF_energy", None, "not real numbers"),
        ("REF_energy", True, "not real numbers"),
        ("REF_energy", [1.0, 2.0], r"of shape \(2,\)"),
        ("REF_energy", np.ma.array(1.0, mask=True), "masked"),
        ("REF_energy", np.nan, "NaN or inf"),
        ("REF_stress", [1, 2, 3], r"of shape \(3,\)"),
        ("REF_stress", [[1], [2, 3]], "no array of numbers"),
        ("REF_stress", [1, 2, 3, 4, 5, np.inf], "NaN or inf"),
        ("REF_forces", np.zeros((2, 3)) * 1j, "not real numbers"),
        ("REF_forces", np.full((2, 3), "x"), "not real numbers"),
        ("REF_forces", np.zeros(2), r"of shape \(2,\)"),
        ("REF_forces", np.zeros((3, 3)), r"of shape \(3, 3\)"),
        ("REF_forces", np.ma.masked_less(np.arange(6.0).reshape(2, 3), 1), "masked"),
        ("REF_forces", np.full((2, 3), np.inf), "NaN or inf"),
    ],
)
def test_labels_that_are_no_numbers_are_refused(key: str, value: Any, message: str) -> None:
    atoms = with_labels(molecule("H2"), Labels(0.0, np.zeros((2, 3)), np.zeros(6)))
    (atoms.arrays if key == "REF_forces" else atoms.info)[key] = value
    with pytest.raises(StructureError, match=rf"b\.xyz, frame 2: {key}.*{message}"):
        labels_of(atoms, "b.xyz, frame 2")
