"""Numbers that programs print: read as a whole, or there is no label."""

from __future__ import annotations

import re

import pytest
from ase.calculators.calculator import CalculationFailed
from hypothesis import example, given
from hypothesis import strategies as st

from surveyor.labelling.outputs import EnergyOutput, RowsOutput, _rows, read_energy
from surveyor.labelling.printed import Pattern

PATTERNS = [
    r"E\s*=\s*<number>",
    r"E =.*?<number>",
    r"^.*E.*<number>",
    r"E = *<number>\s*$",
    r"E =\s+<number>",
]


def energy(text: str, pattern: str = PATTERNS[0]) -> float:
    return read_energy(EnergyOutput(pattern=pattern, unit="eV"), text)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1234.5", -1234.5), ("+7", 7), (".5", 0.5), ("5.", 5), ("-0", 0), ("1e3", 1000), ("1.5E-02", 0.015),
        ("-1.5D+02", -150), ("2d0", 2), ("-76.4   ", -76.4), ("-76.4\t", -76.4), ("007.5", 7.5),
    ],
)  # fmt: skip
def test_whole_numbers_are_read(text: str, value: float, pattern: str) -> None:
    assert energy(f"step 1\nE = {text}\nEnd", pattern) == value
    assert energy(f"E = {text}", pattern) == value


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "text",
    [
        "-1,234.5", "1.234,5", "-1,5", "12,345,678", "1'234.5", "1’234.5", "1\u202f234.5",
        "1\xa0234.5", "1_000", "1_000.5", "0x1A", "0b11", "1.2.3", "1.5e", "1.5e+", "--1.5", "+-1.5",
        "1.0-103", "1.0+103", "-1.234-5.678", "0.1234567-12.345", "1.5+2.0j", "1.5j", "2i", "(1.5,2.0)",
        "1.5 + 2.0i", "1.5 - 2j",
        "\u22121.5", "\u20131.5", "- 1.5", "-  1.5", "1.5eV", "1.5Eh", "-76.4a.u.", "1.5%",
        "$1.5", "€5",
        "1/2", "1.5*", "1.5×10³", "1.5 x 10^3", "1.5*10**3", "1.5 E+03", "********", "***", "-****", "1.5-",
        "12:30:01", "2024-01-01", "１２", "1.5(3)", "1.5e3.2", "~1.5", "≈1.5", "1.5±0.1", "1.5+/-0.1", "NaNQ",
        "1.#QNAN", "-1.#IND", "1.5f", "1.5L", "1.5q0", "#1.5", "1.5…", "1..5", "1,5e3", "1.5E1,000", "5O.1",
        "1.5e-1-2", "²5", "5²", "1.5°", "1.5\u200b3",
    ],
)  # fmt: skip
def test_a_part_of_what_stands_there_is_no_number(text: str, pattern: str) -> None:
    with pytest.raises(CalculationFailed, match="energy"):
        energy(f"E = 1.25\nE = {text}\nEnd", pattern)  # nor is the number of an earlier step
    with pytest.raises(CalculationFailed, match="energy"):
        energy(f"E = {text}", pattern)


def test_the_text_that_is_no_number_is_said() -> None:
    with pytest.raises(CalculationFailed, match=re.escape("energy in stdout: '-1,234.5' is not a number")):
        energy("E = -1,234.5\n")
    with pytest.raises(CalculationFailed, match=re.escape("'********'")):
        energy("E = 1.0\nE = ********\n")


@pytest.mark.parametrize(
    ("pattern", "text", "value"),
    [
        ("E=<number>eV", "E=-1.5eV", -1.5),
        ("E=<number> eV", "E=-1.5 eV", -1.5),
        ("E=<number>,", "E=-1.5, F=2", -1.5),
        ('"energy": <number>', '{"energy": -1.5, "x": 3}', -1.5),
        ('"energy":<number>', '{"energy":-1.5}', -1.5),
        ("energy=<number>", "energy=-1.5 pbc='F F F'", -1.5),
        (r"\(<number>\)", "E (-1.5)", -1.5),
        ("<e><number></e>", "<e>-1.5</e>", -1.5),
        (r"\[<number>,", "[-1.5,2.5]", None),
        ("E1<number>", "E1-1.5", -1.5),
        (r"E = (-?\d+\.\d+)", "E = -1.5", -1.5),
        (r"E = (\S+)", "E = 1.5D1", 15.0),
        (r"E = (\S+)", "E = 1_000", None),
        (r"E = (\S+)", "E = 1,000", None),
        (r"E = (-?\d+)", "E = -12.5", None),
        (r"E = (-?\d+)", "E = -12,500", None),
        (r"E = (-?\d+\.\d+)", "E = -12.5e3", None),
        (r"E.*(\d\.\d)", "E = -12.5", None),
        ("The energy is <number>", "The energy is -1.5.", -1.5),
        ("E = <number>,", "E = 1,234.5, next", None),
        ("E = <number>", "E = 1 234.5", None),
        ("E = <number>\\s*$", "E = 1 234.5", None),
        ("E =\\s+<number>", "E = -1.5 D3 included", -1.5),
        ("E -+> <number>", "E ----> 1.5", 1.5),
        ("E -+ <number>", "E ------ 1.5", 1.5),
    ],
)
def test_what_a_pattern_names_beside_a_number_may_touch_it(
    pattern: str, text: str, value: float | None
) -> None:
    if value is None:
        with pytest.raises(CalculationFailed):
            energy(text, pattern)
    else:
        assert energy(text, pattern) == value


def test_words_that_are_no_numbers_hide_none() -> None:
    assert energy("E = -1.5\nE = see above\nE =\n") == -1.5


def test_columns() -> None:
    row = Pattern(r"^\s*<number>,<number>,\s*<number>$")
    assert row.row("1.0,2.0, 3.0", "row") == [1, 2, 3]
    assert row.row("a,b,c", "row") is None
    three = Pattern(r"<number>\s+<number>\s+<number>\s*$")
    assert three.row("  1 H  -1.0D-1  2.  3 ", "row") == [-0.1, 2, 3]
    for line in (
        "1.0-2.0 3.0 4.0-5.0", " 0.1 ******** 0.3", "0.1 0.2 0,3", "1 0.1234567-12.345 0.2 3-4", "1,0 2,0 3,0"
    ):  # fmt: skip
        with pytest.raises(CalculationFailed, match="is not a number"):
            three.row(line, "row")


def test_a_row_that_cannot_be_read_is_not_passed_over_for_another_table(tmp_path) -> None:
    """Three rows of overflowed forces, and three of a stress tensor behind them."""
    settings = RowsOutput(after="FORCES", unit="eV/Å")
    good = "FORCES\n x y z\n" + " 0.1 0.2 0.3\n" * 3 + "\nSTRESS\n" + " 9 9 9\n" * 3
    (tmp_path / "stdout").write_text(good)
    assert _rows(settings, tmp_path, 3).tolist() == [[0.1, 0.2, 0.3]] * 3
    for bad in ("*** 0.2 0.3", "0.1-10.2 0.3 4-5", "0,1 0,2 0,3"):
        (tmp_path / "stdout").write_text(good.replace("0.1 0.2 0.3", bad))
        with pytest.raises(CalculationFailed, match="is not a number"):
            _rows(settings, tmp_path, 3)


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", "{:.8f}", "{:.6E}", "{:+.3e}"])
)
@example(1e300, "{!r}")
def test_every_number_that_python_prints_is_read(value: float, form: str) -> None:
    text = form.format(value)
    assert energy(f"E = {text}\n") == float(text)
    assert energy(f"E = {text.replace('e', 'D').replace('E', 'D')} Eh") == float(text)


@given(st.from_regex(r"[-+]?[0-9][-+0-9.,'_eEdD*xij ]{0,12}", fullmatch=True))
def test_what_is_read_is_all_that_stands_there(text: str) -> None:
    try:
        found = energy(f"E = {text}\n")
    except CalculationFailed:
        return
    first, _, rest = re.sub(r",(?=[A-Za-z])", " ", text).partition(" ")
    assert found == float(first.rstrip(",.':").lower().replace("d", "e"))
    assert not re.match(r" *[-+]? *[0-9.]+[ij]\b", rest)
