"""Which element is it: what names one twice, or none, is refused in words and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import molecule

from surveyor.errors import StructureError
from surveyor.structures import read_structures

ROWS = "2\nProperties=species:S:1:pos:R:3:Z:I:1 {}\nO 0 0 0 {}\n{} 0.96 0 0 1\n"
PDB = "ATOM      1  CA  ALA A   1       0.000   0.000   0.000  1.00  0.00{}\nEND\n"
SITES = """data_x
_cell_length_a 5
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def read(path: Path, content: str) -> list[str]:
    path.write_text(content)
    return [str(atoms.symbols) for atoms in read_structures(path)]


def test_a_symbol_and_an_atomic_number_must_agree(tmp_path: Path) -> None:
    assert read(tmp_path / "a.xyz", ROWS.format("", 8, "H")) == ["OH"]
    with pytest.raises(StructureError, match=r"b\.xyz, frame 0, atom 0: the symbol O and .* 7"):
        read(tmp_path / "b.xyz", ROWS.format("", 7, "H"))


@pytest.mark.parametrize("column", ["species:I:1", "species:S:2", "numbers:R:1"])
def test_a_column_of_elements_has_one_type(tmp_path: Path, column: str) -> None:
    with pytest.raises(StructureError, match=r"Properties .*(species|no column of elements)"):
        read(tmp_path / "a.xyz", f"1\nProperties={column}:pos:R:3\n6 0 0 0\n")


@pytest.mark.parametrize("sign", ["2H", "13C", "[2H]"])
def test_an_isotope_is_called_one(tmp_path: Path, sign: str) -> None:
    with pytest.raises(StructureError, match=r"an isotope.*\n.*\n.*symbol of the element, (H|C)"):
        read(tmp_path / "a.xyz", f"1\n\n{sign} 0 0 0\n")


def test_deuterium_in_other_formats_is_called_an_isotope(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"'D' is no element's symbol .an isotope"):
        read(tmp_path / "POSCAR", "x\n1.0\n5 0 0\n0 5 0\n0 0 5\nD O\n1 1\nDirect\n0 0 0\n0.2 0.2 0.2\n")


@pytest.mark.parametrize("comment", ['name="water charge=1', "{a charge=1", "tags=[1,2 charge=1"])
def test_an_open_quote_does_not_swallow_what_follows(tmp_path: Path, comment: str) -> None:
    with pytest.raises(StructureError, match=r"is opened in the comment line and not closed; .*charge"):
        read(tmp_path / "a.xyz", f"1\nProperties=species:S:1:pos:R:3 {comment}\nHe 0 0 0\n")


@pytest.mark.parametrize("comment", ["it's water", 'name="O\'Brien" charge=0', r"a=\" b=1", "5' end"])
def test_quotes_that_swallow_nothing_are_fine(tmp_path: Path, comment: str) -> None:
    assert read(tmp_path / "a.xyz", f"1\n{comment}\nHe 0 0 0\n") == ["He"]


def test_a_pdb_names_its_elements_or_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path / "a.pdb", PDB.format(" " * 11 + "C")) == ["C"]
    with pytest.raises(StructureError, match=r"b\.pdb, line 1: .*CA is calcium or a carbon"):
        read(tmp_path / "b.pdb", PDB.format(""))


def test_files_with_names_of_atoms_alone_are_refused(tmp_path: Path) -> None:
    molecule("H2O").write(tmp_path / "a.gro")
    with pytest.raises(StructureError, match=r"a\.gro is a GROMACS file: atoms have names and no elements"):
        list(read_structures(tmp_path / "a.gro"))


@pytest.mark.parametrize("sites", ["A1 Cu 0 0 0 0.5\nA2 Au 0 0 0 0.5\n", "A1 Cu 0 0 0 0.75\n"])
def test_sites_of_partial_occupancy_are_refused(tmp_path: Path, sites: str) -> None:
    assert read(tmp_path / "whole.cif", SITES + "A1 Cu 0 0 0 1.0\n") == ["Cu"]
    with pytest.raises(StructureError, match=r"a\.cif, frame 0: a site of partial occupancy \(Cu 0\."):
        read(tmp_path / "a.cif", SITES + sites)
